"""The jobs of one server as its routes see them: the table, the files and who runs them."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import BinaryIO, Self

from msgspec.structs import replace

from bicameral.brain import Brain
from bicameral.config import VideosOptions
from bicameral.errors import NotFound, RequestError
from bicameral.server import idempotency
from bicameral.server.errors import Refused
from bicameral.server.metrics import Metrics
from bicameral.server.videos.files import Files
from bicameral.server.videos.form import Asked
from bicameral.server.videos.job import Job, new_id
from bicameral.server.videos.runner import Pulse, Runner
from bicameral.server.videos.table import Failure, Full, NoRoom, Repeat, Reused, Table

log = logging.getLogger("bicameral.server")
_SOON = b"10"  # seconds until who found the queue full may try again


class Jobs:
    """Takes jobs, tells of them and gives them up. Raises NotFound, RequestError and Refused."""

    def __init__(
        self, table: Table, files: Files, options: VideosOptions, brain: Brain, metrics: Metrics,
        pulse: Pulse | None = None,
    ) -> None:  # fmt: skip
        self._table = table
        self._files = files
        self._options = options
        self._runner = Runner(brain, table, files, options, metrics, pulse=pulse)
        self._waiting = 0

    @classmethod
    async def open(
        cls, options: VideosOptions, brain: Brain, metrics: Metrics, pulse: Pulse | None = None
    ) -> Self:
        """Open the table and begin to run what is in it."""
        with _told():
            table, files = await asyncio.to_thread(_opened, options)
        jobs = cls(table, files, options, brain, metrics, pulse)
        jobs._runner.start()
        return jobs

    async def close(self) -> None:
        """Give back what runs."""
        await self._runner.close()
        await asyncio.to_thread(self._table.close)

    async def known(self, repeat: Repeat) -> Job | None:
        """The job that was made under this Idempotency-Key."""
        with _told():
            return await self._runner.call(self._table.known, repeat)

    async def add(
        self, asked: Asked, model: str, caller: str, *, wait: float | None, repeat: Repeat | None
    ) -> tuple[Job, bool]:
        """Queue what is asked of `model`; it fails if it is not made in `wait` seconds.

        False, and the job that is there, if its Idempotency-Key is known by now.
        """
        with _told():
            return await self._add(asked, model, caller, wait, repeat)

    async def _add(
        self, asked: Asked, model: str, caller: str, wait: float | None, repeat: Repeat | None
    ) -> tuple[Job, bool]:
        counts, o = await self._runner.call(self._table.counts), self._options
        if counts["queued"] >= o.queue:
            raise Full(counts["queued"])
        now, spec = self._runner.clock(), asked.spec
        id = new_id()
        request = replace(asked.request, id=id, deadline=None)
        job = Job(
            id=id,
            caller=caller,
            model=model,
            created=now,
            deadline=None if wait is None else now + wait,
            seconds=spec.frames / spec.fps if spec.frames and spec.fps else None,
            size=f"{spec.width}x{spec.height}" if spec.width else None,
            stored=await self._runner.call(self._files.ask, id, request),
        )
        put = None
        try:
            put = await self._runner.call(
                self._table.add, job, repeat, queue=o.queue, room=o.max_total
            )
        finally:
            if put is None or put.id != id:
                await self._runner.call(self._files.forget_asked, id)
        self._runner.wake()
        return put, put.id == id

    async def find(self, id: str, caller: str) -> Job:
        """That job of `caller`."""
        with _told():
            job = await self._runner.call(self._table.find, id, caller)
        if job is None:
            raise _unknown(id)
        return self._latest(job)

    async def page(
        self, caller: str, *, after: str | None, limit: int, newest: bool
    ) -> tuple[list[Job], bool]:
        """Jobs of `caller` that follow the job `after`, by age, and whether there are more."""
        if after is not None:
            await self.find(after, caller)
        with _told():
            jobs, more = await self._runner.call(
                self._table.page, caller, after=after, limit=limit, newest=newest
            )
        return [self._latest(job) for job in jobs], more

    async def cancel(self, id: str, caller: str) -> Job:
        """The job, cancelled; RequestError if it has ended otherwise."""
        now = self._runner.clock()
        expires = now + self._options.keep_seconds
        with _told():
            job = await self._runner.call(self._table.cancel, id, caller, now=now, expires=expires)
            if job is None:
                raise _unknown(id)
            if job.status != "cancelled":
                raise Refused(409, f"the video {id} is {job.status} already", f"video_{job.status}")
            await self._runner.stop(id)
            await self._runner.call(self._files.forget, id)
        return job

    async def delete(self, id: str, caller: str) -> None:
        """Forget the job and all that is kept of it; if it runs it is cancelled."""
        with _told():
            if not await self._runner.call(self._table.delete, id, caller):
                raise _unknown(id)
            await self._runner.stop(id)
            await self._runner.call(self._files.forget, id)

    async def clip(self, id: str, caller: str) -> tuple[Job, BinaryIO]:
        """The job and its clip, open; Refused if that is not there yet, or not any more."""
        job = await self.find(id, caller)
        if job.status != "completed":
            raise _not_ready(job)
        with _told():
            if job.expires is None or job.expires > self._runner.clock():
                try:
                    return job, await self._runner.call(self._files.made, id)
                except FileNotFoundError:
                    log.error("the clip of %s is not where it was put", id)
        keep = self._options.keep_seconds
        raise Refused(
            410, f"the clip of {id} has expired: clips are kept for {keep} s", "video_expired"
        )

    async def counts(self) -> dict[str, int]:
        """How many jobs there are of each status."""
        with _told():
            return await self._runner.call(self._table.counts)

    @asynccontextmanager
    async def slot(self) -> AsyncIterator[None]:
        """A slot for a clip that somebody waits for; Refused if too many wait already."""
        waiting = self._waiting + (await self.counts())["queued"]
        if self._runner.slots.locked() and waiting >= self._options.queue:
            raise _full(waiting)
        self._waiting += 1
        try:
            await self._runner.slots.acquire()
        finally:
            self._waiting -= 1
        try:
            yield
        finally:
            self._runner.slots.release()
            self._runner.wake()

    def _latest(self, job: Job) -> Job:
        """With the progress of a moment ago, if it runs here."""
        done = self._runner.progress.get(job.id)
        return job if done is None or job.status != "in_progress" else replace(job, progress=done)


def home(options: VideosOptions) -> Path:
    """The folder; RuntimeError if there is no home directory to put it in."""
    if options.path is not None:
        return Path(options.path).expanduser()
    state = os.environ.get("XDG_STATE_HOME", "")
    folder = Path(state) if os.path.isabs(state) else Path("~/.local/state").expanduser()
    return folder / "bicameral" / "videos"


def _opened(options: VideosOptions) -> tuple[Table, Files]:
    try:
        root = home(options)
    except RuntimeError as error:
        raise OSError(errno.ENOENT, "there is no home directory; set [videos] path") from error
    files = Files(root)
    return Table(root / "jobs.sqlite3"), files


@contextmanager
def _told() -> Iterator[None]:
    """What the table and the disk say, as HTTP says it; paths are for the log."""
    try:
        yield
    except Full as error:
        raise _full(error.waiting) from error
    except NoRoom as error:
        raise _no_room(f"{error.stored} bytes are kept already") from error
    except Reused as error:
        raise idempotency.other() from error
    except Failure as error:
        log.error("the videos cannot be kept: %s", error)
        if _is_full(error):
            raise _no_room("the disk is full") from error
        raise Refused(
            503, "jobs cannot be kept now; try again later", "videos_unavailable",
            headers=[(b"retry-after", b"5")],
        ) from error  # fmt: skip


def _is_full(error: BaseException) -> bool:
    if isinstance(error, sqlite3.Error):
        return getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)


def _full(waiting: int) -> Refused:
    return Refused(
        429, f"{waiting} videos wait to be made already; try again soon", "queue_full",
        headers=[(b"retry-after", _SOON)],
    )  # fmt: skip


def _no_room(why: str) -> Refused:
    return Refused(
        507, f"there is no room for another video ({why}): delete some", "storage_full",
        headers=[(b"x-should-retry", b"false")],
    )  # fmt: skip


def _unknown(id: str) -> NotFound:
    return NotFound(f"there is no video '{id[:64]}'", param="video_id", code="video_not_found")


def _not_ready(job: Job) -> RequestError | Refused:
    if job.status in ("queued", "in_progress"):
        return Refused(
            409, f"the video {job.id} is {job.status}: {job.progress} % are done",
            "video_not_ready", headers=[(b"retry-after", b"1")],
        )  # fmt: skip
    return Refused(409, f"the video {job.id} is {job.status}: it has no clip", "video_not_ready")
