"""Is a mind better than its members? Replay over recorded outcomes, measures and reports."""
