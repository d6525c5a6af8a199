"""The meter: wraps a leaf model and writes what each call consumed into its Done."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

from bicameral.errors import (
    BicameralError,
    BudgetError,
    Overloaded,
    ReachError,
    Rejected,
    RequestError,
    TooLong,
    Unauthorized,
    Unreachable,
)
from bicameral.model import Model
from bicameral.types import NO_USAGE, Call, Card, Done, Event, Request, Usage

Book = Callable[[Call], None]

# Failures of a call that the model never took up: they consumed nothing, and that is known.
FREE = (
    RequestError,
    ReachError,
    BudgetError,
    Unreachable,
    Overloaded,
    Unauthorized,
    Rejected,
    TooLong,
)


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
        ended: BicameralError | str | None = "abandoned"
        try:
            async with aclosing(self._model.run(request)) as events:
                async for event in events:
                    if first is None:
                        first = time.monotonic() - began
                    if isinstance(event, Done):
                        done, ended = event, None
                    else:
                        yield event
        except BicameralError as failure:
            ended = failure
            raise
        finally:
            call = self._call(done, time.monotonic() - began, first, ended)
            self._book(call)
            if isinstance(ended, BicameralError):
                ended.calls = (call,)
        yield Done(
            usage=done.usage,
            reason=done.reason,
            by=self.card.name,
            served=done.served,
            calls=(call,),
        )

    def _call(
        self, done: Done, seconds: float, first: float | None, ended: BicameralError | str | None
    ) -> Call:
        card = self.card
        usage = done.usage
        if ended is not None:
            usage = NO_USAGE if isinstance(ended, FREE) else Usage()
        return Call(
            model=card.name,
            usage=usage,
            seconds=seconds,
            first_token=first,
            cost=card.price.cost(usage) if card.price else None,
            served=done.served,
            error=None if ended is None else str(ended),
        )
