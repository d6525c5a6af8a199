"""Training of video diffusion transformers."""
