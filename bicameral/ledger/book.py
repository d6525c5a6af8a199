"""The book: double entry, append only, written by one thread that commits what waits together.

Two phases: `authorise` sets money aside before a request is asked, `settle` or `void` resolves it,
once. Both return when the entry is on disk. A settlement that could not be written is kept and
tried again; until it is, nothing new is authorised.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from queue import Empty, SimpleQueue
from typing import Any

from msgspec import Struct

from bicameral.errors import BicameralError, LedgerError, LimitError
from bicameral.ledger.allowance import allowed
from bicameral.ledger.entry import Body, Held, Hold, Void, today
from bicameral.ledger.keys import Key, Keyring
from bicameral.ledger.store import Draft, Store

log = logging.getLogger("bicameral.ledger")

_BATCH = 1000
_LINGER = 0.004
_SWEEP = 30.0
_LOOK = 2.0
_RETRY = 1.0

Clock = Callable[[], int]
Outcome = Any


def wall() -> int:
    """Unix milliseconds."""
    return time.time_ns() // 1_000_000


class _Job:
    """Something to write in the next transaction, and who waits for it."""

    __slots__ = ("body", "done", "keep", "loop", "work")

    def __init__(
        self, work: Callable[[Draft, int], Outcome], body: Body | None, keep: bool
    ) -> None:
        self.work = work
        self.body = body
        self.keep = keep
        self.loop: asyncio.AbstractEventLoop | None = None
        self.done: Any = None

    async def result(self, queue: SimpleQueue[_Job | None]) -> Outcome:
        self.loop = asyncio.get_running_loop()
        self.done = self.loop.create_future()
        queue.put(self)
        return await self.done


class Wanted(Struct, frozen=True, kw_only=True):
    """A hold that is asked for: as much of `most` nano-dollars as may be spent, but `least`.

    `most` None: no money is held.
    """

    id: str
    caller: str
    mind: str
    least: int = 0
    most: int | None = None
    tokens: int = 0


class Book:
    """The book of one process. `clock` gives Unix milliseconds.

    `keyring` is looked at again every two seconds, so that long a revoked key may still work.
    `fault` says why nothing can be written now, if so. LedgerError or ConfigError if the database
    cannot be opened.
    """

    def __init__(self, url: str, *, hold_seconds: int = 3600, clock: Clock = wall) -> None:
        self.fault = ""
        self.keyring = Keyring()
        self._hold_ms = hold_seconds * 1000
        self._clock = clock
        self._queue: SimpleQueue[_Job | None] = SimpleQueue()
        self._owed: deque[_Job] = deque()
        self._opening: list[BicameralError | None] = []
        opened = threading.Event()
        self._thread = threading.Thread(
            target=self._work, args=(url, opened), name="ledger", daemon=True
        )
        self._thread.start()
        opened.wait()
        if self._opening[0] is not None:
            self._thread.join()
            raise self._opening[0]

    def now(self) -> int:
        """Unix milliseconds by the book's clock."""
        return self._clock()

    async def authorise(self, wanted: Wanted, key: Key) -> Held:
        """Set aside what `wanted` says within the limits of `key`; what was set aside.

        LimitError if the limits leave less, LedgerError if it cannot be written.
        """
        self.check()

        def work(draft: Draft, now: int) -> Held:
            day = today(now)
            money = allowed(draft.tally, key, wanted.least, wanted.most, wanted.tokens, day, now)
            held = Held(
                id=wanted.id, caller=wanted.caller, money=money, tokens=wanted.tokens, day=day
            )
            until = (now + self._hold_ms) // 1000
            fields = {name: getattr(held, name) for name in held.__struct_fields__}
            draft.put(Hold(mind=wanted.mind, until=until, **fields), now)
            return held

        job = _Job(work, None, keep=False)
        try:
            held: Held = await job.result(self._queue)
        except asyncio.CancelledError:
            # It may be written before the thread sees this; queued behind it, the void finds it.
            self._queue.put(_Job(lambda d, now: self._give_back(d, now, wanted.id), None, True))
            raise
        return held

    async def settle(self, body: Body) -> bool:
        """Write `body`; False if it is written already. LedgerError: kept, and tried again."""
        written: bool = await self._settling(body).result(self._queue)
        return written

    def settle_soon(self, body: Body) -> None:
        """Write `body` without waiting, as for a caller who has gone."""
        self._queue.put(self._settling(body))

    def check(self) -> None:
        """Raise LedgerError while the book cannot be written: nothing is spent unbooked."""
        if self.fault:
            raise LedgerError(self.fault)

    def close(self) -> None:
        """Write what waits and end."""
        if self._thread.is_alive():
            self._queue.put(None)
            self._thread.join()

    def _settling(self, body: Body) -> _Job:
        def work(draft: Draft, now: int) -> bool:
            held = getattr(body, "held", None)
            if held is not None and not draft.known(body.id) and draft.hold(held.id) is None:
                raise LedgerError(f"the hold {held.id} is not open, so it cannot be resolved")
            return draft.put(body, now)

        return _Job(work, body, keep=True)

    def _give_back(self, draft: Draft, now: int, id: str) -> bool:
        hold = draft.hold(id)
        return hold is not None and draft.put(void(hold), now)

    # --- in the thread -----------------------------------------------------------------------

    def _work(self, url: str, opened: threading.Event) -> None:
        try:
            self._store = Store(url)
        except BicameralError as error:
            self._opening.append(error)
            opened.set()
            return
        swept = looked = time.monotonic()
        self._sweep()
        self._look()
        self._opening.append(None)
        opened.set()
        open_ = True
        crowded = False
        while open_:
            if time.monotonic() - swept > _SWEEP:
                swept = time.monotonic()
                self._sweep()
            if time.monotonic() - looked > _LOOK:
                looked = time.monotonic()
                self._look()
            jobs = self._gather(crowded)
            crowded = len(jobs) > 2
            open_ = None not in jobs
            self._commit([job for job in jobs if job is not None])
        self._store.close()

    def _gather(self, crowded: bool) -> list[_Job | None]:
        """What waits; where many ask, a moment's wait lets one sync to disk serve them all."""
        jobs: list[_Job | None] = []
        try:
            jobs.append(self._queue.get(timeout=_RETRY if self._owed or self.fault else _LOOK))
            if crowded:
                time.sleep(_LINGER)
            while len(jobs) < _BATCH:
                jobs.append(self._queue.get_nowait())
        except Empty:
            pass
        return jobs

    def _commit(self, jobs: list[_Job]) -> None:
        if self._owed or self.fault:
            jobs = [*self._owed, *jobs]
            self._owed.clear()
        elif not jobs:
            return
        outcomes = self._try(jobs)
        if isinstance(outcomes, LedgerError) and len(jobs) > 1:
            # One of them may be what cannot be written: the others shall not suffer for it.
            outcomes = [_only(self._try([job])) for job in jobs]
        elif isinstance(outcomes, LedgerError):
            outcomes = [outcomes]
        self._deliver(jobs, outcomes)

    def _try(self, jobs: Sequence[_Job]) -> list[Outcome] | LedgerError:
        """What each came to; a LedgerError if none of them is written."""
        outcomes: list[Outcome] = []

        def work(draft: Draft) -> None:
            outcomes.clear()
            draft.expect(job.body.id for job in jobs if job.body is not None)
            now = self._clock()
            for job in jobs:
                try:
                    outcomes.append(job.work(draft, now))
                except (LimitError, LedgerError) as error:
                    outcomes.append(error)

        try:
            self._store.write(work)
        except LedgerError as error:
            self._failed(error)
            return error
        if self.fault:
            log.info("the ledger is written again")
            self.fault = ""
        return outcomes

    def _deliver(self, jobs: Sequence[_Job], outcomes: Sequence[Outcome]) -> None:
        """To each loop all of its results at once; what must not be lost is kept for later."""
        loops: dict[asyncio.AbstractEventLoop, list[tuple[Any, Outcome]]] = {}
        for job, outcome in zip(jobs, outcomes, strict=True):
            if job.keep and self.fault and isinstance(outcome, LedgerError):
                self._owed.append(_Job(job.work, job.body, keep=True))
            elif job.done is None and isinstance(outcome, LedgerError):
                log.error("an entry could not be booked: %s", outcome)
            if job.loop is not None:
                loops.setdefault(job.loop, []).append((job.done, outcome))
        for loop, results in loops.items():
            try:
                loop.call_soon_threadsafe(_resolve, results)
            except RuntimeError:  # that loop has ended, and with it all who waited
                log.debug("a loop ended before its bookings were told")

    def _sweep(self) -> None:
        """Resolve the holds that nobody came back for: what became of the money is not known."""
        try:
            holds = self._store.open_holds(until=self._clock() // 1000)
            if holds:
                log.warning("%d holds expired: their requests ended with the process", len(holds))
                self._store.write(
                    lambda draft: [draft.put(void(h, expired=True), self._clock()) for h in holds]
                )
        except LedgerError as error:
            self._failed(error)

    def _look(self) -> None:
        try:
            self.keyring = Keyring.of(self._store.keys())
        except LedgerError as error:
            self._failed(error)

    def _failed(self, error: LedgerError) -> None:
        if str(error) != self.fault:
            self.fault = str(error)
            log.error("%s. Requests are refused until it can", error)


def void(hold: Hold | Held, *, expired: bool = False) -> Void:
    """The entry that gives `hold` back."""
    fields = {name: getattr(hold, name) for name in Held.__struct_fields__}
    return Void(id=ending(hold.id), held=Held(**fields), expired=expired)


def ending(booking: str) -> str:
    """The id of the one entry that resolves a hold, whether it settles it or gives it back."""
    return f"{booking}/end"


def _only(outcomes: list[Outcome] | LedgerError) -> Outcome:
    return outcomes if isinstance(outcomes, LedgerError) else outcomes[0]


def _resolve(results: Sequence[tuple[asyncio.Future[Outcome], Outcome]]) -> None:
    for future, outcome in results:
        if future.done():
            continue
        if isinstance(outcome, BaseException):
            future.set_exception(outcome)
        else:
            future.set_result(outcome)
