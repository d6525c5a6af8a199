"""A Model that looks at the pictures of a request, one after another, on a thread of its own.

A picture that is being looked at when the stream is closed is finished; the rest is dropped. What
waits keeps its encoded bytes only: pictures are unpacked one at a time, when their turn comes.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from functools import cache
from typing import TYPE_CHECKING, Protocol

from msgspec.structs import replace

from bicameral.config import MemberOptions
from bicameral.engines.media.picture import decode
from bicameral.errors import Overloaded, RequestError, Timeout
from bicameral.model import admit
from bicameral.types import (
    NO_USAGE,
    Card,
    Delta,
    Done,
    Event,
    Image,
    Modality,
    Percept,
    Price,
    Reach,
    Request,
)

if TYPE_CHECKING:
    from bicameral.engines.media.picture import Pixels

ROOM = 256
"""So many pictures may be looked at or wait; more are turned away."""


class Net(Protocol):
    """What finds things in a picture; used by one thread at a time.

    A picture of more than `pixels` is made smaller for it.
    """

    pixels: int

    def look(self, picture: Pixels) -> Sequence[Percept]:
        """What is in an RGB picture of shape (height, width, 3); Broken if the net fails."""
        ...


def card(name: str, options: MemberOptions, *, serves: str) -> Card:
    """The card of what perceives pictures on this device, for nothing unless a price is set."""
    return Card(
        name=name,
        engine=options.engine,
        accepts=frozenset({Modality.IMAGE}),
        emits=frozenset({Modality.PERCEPT}),
        reach=options.reach_or(Reach.DEVICE),
        owner=options.owner,
        price=options.price() or Price(input=0, output=0),
        chip="cpu",
        watts=options.watts,
        serves=serves,
    )


@asynccontextmanager
async def opened(
    card: Card, load: Callable[[], Net], *, late: bool = False
) -> AsyncIterator[Perceiver]:
    """A perceiver whose net is loaded, and used, by the one thread that it has.

    `late`: not before the first picture, so that who shows none does not wait for it.
    """
    worker = ThreadPoolExecutor(1, thread_name_prefix=f"look-{card.name}")
    try:
        model = Perceiver(card, cache(load), worker)
        if not late:
            await asyncio.get_running_loop().run_in_executor(worker, model.load)
        yield model
    finally:
        await asyncio.to_thread(worker.shutdown, wait=True, cancel_futures=True)


class Perceiver:
    """A Model: pictures in, percepts out."""

    def __init__(self, card: Card, load: Callable[[], Net], worker: ThreadPoolExecutor) -> None:
        self._card = card
        self.load = load  # gives the same net each time
        self._worker = worker
        self._inside = 0

    @property
    def card(self) -> Card:
        """Pictures to percepts, on this device."""
        return self._card

    async def run(self, request: Request) -> AsyncGenerator[Event]:
        """The percepts of each picture; `source` is its place in `request.media`."""
        admit(self._card, request)
        pictures = _pictures(request)
        for index, data in pictures:
            for percept in await self._look(index, data, request):
                yield Delta(replace(percept, source=index), by=self._card.name)
        usage = replace(NO_USAGE, images=len(pictures), cost=None)
        yield Done(usage=usage, by=self._card.name, served=self._card.serves)

    async def _look(self, index: int, data: bytes, request: Request) -> Sequence[Percept]:
        if self._inside >= ROOM:
            raise Overloaded(
                self._card.name, f"busy: {ROOM} pictures wait to be looked at; try again later"
            )
        self._inside += 1
        left = request.remaining()
        try:
            async with asyncio.timeout(left):
                loop = asyncio.get_running_loop()
                return await loop.run_in_executor(self._worker, self._see, index, data)
        except TimeoutError as error:
            raise Timeout(self._card.name, "total", left or 0.0) from error
        finally:
            self._inside -= 1

    def _see(self, index: int, data: bytes) -> Sequence[Percept]:
        net = self.load()
        return net.look(decode(data, most=net.pixels, name=f"picture {index + 1}"))


def _pictures(request: Request) -> list[tuple[int, bytes]]:
    """Each picture's place among the media, and its bytes; checked before any work."""
    pictures = []
    for index, part in enumerate(request.media):
        if isinstance(part, Image):
            if part.data is None:
                raise RequestError(
                    f"picture {index + 1} is a URL, and nothing here fetches it: send its bytes "
                    "as a data: URL",
                    param="messages",
                    code="image_not_fetched",
                )
            pictures.append((index, part.data))
    if not pictures:
        raise RequestError("there is no picture to look at: add one", param="messages")
    return pictures
