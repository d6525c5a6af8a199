"""What a leaf tells its meter of a call beside the events, for those that never come to a Done."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable

from bicameral.errors import ModelError
from bicameral.types import Done, Event, Request


class Told:
    """Filled by the leaf during a call; it is whole when the stream is closed, however that ends.

    `done` is the Done as it stood at the end: the usage that had been reported by then, and by
    whom. `lost` are tries that broke after they had been sent, and were followed by another: each
    may have been taken up, and billed.
    """

    __slots__ = ("done", "lost")

    def __init__(self) -> None:
        self.done: Done | None = None
        self.lost: list[ModelError] = []


Telling = Callable[[Request, Told], AsyncGenerator[Event]]


def teller(model: object) -> Telling | None:
    """The leaf's `run` that fills a Told as well; None if it has none and its events are all."""
    telling: Telling | None = getattr(model, "telling", None)
    return telling
