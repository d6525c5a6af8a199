"""The meter: wraps a leaf model and writes what each call consumed into its Done and the book."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from functools import partial

from bicameral.engines.llama.voice import Open, Voice, opener
from bicameral.engines.remote.refusal import UNSURE, ServerError
from bicameral.engines.told import Told, teller
from bicameral.errors import (
    BicameralError,
    Broken,
    BudgetError,
    Overloaded,
    ReachError,
    Rejected,
    RequestError,
    Timeout,
    TooLong,
    Unauthorized,
    Unreachable,
)
from bicameral.ledger.estimate import Said, completed
from bicameral.ledger.served import same
from bicameral.model import Model, worst_cost
from bicameral.types import (
    NO_USAGE,
    Audio,
    Call,
    Card,
    Done,
    Event,
    Image,
    Request,
    Text,
    Usage,
    Video,
)
from bicameral.usage import Ended

log = logging.getLogger("bicameral.ledger")

Note = Callable[[Call, str], None]
"""Gets a call that has ended, and the booking of the request that it was for."""

# Failures of a call that the model never took up: they consumed nothing, and that is known. A
# provider does not bill the 5xx that it answers itself.
FREE = (
    RequestError,
    ReachError,
    BudgetError,
    Unreachable,
    Overloaded,
    Unauthorized,
    Rejected,
    TooLong,
    ServerError,
)
_BEFORE = frozenset({"connect", "queue"})  # the phases of a Timeout in which no model had it yet
_NAMES = 64  # models served instead that one member is warned of


class Meter:
    """A Model around a leaf; `note` gets every call: finished, failed, abandoned, tried again."""

    def __init__(self, model: Model, note: Note) -> None:
        self._model = model
        self._telling = teller(model)
        self._note = note
        self._served: dict[str, bool] = {}

    @property
    def card(self) -> Card:
        """The leaf's own card."""
        return self._model.card

    async def run(self, request: Request) -> AsyncGenerator[Event]:
        """The leaf's events, its Done carrying the Call, and those of tries that were lost."""
        run = _Run(request)
        told, keep = run.told, run.said.keep
        events = self._telling(request, told) if self._telling else self._model.run(request)
        try:
            async with aclosing(events):
                async for event in events:
                    if isinstance(event, Done):
                        told.done, run.ended = event, "finished"
                        continue
                    if run.first is None:
                        run.first = time.monotonic()
                    keep(event)
                    yield event
            run.close(self.card.name)
        except (BicameralError, GeneratorExit, asyncio.CancelledError) as failure:
            run.fail(failure)
            raise
        finally:
            calls = self._booked(run)
        done = told.done or Done()
        yield Done(
            usage=done.usage,
            reason=done.reason,
            by=self.card.name,
            served=done.served,
            calls=calls,
        )

    @property
    def voice(self) -> Open | None:
        """The leaf's voice, whose look-aheads are booked as one call; None if it has none."""
        opens = opener(self._model)
        return opens and partial(self._voice, opens)

    @asynccontextmanager
    async def _voice(self, opens: Open, request: Request) -> AsyncIterator[Voice]:
        run = _Run(request)
        voice: Voice | None = None
        try:
            async with opens(request) as voice:
                run.first = time.monotonic()
                yield voice
            run.ended = "finished"
        except (BicameralError, GeneratorExit, asyncio.CancelledError) as failure:
            run.fail(failure)
            raise
        finally:
            if voice:
                run.told.done = Done(usage=voice.usage, served=self.card.serves or None)
                run.seconds = voice.seconds
            calls = self._booked(run)
            if voice:
                voice.calls = calls

    def _booked(self, run: _Run) -> tuple[Call, ...]:
        """The calls of a run that has ended, noted: nothing here waits, so nothing can stop it."""
        calls: tuple[Call, ...] = (self._call(run),)
        if run.told.lost:
            calls = (*(self._lost(run, error) for error in run.told.lost), *calls)
        for call in calls:
            self._note(call, run.request.booking)
        if run.error is not None:
            run.error.calls = calls
        return calls

    def _call(self, run: _Run) -> Call:
        card, done = self.card, run.told.done
        seconds = run.lasted()
        usage, guess = run.consumed()
        busy = _busy(card, 0.0 if run.free else seconds)
        served = done.served if done else None
        return Call(
            model=card.name,
            owner=card.owner,
            usage=usage,
            estimate=guess,
            seconds=seconds,
            first_token=None if run.first is None else round(run.first - run.began, 6),
            cost=_cost(card, guess or usage, busy),
            most=None if guess is None else worst_cost(card, run.request),
            served=served,
            mismatch=bool(served) and self._differs(served or "", card),
            ended=run.ended,
            error=run.told_why(),
            chip=card.chip,
            chip_seconds=busy,
            joules=None if busy is None or card.watts is None else round(busy * card.watts, 6),
        )

    def _lost(self, run: _Run, error: BicameralError) -> Call:
        """A try that broke after it was sent, and was followed by another, whose time has its."""
        card, usage = self.card, _seen(run.request, Usage())
        guess = _guess(run.request, usage, Said())
        return Call(
            model=card.name,
            owner=card.owner,
            usage=usage,
            estimate=guess,
            cost=_cost(card, guess or usage, _busy(card, 0.0)),
            most=None if guess is None else worst_cost(card, run.request),
            ended="failed",
            error=str(error),
            chip=card.chip,
        )

    def _differs(self, served: str, card: Card) -> bool:
        """Whether another model was served than the card says; each is warned of once."""
        known = self._served.get(served)
        if known is None:
            known = bool(card.serves) and not same(card.serves, served)
            if len(self._served) < _NAMES:
                self._served[served] = known
                if known:
                    log.warning(
                        "%s asks for %s and is served %.100r", card.name, card.serves, served
                    )
        return known


