"""Runs the jobs of a table: claims them, has the brain make the clip, keeps it, clears away."""

from __future__ import annotations

import asyncio
import logging
import math
import os
import time
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, contextmanager, suppress
from functools import partial
from typing import Any, TypeVar

from msgspec import Struct
from msgspec.structs import replace

from bicameral.brain import Brain
from bicameral.config import VideosOptions
from bicameral.errors import BicameralError, LedgerError, LimitError
from bicameral.server import log as lines
from bicameral.server.errors import fault
from bicameral.server.metrics import Metrics
from bicameral.server.videos.clip import Clip, made, within
from bicameral.server.videos.files import Files
from bicameral.server.videos.job import Job
from bicameral.server.videos.table import Failure, NoRoom, Table
from bicameral.types import Request

T = TypeVar("T")
log = logging.getLogger("bicameral.server")
_AGAIN = 5.0  # seconds until a job is tried again that could not be booked


class Pulse(Struct, frozen=True, kw_only=True):
    """How often, in seconds: a claim is renewed, which lasts `lease`; the queue is looked at."""

    beat: float = 5.0
    lease: float = 30.0
    look: float = 1.0


class Runner:
    """One server's hands at a table. `slots` are the clips it makes at once, and those of others.

    `progress` is that of its own jobs, by id, newer than the table's.
    """

    def __init__(
        self,
        brain: Brain,
        table: Table,
        files: Files,
        options: VideosOptions,
        metrics: Metrics,
        *,
        pulse: Pulse | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.slots = asyncio.Semaphore(options.running)
        self.progress: dict[str, int] = {}
        self.clock = clock
        self._brain = brain
        self._table = table
        self._files = files
        self._options = options
        self._metrics = metrics
        self._pulse = pulse or Pulse()
        self._owner = os.urandom(8).hex()
        self._running: dict[str, asyncio.Task[None]] = {}
        self._more: set[asyncio.Task[None]] = set()
        self._wake = asyncio.Event()
        self._stop = asyncio.Event()
        self._threads = ThreadPoolExecutor(4, thread_name_prefix="videos")

    def start(self) -> None:
        """Look after the table from now on."""
        self._do(self._serve())
        self._do(self._beat())

    async def close(self) -> None:
        """Stop what runs and queue it again."""
        self._stop.set()
        self.wake()
        if self._more:
            await asyncio.wait(self._more)
        jobs = dict(self._running)
        for task in jobs.values():
            task.cancel()
        if jobs:
            await asyncio.wait(jobs.values())
        with suppress(*Failure):  # then somebody claims it once the lease is over
            for id in jobs:
                await self.call(self._table.give_back, id, self._owner, at=0.0)
        await asyncio.to_thread(self._threads.shutdown)

    def wake(self) -> None:
        """There is something to claim, or a slot is free."""
        self._wake.set()

    async def stop(self, id: str) -> None:
        """Have a job's work end, if it is done here; its row says already what became of it."""
        task = self._running.get(id)
        if task is not None:
            task.cancel()
            await asyncio.wait([task])

    # --- the two loops ---------------------------------------------------------------------------

    async def _serve(self) -> None:
        while not self._stop.is_set():
            self._wake.clear()
            with _told("jobs cannot be claimed"):
                while not self.slots.locked() and not self._stop.is_set():
                    if not await self._begin():
                        break
            await _within(self._wake, self._pulse.look)

    async def _begin(self) -> bool:
        """Claim one job, if there is one."""
        await self.slots.acquire()
        job = None
        try:
            now = self.clock()
            job = await self.call(
                self._table.claim,
                self._owner,
                tuple(self._brain.models),
                now=now,
                until=now + self._pulse.lease,
                tries=self._options.tries,
            )
        finally:
            if job is None:
                self.slots.release()
        if job is None:
            return False
        task = asyncio.create_task(self._work(job))
        self._running[job.id] = task
        task.add_done_callback(partial(self._ended, job))
        return True

    async def _beat(self) -> None:
        """Renew the claims, and sweep now and then; a job that is no longer ours is stopped."""
        swept = -math.inf
        while not self._stop.is_set():
            with _told("jobs cannot be renewed"):
                await self._renew()
                if time.monotonic() - swept >= self._pulse.lease:
                    swept = time.monotonic()
                    await self.sweep()
            await _within(self._stop, self._pulse.beat)

    async def _renew(self) -> None:
        for id, task in tuple(self._running.items()):
            until = self.clock() + self._pulse.lease
            done = self.progress.get(id, 0)
            if not await self.call(self._table.renew, id, self._owner, until=until, progress=done):
                task.cancel()

    async def sweep(self) -> None:
        """Fail what nobody will do any more, and remove what has expired."""
        now, keep = self.clock(), self._options.keep_seconds
        ends: dict[str, Any] = {"now": now, "expires": now + keep}
        gone = await self.call(self._table.abandoned, tries=self._options.tries, **ends)
        gone += await self.call(self._table.unwanted, before=now - keep, **ends)
        gone += await self.call(self._table.expired, now=now, before=now - keep)
        for id in gone:
            await self.call(self._files.forget, id)
        known = await self.call(self._table.ids)
        live = await self.call(self._table.ids, live=True)
        await self.call(self._files.tidy, known, live)

    # --- one job ---------------------------------------------------------------------------------

    async def _work(self, job: Job) -> None:
        request = await self.call(self._files.asked, job.id)
        if request is None:
            await self._fail(job, "input_gone", "what it was to be made of is not there any more")
            return
        try:
            clip = await self._clip(job, request)
        except LedgerError:
            await self._later(job, _AGAIN)
        except LimitError as error:
            if error.spent or error.resets is None:
                await self._failed(job, error)
            else:
                await self._later(job, error.resets)
        except BicameralError as error:
            await self._failed(job, error)
        else:
            await self._keep(job, clip)

    async def _clip(self, job: Job, request: Request) -> Clip:
        left = None if job.deadline is None else max(0.0, job.deadline - self.clock())
        deadline = None if left is None else time.monotonic() + left
        request = replace(request, deadline=deadline)
        tell = partial(self.progress.__setitem__, job.id)
        async with within(left, job.model):
            run = self._brain.run(request, job.model, caller=job.caller)
            async with aclosing(run) as events:
                return await made(events, job.model, most=self._options.max_result, tell=tell)

    async def _keep(self, job: Job, clip: Clip) -> None:
        now = self.clock()
        done = replace(
            job,
            completed=now,
            expires=now + self._options.keep_seconds,
            seconds=job.seconds if clip.seconds is None else clip.seconds,
            media_type=clip.media_type,
            stored=len(clip.data),
        )
        try:
            await self.call(self._files.make, job.id, clip.data)
            kept = await self.call(
                self._table.complete, done, self._owner, room=self._options.max_total
            )
        except NoRoom:
            await self._fail(
                job,
                "storage_full",
                f"the clip has {len(clip.data)} bytes and no room is left for it; delete others",
            )
            return
        except OSError as error:
            await self._fail(job, "storage_full", f"the clip cannot be kept: {error.strerror}")
            return
        if kept:
            await self.call(self._files.forget_asked, job.id)
            self._line(job, "completed")
        elif not await self.call(self._table.lives, job.id):
            await self.call(self._files.forget, job.id)

    async def _later(self, job: Job, seconds: float) -> None:
        await self.call(self._table.give_back, job.id, self._owner, at=self.clock() + seconds)

    async def _failed(self, job: Job, error: BicameralError) -> None:
        self._metrics.failed(error)
        told = fault(error)
        await self._fail(job, str(told.code or told.type), told.message)

    async def _fail(self, job: Job, code: str, message: str) -> None:
        now = self.clock()
        expires = now + self._options.keep_seconds
        ours = await self.call(
            self._table.fail,
            job.id,
            self._owner,
            code=code,
            message=message,
            now=now,
            expires=expires,
        )
        if ours:
            await self.call(self._files.forget, job.id)
        self._line(job, code)

    def _ended(self, job: Job, task: asyncio.Task[None]) -> None:
        """What is unexpected is logged, and the job fails; nothing of it may reach its caller."""
        self._running.pop(job.id, None)
        self.progress.pop(job.id, None)
        self.slots.release()
        self.wake()
        if _broke(task, job.id):
            self._do(self._give_up(job))

    async def _give_up(self, job: Job) -> None:
        with _told("a job cannot be failed"):
            await self._fail(job, "server_error", "the server could not make it; see its log")

    def _line(self, job: Job, ended: str) -> None:
        seconds = round(self.clock() - (job.started or job.created), 6)
        told = {"video": job.id, "model": job.model, "ended": ended, "seconds": seconds}
        lines.request({"route": "videos.job", **told})

    # --- threads and tasks -----------------------------------------------------------------------

    async def call(self, work: Callable[..., T], *args: Any, **named: Any) -> T:
        """In a thread, as a disk may keep us waiting; one that no model can keep busy."""
        run = asyncio.get_running_loop().run_in_executor
        return await run(self._threads, partial(work, *args, **named))

    def _do(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._more.add(task)
        task.add_done_callback(self._over)

    def _over(self, task: asyncio.Task[None]) -> None:
        self._more.discard(task)
        _broke(task, "the runner")


def _broke(task: asyncio.Task[None], what: str) -> bool:
    """Whether it ended by an error that nobody expected; the log says so."""
    error = None if task.cancelled() else task.exception()
    if error is not None:
        log.error("%s broke", what, exc_info=error)
    return error is not None


@contextmanager
def _told(what: str) -> Iterator[None]:
    """Logs what the table or a disk cannot do now; it is tried again."""
    try:
        yield
    except Failure as error:
        log.error("%s: %s", what, error)


async def _within(event: asyncio.Event, seconds: float) -> None:
    """Wait for `event`, but no longer than that."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()
