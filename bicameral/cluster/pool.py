"""The replicas of one member: who gets the next request, and how many there are.

A request goes to the replica with the least to do. Who dies is replaced, sooner the first time
than the next; who has to go is drained. Counts are those of this process, which asks alone.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any

from bicameral.cluster.replica import Replica
from bicameral.cluster.scale import Scale
from bicameral.cluster.settings import Settings
from bicameral.errors import BicameralError, Overloaded, Timeout, Unreachable
from bicameral.types import Request

log = logging.getLogger("bicameral.cluster")
_TICK = 0.25
_LOOK = 2.0  # seconds between two looks for nodes that are to go
_LONGEST = 30.0  # seconds between two starts, at most
_PATIENT = 1.0  # seconds between two starts from which on nobody waits for the next

Make = Callable[[], Replica]
Leaving = Callable[[], Coroutine[Any, Any, set[str]]]
Open = Callable[[Replica], Coroutine[Any, Any, None]]


class Pool:
    """Replicas between bounds; `make` gives one that `open` then opens.

    `leaving` tells the ids of nodes that are about to go.
    """

    def __init__(
        self, name: str, settings: Settings, make: Make, open: Open, leaving: Leaving
    ) -> None:
        self._name = name
        self._settings = settings
        self._make = make
        self._open = open
        self._leaving = leaving
        self._looked = 0.0
        self._scale = Scale(settings.bounds, settings.max_ongoing)
        self._waiting: deque[asyncio.Future[Replica]] = deque()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._nudge = asyncio.Event()
        self._failures = 0
        self._next_start = 0.0
        self._down = ""
        self._closed = False
        self.replicas: list[Replica] = []
        self.deaths = 0

    async def start(self) -> None:
        """Open as many as there must be; what one raises is raised."""
        opening = [asyncio.create_task(self._first()) for _ in range(self._settings.bounds.min)]
        try:
            await asyncio.gather(*opening)
        finally:
            for task in opening:
                task.cancel()
        self._spawn(self._keep())

    async def _first(self) -> None:
        """Open one more; if its node dies under it, as Ray may see late, once again."""
        for last in (False, True):
            replica = self._make()
            self.replicas.append(replica)
            try:
                await self._open(replica)
            except Unreachable:
                self._dropped(replica)
                if last:
                    raise
            else:
                self._spawn(self._watch(replica))
                return

    async def close(self) -> None:
        """End every replica; who still waits or is being answered gets an error."""
        self._closed = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._refuse(Unreachable(self._name, "it was closed"))
        grace = self._settings.grace_seconds
        await asyncio.gather(*(each.end(grace if each.up else 0) for each in self.replicas))
        self.replicas.clear()

    # --- requests ------------------------------------------------------------------------------

    async def take(self, request: Request) -> Replica:
        """The replica that answers next; its `ongoing` counts the request from now on.

        Raises Overloaded if too many wait, Timeout if the deadline passes first, Unreachable if
        none is there and none will be soon.
        """
        self._hopeful()
        best = self._best()
        if best is not None and not self._waiting:
            best.take()
            return best
        if len(self._waiting) >= self._settings.queue:
            raise Overloaded(self._name, f"{len(self._waiting)} requests wait for a replica")
        return await self._wait(request.remaining())

    async def _wait(self, left: float | None) -> Replica:
        turn: asyncio.Future[Replica] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            done, _ = await asyncio.wait({turn}, timeout=left)
        except asyncio.CancelledError:
            if turn.done() and not turn.exception():
                self.give(turn.result())
            raise
        finally:
            with suppress(ValueError):
                self._waiting.remove(turn)
        if not done:
            raise Timeout(self._name, "queue", left or 0.0)
        return turn.result()

    def _hopeful(self) -> None:
        if self._closed:
            raise Unreachable(self._name, "it was closed")
        if self._down and not self._any():
            raise Unreachable(self._name, f"no replica is up: {self._down}")

    def _any(self) -> bool:
        return any(each.free for each in self.replicas)

    def _best(self) -> Replica | None:
        most = self._settings.max_ongoing
        free = [each for each in self.replicas if each.free and each.ongoing < most]
        return min(free, key=lambda each: (each.ongoing, each.asked), default=None)

    def give(self, replica: Replica) -> None:
        """One request of `replica` has ended."""
        replica.give()
        self._serve()

    def _serve(self) -> None:
        """Let those who wait have what is free, in the order they came."""
        while self._waiting and (best := self._best()):
            turn = self._waiting.popleft()
            if not turn.done():
                best.take()
                turn.set_result(best)

    def _refuse(self, error: BicameralError) -> None:
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_exception(error)

    def worked(self) -> None:
        """A request was answered to its end: whatever killed replicas is over."""
        self._failures = 0

    # --- replicas ------------------------------------------------------------------------------

    def lost(self, replica: Replica, why: str) -> None:
        """`replica` is dead, or as good as: end it for sure, and start another."""
        if not replica.going and self._dropped(replica):
            self._failed(why, opening=False)

    def _dropped(self, replica: Replica) -> bool:
        """Whether it was there until now."""
        if replica not in self.replicas:
            return False
        self.replicas.remove(replica)
        self._spawn(replica.end(0))
        self.deaths += 1
        return True

    def _failed(self, why: str, *, opening: bool) -> None:
        log.warning("%s: a replica is gone: %s", self._name, why)
        self._failures += 1
        pause = 0.0 if self._failures == 1 else min(_LONGEST, 0.25 * 2**self._failures)
        self._next_start = time.monotonic() + pause
        if (opening or pause > _PATIENT) and not self._any():
            self._down = why
            self._refuse(Unreachable(self._name, f"no replica is up: {why}"))
        self._nudge.set()

    async def _keep(self) -> None:
        """As many replicas as there is work for."""
        while True:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._nudge.wait(), _TICK)
            self._nudge.clear()
            await self._move()
            now = time.monotonic()
            staying = [each for each in self.replicas if not each.going]
            busy = sum(each.ongoing for each in staying) + len(self._waiting)
            wanted = self._scale.wanted(now, busy, len(staying))
            if now >= self._next_start:
                for _ in range(wanted - len(staying)):
                    self._spawn(self._grow())
            if wanted < len(staying):
                self.drain(min(staying, key=lambda each: (each.up, each.ongoing)))

    async def _move(self) -> None:
        """Drain what stands on a node that is to go; the next ones stand elsewhere."""
        now = time.monotonic()
        if now < self._looked + _LOOK:
            return
        self._looked, leaving = now, await self._leaving()
        for replica in self.replicas:
            if replica.node in leaving and not replica.going:
                self.drain(replica)

    async def _grow(self) -> None:
        replica = self._make()
        self.replicas.append(replica)
        try:
            await self._open(replica)
        except BicameralError as error:
            if not replica.going and self._dropped(replica):
                self._failed(str(error), opening=True)
        else:
            self._spawn(self._watch(replica))
            self._down = ""
            self._serve()

    async def _watch(self, replica: Replica) -> None:
        """See at once that it dies, also with nothing to do."""
        self.lost(replica, await replica.death())

    def drain(self, replica: Replica) -> None:
        """No new requests for `replica`; it ends with those it has, or when its time is up."""
        replica.going = True
        self._spawn(self._drain(replica))

    async def _drain(self, replica: Replica) -> None:
        try:
            await asyncio.wait_for(replica.idle.wait(), self._settings.drain_seconds)
        except TimeoutError:
            log.warning("%s: %d requests outlast a drain", self._name, replica.ongoing)
        await replica.end(self._settings.grace_seconds)
        if replica in self.replicas:
            self.replicas.remove(replica)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        self.hold(asyncio.create_task(work))

    def hold(self, task: asyncio.Task[Any]) -> None:
        """See that it is done, or ended with the pool."""
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
