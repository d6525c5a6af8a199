"""The meter: wraps a leaf model and writes what each call consumed into its Done."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from functools import partial

from bicameral.engines.llama.voice import Open, Voice, opener
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

Note = Callable[[Call, str], None]
"""Gets a call that has ended, and the booking of the request that it was for."""

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
    """A Model around a leaf; `note` gets every call: finished, failed, abandoned."""

    def __init__(self, model: Model, note: Note) -> None:
        self._model = model
        self._note = note

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
            usage = done.usage if ended is None else _lost(ended)
            call = self._booked(request, usage, time.monotonic() - began, first, done.served, ended)
        yield Done(
            usage=done.usage,
            reason=done.reason,
            by=self.card.name,
            served=done.served,
            calls=(call,),
        )

    @property
    def voice(self) -> Open | None:
        """The leaf's voice, whose look-aheads are booked as one call; None if it has none."""
        opens = opener(self._model)
        return opens and partial(self._voice, opens)

    @asynccontextmanager
    async def _voice(self, opens: Open, request: Request) -> AsyncIterator[Voice]:
        voice: Voice | None = None
        began = time.monotonic()
        first: float | None = None
        ended: BicameralError | str | None = "abandoned"
        try:
            async with opens(request) as voice:
                first = time.monotonic() - began
                yield voice
            ended = None
        except BicameralError as failure:
            ended = failure
            raise
        finally:
            seconds = voice.seconds if voice else time.monotonic() - began
            usage = voice.usage if voice else _lost(ended or "")
            call = self._booked(request, usage, seconds, first, self.card.serves or None, ended)
            if voice:
                voice.calls = (call,)

    def _booked(
        self,
        request: Request,
        usage: Usage,
        seconds: float,
        first: float | None,
        served: str | None,
        ended: BicameralError | str | None,
    ) -> Call:
        card = self.card
        call = Call(
            model=card.name,
            owner=card.owner,
            usage=usage,
            seconds=seconds,
            first_token=first,
            cost=card.price.cost(usage) if card.price else None,
            served=served,
            error=None if ended is None else str(ended),
        )
        self._note(call, request.booking)
        if isinstance(ended, BicameralError):
            ended.calls = (call,)
        return call


def _lost(ended: BicameralError | str) -> Usage:
    """What a call consumed that gave no closing event: nothing, or nobody knows."""
    return NO_USAGE if isinstance(ended, FREE) else Usage()
