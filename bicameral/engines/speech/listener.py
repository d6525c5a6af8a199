"""A Model that hears the sounds of a request, one after another, on a thread of its own.

The work is a generator that the thread takes one step at a time, so runs take turns, and a run
whose stream is closed ends after the step it is in (a few seconds at most). What waits keeps its
encoded bytes only; SEATS recordings are unpacked at a time.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, asynccontextmanager, suppress
from typing import TYPE_CHECKING, Annotated, Final, Protocol

from msgspec import Meta
from msgspec.structs import replace

from bicameral.config import MemberOptions
from bicameral.errors import Overloaded, RequestError, Timeout
from bicameral.model import admit
from bicameral.types import (
    NO_USAGE,
    Audio,
    Card,
    Delta,
    Done,
    Event,
    Modality,
    Percept,
    Price,
    Reach,
    Request,
    Usage,
)

if TYPE_CHECKING:
    from bicameral.engines.media.sound import Samples

SEATS = 4
ROOM = 256
"""So many requests may be heard or wait; more are turned away."""

Heard = Percept | Usage | None
Hear = Callable[["Samples"], Iterator[Heard]]
_END: Final = object()


class Options(MemberOptions, frozen=True, kw_only=True):
    """`longest` is the seconds a recording may last; an hour takes 0.5 GB while it is heard."""

    longest: Annotated[float, Meta(gt=0, le=36_000)] = 3600.0


class Ear(Protocol):
    """What finds things in a sound; used by one thread."""

    def asked(self, request: Request) -> Hear:
        """How to hear what `request` asks for; RequestError before any work.

        What it gives turns samples at 16 kHz into percepts in the order of time, between them
        None where the run may stop, and Usage for what it consumed.
        """
        ...


def card(name: str, options: Options, *, serves: str, extra: frozenset[str] = frozenset()) -> Card:
    """The card of what hears on this device, for nothing unless a price is set."""
    return Card(
        name=name,
        engine=options.engine,
        accepts=frozenset({Modality.AUDIO}),
        emits=frozenset({Modality.PERCEPT}),
        extra=extra,
        reach=options.reach_or(Reach.DEVICE),
        owner=options.owner,
        price=options.price() or Price(input=0, output=0),
        chip="cpu",
        watts=options.watts,
        serves=serves,
    )


@asynccontextmanager
async def opened(card: Card, options: Options, load: Callable[[], Ear]) -> AsyncIterator[Listener]:
    """A listener whose ear is loaded, and used, by the one thread that it has."""
    worker = ThreadPoolExecutor(1, thread_name_prefix=f"hear-{card.name}")
    try:
        ear = await asyncio.get_running_loop().run_in_executor(worker, load)
        yield Listener(card, ear, worker, options.longest)
    finally:
        await asyncio.to_thread(worker.shutdown, wait=True, cancel_futures=True)


class Listener:
    """A Model: sounds in, percepts out."""

    def __init__(self, card: Card, ear: Ear, worker: ThreadPoolExecutor, longest: float) -> None:
        self._card = card
        self._ear = ear
        self._worker = worker
        self._longest = longest
        self._inside = 0
        self._seats = asyncio.Semaphore(SEATS)

    @property
    def card(self) -> Card:
        """Sounds to percepts, on this device."""
        return self._card

    async def run(self, request: Request) -> AsyncGenerator[Event]:
        """The percepts of each sound as they are found; `source` is its place in the media."""
        admit(self._card, request)
        sounds, hear = _sounds(request), self._ear.asked(request)
        usage = NO_USAGE
        if self._inside >= ROOM:
            raise Overloaded(self._card.name, f"busy: {ROOM} recordings wait; try again later")
        self._inside += 1
        try:
            for index, data in sounds:
                async with aclosing(self._heard(data, hear, request)) as found:
                    async for item in found:
                        if isinstance(item, Usage):
                            usage += item
                        else:
                            yield Delta(replace(item, source=index), by=self._card.name)
        finally:
            self._inside -= 1
        usage = replace(usage, cost=None)
        yield Done(usage=usage, by=self._card.name, served=self._card.serves)

    async def _heard(
        self, data: bytes, hear: Hear, request: Request
    ) -> AsyncGenerator[Percept | Usage]:
        left, loop = request.remaining(), asyncio.get_running_loop()
        steps = _steps(data, hear, self._longest)
        try:
            async with asyncio.timeout(left):
                await self._seats.acquire()
        except TimeoutError as error:
            raise Timeout(self._card.name, "total", left or 0.0) from error
        try:
            while True:
                async with asyncio.timeout(request.remaining()):
                    item = await loop.run_in_executor(self._worker, next, steps, _END)
                if item is _END:
                    return
                if isinstance(item, Percept | Usage):
                    yield item
        except TimeoutError as error:
            raise Timeout(self._card.name, "total", left or 0.0) from error
        finally:
            self._seats.release()
            # Behind the step that may be running: a generator cannot be closed while it runs.
            with suppress(RuntimeError):  # the model was closed before its run
                self._worker.submit(steps.close)


def _steps(data: bytes, hear: Hear, longest: float) -> Generator[Heard]:
    import numpy as np

    from bicameral.engines.media.sound import RATE, blocks

    parts = []
    for block in blocks(data, longest):
        parts.append(block)
        yield None
    samples = np.concatenate(parts)
    parts.clear()
    yield replace(NO_USAGE, media_ms=len(samples) * 1000 // RATE)
    yield from hear(samples)


def _sounds(request: Request) -> list[tuple[int, bytes]]:
    """Each sound's place among the media, and its bytes; checked before any work."""
    sounds = [(i, part.data) for i, part in enumerate(request.media) if isinstance(part, Audio)]
    if not sounds:
        raise RequestError("there is no sound to hear: add one", param="messages")
    return sounds
