"""Small worlds that clips are drawn from, by seed: physics known exactly."""
