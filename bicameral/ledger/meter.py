"""The meter: wraps a leaf model and writes what each call consumed into its Done."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

from bicameral.errors import BicameralError
from bicameral.model import Model
from bicameral.types import Call, Card, Done, Event, Request, Usage

Book = Callable[[Call], None]


class Meter:
    """A Model around a leaf; `book` gets every call: finished, failed, abandoned."""

    def __init__(self, model: Model, book: Book) -> None:
        self._model = model
        self._book = book

    @property
    def card(self) -> Card:
        """The leaf's own card."""
        return self._model.card

    async def run(self, request: Request) -> AsyncGenerator[Event]:
        """The leaf's events, its Done carrying the Call."""
        began = time.monotonic()
        first: float | None = None
        done = Done()
        error: str | None = "abandoned"
        try:
            async with aclosing(self._model.run(request)) as events:
                async for event in events:
                    if first is None:
                        first = time.monotonic() - began
                    if isinstance(event, Done):
                        done, error = event, None
                        break
                    yield event
        except BicameralError as failure:
            error = str(failure)
            raise
        finally:
            call = self._call(done, time.monotonic() - began, first, error)
            self._book(call)
        yield Done(
            usage=done.usage,
            reason=done.reason,
            by=self.card.name,
            served=done.served,
            calls=(call,),
        )

    def _call(self, done: Done, seconds: float, first: float | None, error: str | None) -> Call:
        card = self.card
        return Call(
            model=card.name,
            usage=done.usage if error is None else Usage(),
            seconds=seconds,
            first_token=first,
            cost=card.price.cost(done.usage) if card.price and error is None else None,
            served=done.served,
            error=error,
        )
