"""Turns the models and chips a team already has into one model.

async with Brain.open() as brain:
    answer = await brain.ask("…")
"""

from bicameral.brain import Brain, ask
from bicameral.config import Config
from bicameral.errors import BicameralError
from bicameral.model import Model, collect
from bicameral.types import Answer, Card, Delta, Done, Event, Request

__all__ = [
    "Answer",
    "BicameralError",
    "Brain",
    "Card",
    "Config",
    "Delta",
    "Done",
    "Event",
    "Model",
    "Request",
    "ask",
    "collect",
]