class _Run:
    """A call as it goes. It counts as failed until somebody says otherwise."""

    __slots__ = ("began", "ended", "error", "first", "request", "said", "seconds", "told")

    def __init__(self, request: Request) -> None:
        self.request = request
        self.told = Told()
        self.said = Said()
        self.began = time.monotonic()
        self.first: float | None = None
        self.seconds: float | None = None
        self.ended: Ended = "failed"
        self.error: BicameralError | None = None

    def close(self, name: str) -> None:
        """The leaf has no more to say: Broken if it gave no Done."""
        if self.ended != "finished":
            raise Broken(name, "ended without saying so")

    def fail(self, failure: BaseException) -> None:
        """It was ended by an error of ours, or by who does not want it any more."""
        self.error = failure if isinstance(failure, BicameralError) else None
        self.ended = "failed" if self.error else "abandoned"

    def lasted(self) -> float:
        """Seconds, to the microsecond."""
        seconds = time.monotonic() - self.began if self.seconds is None else self.seconds
        return round(seconds, 6)

    def told_why(self) -> str | None:
        """What went wrong, in words."""
        if self.error is not None:
            return str(self.error)
        return None if self.ended == "finished" else self.ended

    @property
    def free(self) -> bool:
        """Whether it failed before the model took it up."""
        error = self.error
        if error is None:
            return False
        if self.first is not None or isinstance(error, UNSURE):
            return False
        return isinstance(error, FREE) or (isinstance(error, Timeout) and error.phase in _BEFORE)

    def consumed(self) -> tuple[Usage, Usage | None]:
        """What was reported, and what it comes to by estimate if that is not all."""
        done = self.told.done
        if self.free and (done is None or done.usage == Usage()):
            return NO_USAGE, None
        usage = _seen(self.request, done.usage if done else Usage())
        return usage, _guess(self.request, usage, self.said)


def _guess(request: Request, usage: Usage, said: Said) -> Usage | None:
    """An estimate of what `usage` does not tell; None if it tells all, or none can be made."""
    if usage.total_tokens is not None:
        return None
    guess = completed(usage, request, said)
    return None if guess.total_tokens is None else guess


def _seen(request: Request, usage: Usage) -> Usage:
    """`usage` with what is known of it without being told: the pictures, and that all is silent."""
    if usage.images is not None and usage.media_ms is not None:
        return usage
    pictures, heard = 0, False
    for message in request.messages:
        for part in message.parts:
            if type(part) is not Text:
                pictures += isinstance(part, Image)
                heard = heard or isinstance(part, Audio | Video)
    return Usage(
        prompt_tokens=usage.prompt_tokens,
        completion_tokens=usage.completion_tokens,
        cached_tokens=usage.cached_tokens,
        reasoning_tokens=usage.reasoning_tokens,
        images=pictures if usage.images is None else usage.images,
        media_ms=(None if heard else 0) if usage.media_ms is None else usage.media_ms,
        cost=usage.cost,
    )


def _busy(card: Card, seconds: float) -> float | None:
    """Seconds for which a chip of ours was taken; None if it is not ours."""
    return seconds if card.chip else None


def _cost(card: Card, usage: Usage, busy: float | None) -> int | None:
    """What the provider says it charges, else what the card's price makes of it."""
    if usage.cost is not None and not card.chip:
        return usage.cost
    return None if card.price is None else card.price.cost(usage, busy)
