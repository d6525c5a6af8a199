"""The process of a model that runs apart: python -m bicameral.right.worker DESCRIPTOR.

It opens one engine, answers requests until its link ends, and writes nothing but to stderr.
"""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import socket
import sys
import threading
import traceback
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, aclosing, contextmanager
from functools import partial

from bicameral import engines
from bicameral.callosum.channel import Local
from bicameral.callosum.drive import Drive
from bicameral.callosum.link import Link
from bicameral.callosum.pool import Pool, PoolFull
from bicameral.callosum.received import Received
from bicameral.config import convert
from bicameral.errors import BicameralError, Broken
from bicameral.model import Model
from bicameral.right.across import (
    AHEAD,
    EDGE,
    Asks,
    More,
    Open,
    Opened,
    Run,
    Stop,
    Stopped,
    Tells,
    asks,
    encode,
    fault,
    lower,
    said,
)
from bicameral.types import Request

_POOL = 16 * 2**20  # answers are small; only those beyond 4 KB lie in it
_START = 60.0  # seconds until the other side says what to open
BEAT = 0.5


def main() -> None:
    """Serve the model that the other end of the inherited socket asks for."""
    # Ctrl-C reaches the whole group; the other side then ends the link in good order.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    pool = Pool(_POOL)
    link = Link(sends=[EDGE], takes=["control"], pool=pool, beat=BEAT)
    link.attach(Local(socket.socket(fileno=int(sys.argv[1]))))
    message = link.take(_START)
    if message is None:
        return
    wanted = asks.decode(message.body)
    message.release()
    if isinstance(wanted, Open):
        _bounded(wanted)
        asyncio.run(_serve(link, wanted))
    link.close()


def _bounded(wanted: Open) -> None:
    """Before anything large is imported."""
    if wanted.cores and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, wanted.cores)
    if wanted.memory:
        resource.setrlimit(resource.RLIMIT_AS, (wanted.memory, wanted.memory))


async def _serve(link: Link, wanted: Open) -> None:
    async with AsyncExitStack() as stack:
        try:
            with _alive(link):
                model = await stack.enter_async_context(_opening(wanted))
        except BicameralError as error:
            link.send("control", encode(fault(None, error)))
            await asyncio.to_thread(_flush, link)
            return
        await Server(link, model).serve()


def _opening(wanted: Open) -> AbstractAsyncContextManager[Model]:
    engine = engines.find(str(wanted.table.get("engine")))
    options = convert(wanted.table, engine.Options, wanted.source, f"models.{wanted.name}")
    return engine.open(wanted.name, options)


@contextmanager
def _alive(link: Link) -> Iterator[None]:
    """Opening may keep this thread busy for long; another one beats meanwhile."""
    opened = threading.Event()

    def beat() -> None:
        while not opened.wait(BEAT / 2):
            link.pump()

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        opened.set()
        thread.join()


def _flush(link: Link) -> None:
    """Wait until the other side has read the last word, or is gone."""
    while not link.lost and link.stats()["out control"].in_flight:
        link.wait(0.1)
        link.pump()


class Server:
    """Answers the requests that come by the link, each in a task of its own."""

    def __init__(self, link: Link, model: Model) -> None:
        self._link = link
        self._model = model
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._ahead: dict[int, asyncio.Semaphore] = {}
        self._over = asyncio.Event()

    async def serve(self) -> None:
        """Until the link ends; then everything is cancelled."""
        self._drive = Drive(self._link, self._got, lambda why: self._over.set(), often=BEAT / 2)
        await self._tell(Opened(self._model.card))
        await self._over.wait()
        self._drive.stop()
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    def _got(self, message: Received) -> None:
        with message:
            self._asked(asks.decode(message.body), message)

    def _asked(self, asked: Asks, message: Received) -> None:
        match asked:
            case Run(id):
                self._ahead[id] = asyncio.Semaphore(AHEAD)
                task = asyncio.create_task(self._answer(id, lower(asked, message)))
                self._tasks[id] = task
                task.add_done_callback(partial(self._ended, id))
            case More(id, events) if id in self._ahead:
                for _ in range(events):
                    self._ahead[id].release()
            case Stop(id) if id in self._tasks:
                self._tasks[id].cancel()
            case Stop(id):
                self._send(Stopped(id))

    async def _answer(self, id: int, request: Request) -> None:
        async with aclosing(self._model.run(request)) as events:
            async for event in events:
                await self._ahead[id].acquire()
                await self._tell(said(id, event))

    def _ended(self, id: int, task: asyncio.Task[None]) -> None:
        del self._tasks[id], self._ahead[id]
        if task.cancelled():
            self._send(Stopped(id))
            return
        error = task.exception()
        if error is None:
            return
        if not isinstance(error, BicameralError):
            # A fault of the engine: one run fails, the others go on.
            traceback.print_exception(error)
            kind = type(error).__name__
            error = Broken(self._model.card.name, f"failed in its own process: {kind}: {error}")
        self._send(fault(id, error))

    async def _tell(self, told: Tells) -> None:
        """Send, once there is room for what does not fit a packet."""
        while not self._over.is_set():
            try:
                self._send(told)
            except PoolFull:
                await asyncio.sleep(0.005)
            else:
                return

    def _send(self, told: Tells) -> None:
        self._link.send("control", encode(told))
        self._drive.nudge()


if __name__ == "__main__":
    main()
