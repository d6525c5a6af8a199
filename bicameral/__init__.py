"""Turns the models and chips a team already has into one model."""
