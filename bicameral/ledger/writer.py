"""One thread that writes the book: what waits together is committed together.

Whoever waits is told when it is on disk. What must not be lost, and cannot be written, is owed: it
is tried again, and `fault` says why, until it is written.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from queue import Empty, SimpleQueue
from typing import Any

from bicameral.errors import BicameralError, LedgerError, LimitError
from bicameral.ledger.store import Draft, Store, Unfit

log = logging.getLogger("bicameral.ledger")

_BATCH = 1000
_LINGER = 0.01
_CROWD = 4
_IDLE = 1.0
_RETRY = 1.0

Clock = Callable[[], int]
Outcome = Any


class Job:
    """Something to write in the next transaction, the `hold` it resolves, and who waits for it.

    `keep`: it must not be lost, if it cannot be written now.
    """

    __slots__ = ("done", "hold", "keep", "loop", "work")

    def __init__(
        self, work: Callable[[Draft, int], Outcome], *, keep: bool, hold: str = ""
    ) -> None:
        self.work = work
        self.hold = hold
        self.keep = keep
        self.loop: asyncio.AbstractEventLoop | None = None
        self.done: Any = None


class Unwritten(LedgerError):
    """The database cannot be written now; it is not for what was to be written."""


class Writer:
    """The thread and its queue. `chores` are done in it between transactions, while it can write.

    LedgerError or ConfigError if the database cannot be opened.
    """

    def __init__(
        self, url: str, patience: float, clock: Clock, chores: Callable[[Store], None]
    ) -> None:
        self.fault = ""
        self._clock = clock
        self._chores = chores
        self._queue: SimpleQueue[Job | None] = SimpleQueue()
        self._owed: list[Job] = []
        self._now: list[Job] = []
        self._door = threading.Lock()
        self._shut = ""
        self._refused: BicameralError | None = None
        opened = threading.Event()
        self._thread = threading.Thread(
            target=self._work, args=(url, patience, opened), name="ledger", daemon=True
        )
        self._thread.start()
        opened.wait()
        if self._refused is not None:
            self._thread.join()
            raise self._refused

    @property
    def waiting(self) -> int:
        """How much is not written yet."""
        return self._queue.qsize() + len(self._owed)

    async def result(self, job: Job) -> Outcome:
        """What `job` came to, once it is on disk. LedgerError; Unwritten if nothing can be now."""
        job.loop = asyncio.get_running_loop()
        job.done = job.loop.create_future()
        with self._door:
            if self._shut:
                raise LedgerError(self._shut)
            self._queue.put(job)
        return await job.done

    def later(self, job: Job) -> None:
        """Do `job` without anybody waiting for it."""
        with self._door:
            if not self._shut:
                self._queue.put(job)
                return
        log.error("an entry is lost: %s", self._shut)

    def close(self) -> None:
        """Write what waits and end."""
        self._queue.put(None)
        self._thread.join()

    # --- in the thread -----------------------------------------------------------------------

    def _work(self, url: str, patience: float, opened: threading.Event) -> None:
        try:
            self._store = Store(url, patience=patience)
        except BicameralError as error:
            self._refused = error
            opened.set()
            return
        shut = "the ledger's writer has broken off: start again"
        try:
            self._housekeeping()
            opened.set()
            self._serve()
            shut = "the ledger is closed"
        finally:
            self._end(shut, broken=shut != "the ledger is closed")
            opened.set()

    def _end(self, shut: str, broken: bool) -> None:
        """Nobody may wait for ever, not even after an error that nobody foresaw."""
        with self._door:
            self._shut = shut
        rest = [job for job in self._waiting(self._queue.qsize()) if job is not None]
        if broken:
            self.fault = shut
            rest = [*self._now, *rest]
            self._deliver(rest, [LedgerError(shut) for _ in rest])
        elif rest or self._owed:
            self._commit(rest)
        if self._owed:
            log.error("%d entries could not be written, and are lost", len(self._owed))
        self._store.close()

    def _serve(self) -> None:
        open_ = True
        crowded = False
        while open_:
            if not self.fault:
                self._housekeeping()
            jobs = self._gather(crowded)
            crowded = len(jobs) > _CROWD
            open_ = None not in jobs
            self._commit([job for job in jobs if job is not None])

    def _housekeeping(self) -> None:
        try:
            self._chores(self._store)
        except LedgerError as error:
            self._failed(error)

    def _gather(self, crowded: bool) -> list[Job | None]:
        """What waits; where many ask, a moment's wait lets one sync to disk serve them all."""
        try:
            first = self._queue.get(timeout=_RETRY if self._owed or self.fault else _IDLE)
        except Empty:
            return []
        if crowded:
            time.sleep(_LINGER)
        return [first, *self._waiting(_BATCH - 1)]

    def _waiting(self, most: int) -> Iterator[Job | None]:
        try:
            for _ in range(most):
                yield self._queue.get_nowait()
        except Empty:
            return

    def _commit(self, jobs: list[Job]) -> None:
        """While nothing can be written, only what is owed is tried; nobody waits for the rest."""
        if self.fault:
            tell = [job for job in jobs if not job.keep]
            self._deliver(tell, [Unwritten(self.fault) for _ in tell])
            jobs = [job for job in jobs if job.keep]
        jobs = [*self._owed, *jobs]
        self._owed.clear()
        if jobs or self.fault:
            self._now = jobs
            self._deliver(jobs, self._outcomes(jobs))
            self._now = []

    def _outcomes(self, jobs: list[Job]) -> list[Outcome]:
        """What each came to: its result, or why it is not written."""
        try:
            return self._write(jobs)
        except Unfit as error:
            self.fault = ""
            if len(jobs) == 1:
                return [error]
            # One of them is what cannot be written: the others shall not suffer for it.
            return [self._alone(job) for job in jobs]
        except LedgerError as error:
            self._failed(error)
            return [Unwritten(str(error)) for _ in jobs]

    def _alone(self, job: Job) -> Outcome:
        return Unwritten(self.fault) if self.fault else self._outcomes([job])[0]

    def _write(self, jobs: Sequence[Job]) -> list[Outcome]:
        outcomes: list[Outcome] = []

        def work(draft: Draft) -> None:
            outcomes.clear()
            if self.fault:
                draft.touch()
            draft.expect([job.hold for job in jobs if job.hold])
            now = self._clock()
            for job in jobs:
                try:
                    outcomes.append(job.work(draft, now))
                except (LimitError, LedgerError) as error:
                    outcomes.append(error)

        self._store.write(work)
        if self.fault:
            log.info("the ledger is written again")
            self.fault = ""
        return outcomes

    def _deliver(self, jobs: Sequence[Job], outcomes: Sequence[Outcome]) -> None:
        """To each loop all of its results at once; what must not be lost is kept for later."""
        loops: dict[asyncio.AbstractEventLoop, list[tuple[Any, Outcome]]] = {}
        for job, outcome in zip(jobs, outcomes, strict=True):
            if job.keep and isinstance(outcome, Unwritten):
                self._owed.append(Job(job.work, keep=True, hold=job.hold))
            elif job.keep and isinstance(outcome, LedgerError):
                log.error("an entry could not be booked: %s", outcome)
            if job.loop is not None:
                loops.setdefault(job.loop, []).append((job.done, outcome))
        for loop, results in loops.items():
            try:
                loop.call_soon_threadsafe(_resolve, results)
            except RuntimeError:  # that loop has ended, and with it all who waited
                log.debug("a loop ended before its bookings were told")

    def _failed(self, error: LedgerError) -> None:
        if str(error) != self.fault:
            self.fault = str(error)
            log.error("%s. Requests are refused until it can", error)


def _resolve(results: Sequence[tuple[asyncio.Future[Outcome], Outcome]]) -> None:
    for future, outcome in results:
        if future.done():
            continue
        if isinstance(outcome, BaseException):
            future.set_exception(outcome)
        else:
            future.set_result(outcome)
