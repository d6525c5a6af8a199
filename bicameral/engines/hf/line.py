"""The bounded line before a local net: some answer at once, some wait, the next is refused."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from bicameral.engines.llama.cores import Cores
from bicameral.errors import Overloaded, Timeout
from bicameral.types import Request


class Line:
    """`slots` places for answers of the model called `name`, and `queue` to wait at.

    A net that runs on `threads` of this machine's cores takes its turn at `cores` with the others.
    """

    def __init__(
        self, name: str, *, slots: int, queue: int, cores: Cores | None, threads: int
    ) -> None:
        self._name = name
        self._room = slots + queue
        self._slots = asyncio.Semaphore(slots)
        self._cores = cores
        self._threads = threads
        self._inside = 0
        self._lasted = 1.0

    async def enter(self, request: Request) -> float:
        """Wait for a place; gives the time it began, which leave() takes.

        Raises Overloaded if the line is full, Timeout if the request's deadline passes in it.
        """
        if self._inside >= self._room:
            raise Overloaded(
                self._name,
                f"busy: {self._room} requests are running or waiting; try again later, or raise "
                "'slots' or 'queue'",
                retry_after=max(1.0, round(self._lasted, 1)),
            )
        self._inside += 1
        try:
            async with deadline(self._name, request, "queue"):
                await self._place()
        except BaseException:
            self._inside -= 1
            raise
        return time.monotonic()

    async def _place(self) -> None:
        await self._slots.acquire()
        if self._cores is None:
            return
        try:
            await self._cores.enter(self, self._threads)
        except asyncio.CancelledError:
            self._slots.release()
            raise

    def leave(self, began: float) -> None:
        """Give the place to the next."""
        if self._cores is not None:
            self._cores.leave(self)
        self._slots.release()
        self._inside -= 1
        self._lasted = time.monotonic() - began


@asynccontextmanager
async def deadline(name: str, request: Request, phase: str) -> AsyncIterator[None]:
    """Timeout, as of the model called `name`, once the request's deadline has passed."""
    left = request.remaining()
    try:
        async with asyncio.timeout(left):
            yield
    except TimeoutError as error:
        raise Timeout(name, phase, left or 0.0) from error
