"""Watches one source: frames to a gate, what wakes to reasoning, and all of it told.

    source -> edge -> look-out for faults -> gate -> wake -> events that wait -> reasoning -> told

The part up to the wake runs in two threads, and what is told waits in a short queue. So a slow
reader holds up the gate, the gate the edge, and the edge drops frames of what is live, which it
counts, or makes a recording wait. Nothing in between grows.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from concurrent.futures import ThreadPoolExecutor

from msgspec.structs import replace

from bicameral.right.stream.asker import Ask, Asker, Pause, Wish
from bicameral.right.stream.clock import Clock, Wall
from bicameral.right.stream.edge import Edge
from bicameral.right.stream.evidence import Sighting
from bicameral.right.stream.faults import checked
from bicameral.right.stream.flow import Item, buffered, paced
from bicameral.right.stream.gates import Gate
from bicameral.right.stream.notices import Gap, Notice, Opened, Stats, Woke
from bicameral.right.stream.perceive import First, Observe, Tally, Told, perceive
from bicameral.right.stream.settings import WatchSettings
from bicameral.right.stream.sources import Source

_NOTICES = 64
_LIVE_PICTURES, _LIVE_SMALL, _RECORDED = 2, 50, 4
Put = Callable[[Notice], Awaitable[None]]


class Watch:
    """One source, one gate, one wish. `run` once; each watch has its own."""

    def __init__(
        self,
        source: Source,
        gate: Gate,
        wish: Wish,
        ask: Ask,
        settings: WatchSettings,
        *,
        realtime: bool = False,
        clock: Clock | None = None,
        observe: Observe | None = None,
        pause: Pause = asyncio.sleep,
    ) -> None:
        self._source = source
        self._gate = gate
        # Without a gate every frame is worth asking about; what is left is the budget.
        self._settings = (
            replace(settings, settle=0.0, recheck=0.0) if gate.name == "none" else settings
        )
        self._clock = clock or Wall()
        self._observe = observe
        self._live = source.live or realtime
        self._edge = self._buffer()
        self._asker = Asker(wish, ask, self._settings, self._clock, live=self._live, pause=pause)
        self._began = self._clock.now()
        self._tally: Tally | None = None
        self._gaps: dict[str, int] = {}

    async def run(self) -> AsyncGenerator[Notice]:
        """What there is to tell, Stats last. Closing it stops the source and the question asked.

        RequestError if the source cannot be read or the gate does not read its kind; the first
        question may raise what shows that this model can never be asked.
        """
        notices: asyncio.Queue[Notice] = asyncio.Queue(_NOTICES)
        work = asyncio.create_task(self._work(notices.put))
        try:
            while not (work.done() and notices.empty()):
                getting = asyncio.ensure_future(notices.get())
                try:
                    await asyncio.wait({getting, work}, return_when=asyncio.FIRST_COMPLETED)
                    if getting.done():
                        yield getting.result()
                finally:
                    getting.cancel()
            work.result()
        finally:
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)

    async def stop(self) -> None:
        """End well: what waits is told as undescribed, and Stats still come."""
        self._clock.stop()
        self._edge.close()
        await self._asker.end(now=True)

    async def _work(self, put: Put) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._see(put))
                group.create_task(self._reason(put))
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] from None
        if self._tally is not None:
            await put(self._stats(self._tally))

    async def _see(self, put: Put) -> None:
        """Run the gate on a thread and pass on what it tells."""
        thread = ThreadPoolExecutor(1, thread_name_prefix="watch-gate")
        perceiving = self._perceiving()
        loop = asyncio.get_running_loop()
        try:
            while told := await loop.run_in_executor(thread, next, perceiving, None):
                await self._tell(told, put)
        finally:
            self._clock.stop()
            self._edge.close()
            thread.submit(perceiving.close)
            thread.shutdown(wait=False)
            await self._asker.end()

    def _perceiving(self) -> Generator[Told]:
        frames = self._source.frames()
        if self._live and not self._source.live:
            frames = paced(frames, self._clock)
        stall = self._settings.stall if self._live else None
        items = buffered(frames, self._edge, stall, self._clock)
        return perceive(
            checked(items, self._settings),
            self._gate, self._settings, self._source.kind, self._clock,
            observe=self._observe,
        )  # fmt: skip

    async def _tell(self, told: Told, put: Put) -> None:
        match told:
            case Tally():
                self._tally = told
            case First():
                await put(self._opened())
            case Sighting():
                await put(Woke(id=told.id, phase=told.phase, at=told.at, score=told.score))
                for notice in await self._asker.add(told):
                    await put(notice)
            case Gap():
                self._gaps[told.trouble] = self._gaps.get(told.trouble, 0) + told.count
                await put(told)
            case _:
                await put(told)

    async def _reason(self, put: Put) -> None:
        async for notice in self._asker.run():
            await put(notice)

    def _opened(self) -> Opened:
        return Opened(
            source=self._source.label,
            kind=self._source.kind,
            gate=self._gate.name,
            live=self._live,
        )

    def _buffer(self) -> Edge[Item]:
        def is_gap(item: Item) -> bool:
            return isinstance(item, Gap)

        now = self._clock.now
        if not self._live:
            return Edge("block", _RECORDED, control=is_gap, clock=now)
        if self._source.kind in ("video", "pictures"):
            return Edge("latest", _LIVE_PICTURES, control=is_gap, clock=now)
        return Edge("drop_oldest", _LIVE_SMALL, control=is_gap, clock=now)

    def _stats(self, tally: Tally) -> Stats:
        edge, counts = self._edge.count(), self._asker.counts
        overflow = edge.dropped + edge.expired
        return Stats(
            frames=tally.frames + overflow,
            woken=tally.woken,
            suppressed=tally.suppressed,
            dropped={"overflow": overflow, "rate": tally.rate},
            gaps=self._gaps,
            calls=counts["calls"],
            yes=counts["yes"],
            no=counts["no"],
            unclear=counts["unclear"],
            undescribed=counts["undescribed"],
            late=counts["late"],
            seconds=self._clock.now() - self._began,
            edges={"frames": edge},
        )
