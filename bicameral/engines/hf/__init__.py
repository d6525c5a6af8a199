"""The parts of the transformers engine: folders of weights, prompts, drawing, text."""
