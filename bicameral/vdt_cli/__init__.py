"""The commands of video diffusion: data to learn from, training, and what to do with a net."""
