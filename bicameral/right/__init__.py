"""Perception: what sees, hears and watches for the models that reason."""
