"""The far side of a member: an actor that opens one engine on its node and answers from there.

A run's events are sent as they come: each batch is all there is by then, so the first event is
never held back, and many small ones that come faster than batches are sent travel together.
"""

from __future__ import annotations

import asyncio
import traceback
from collections import deque
from collections.abc import AsyncGenerator, Mapping
from contextlib import AsyncExitStack, aclosing
from functools import partial
from importlib.metadata import version
from typing import Any

from bicameral import engines
from bicameral.cluster.wire import AHEAD, Batch, Opened, Shared, encode, lower
from bicameral.config import convert
from bicameral.engines.told import Told, teller
from bicameral.errors import BicameralError, Broken, ConfigError
from bicameral.model import Model
from bicameral.right.across import Fault, fault, said
from bicameral.types import Done, Event, Request

_FORGOTTEN = 1024  # runs that were stopped before they were asked for, at most


class _Run:
    """A run as it goes: what has not been sent yet, and how it ended."""

    def __init__(self) -> None:
        self.told = Told()
        self.events: deque[Event] = deque()
        self.news = asyncio.Event()
        self.room = asyncio.Semaphore(AHEAD)
        self.last: Done | None = None
        self.fault: Fault | None = None
        self.over = False
        self.task: asyncio.Task[None] | None = None

    def batch(self) -> Batch:
        """All there is."""
        events = [said(0, event) for event in self.events]
        self.events.clear()
        if not self.over:
            self.news.clear()
            return Batch(said=tuple(events))
        if self.last is not None and self.fault is None:
            events.append(said(0, self.last))
        lost = tuple(fault(None, error) for error in self.told.lost)
        done = self.told.done
        return Batch(said=tuple(events), over=True, fault=self.fault, done=done, lost=lost)


class Worker:
    """What Ray runs on a node for one replica; every method takes and gives plain bytes."""

    def __init__(self, name: str, table: Mapping[str, Any], source: str) -> None:
        self._name = name
        self._table = table
        self._source = source
        self._stack = AsyncExitStack()
        self._model: Model | None = None
        self._runs: dict[int, _Run] = {}
        self._stopped: deque[int] = deque(maxlen=_FORGOTTEN)

    async def place(self) -> str:
        """The version that stands here: who gets this answer knows that the actor has a node."""
        return version("bicameral")

    async def stand(self) -> None:
        """Never answers: who waits for it learns of the actor's death."""
        await asyncio.Event().wait()

    async def open(self) -> bytes:
        """Open the engine: an Opened, with a fault if it cannot be."""
        try:
            model = await self._stack.enter_async_context(self._opening())
        except BicameralError as error:
            return encode(Opened(fault=fault(None, error)))
        self._model = model
        return encode(Opened(card=model.card, tells=teller(model) is not None))

    def _opening(self) -> Any:
        engine = engines.find(str(self._table.get("engine")))
        options = convert(self._table, engine.Options, self._source, f"models.{self._name}")
        return engine.open(self._name, options)

    async def ask(self, id: int, body: bytes, *beside: Shared) -> AsyncGenerator[bytes]:
        """Run `id`, as Batches, the last of which is over."""
        if id in self._stopped:
            return
        run = self._runs[id] = _Run()
        run.task = asyncio.create_task(self._answer(run, lower(body, beside)))
        run.task.add_done_callback(partial(self._ended, run))
        over = False
        while not over:
            await run.news.wait()
            over = run.over
            yield encode(run.batch())
        self._runs.pop(id, None)

    async def more(self, id: int, events: int) -> None:
        """The reader of run `id` has taken so many events."""
        if run := self._runs.get(id):
            for _ in range(events):
                run.room.release()

    async def stop(self, id: int) -> bytes:
        """End run `id`, as nobody reads it any more; a Batch once its work has ended."""
        run = self._runs.pop(id, None)
        if run is None or run.task is None:
            self._stopped.append(id)
            return encode(Batch(over=True))
        run.task.cancel()
        await asyncio.wait({run.task})
        run.events.clear()
        run.last = None
        return encode(run.batch())

    async def close(self) -> None:
        """End every run, then the engine."""
        tasks = {run.task for run in self._runs.values() if run.task}
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        await self._stack.aclose()

    async def _answer(self, run: _Run, request: Request) -> None:
        if self._model is None:
            raise ConfigError(f"{self._name} is asked before it is open")
        telling = teller(self._model)
        events = telling(request, run.told) if telling else self._model.run(request)
        async with aclosing(events):
            async for event in events:
                if isinstance(event, Done):
                    run.last = event
                    continue
                await run.room.acquire()
                run.events.append(event)
                run.news.set()

    def _ended(self, run: _Run, task: asyncio.Task[None]) -> None:
        run.over = True
        run.news.set()
        error = None if task.cancelled() else task.exception()
        if error is None:
            return
        if not isinstance(error, BicameralError):
            # A fault of the engine: one run fails, the others go on.
            traceback.print_exception(error)
            kind = type(error).__name__
            error = Broken(self._name, f"failed on its node: {kind}: {error}")
        run.fault = fault(None, error)
