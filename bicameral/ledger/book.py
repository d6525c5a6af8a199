"""The book: double entry, append only, of what requests may cost and what they came to.

Two phases: `authorise` sets money aside before a request is asked, `settle` or `void` resolves it,
once. Both return when the entry is on disk. A settlement that could not be written is kept and
tried again; until it is, nothing new is authorised.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Sequence

from msgspec import Struct
from msgspec.structs import replace

from bicameral.errors import LedgerError
from bicameral.ledger.allowance import allowed
from bicameral.ledger.engine import PATIENCE
from bicameral.ledger.entry import (
    LOCAL,
    OVERRUN,
    OWNER,
    Body,
    Booking,
    Held,
    Hold,
    Void,
    today,
)
from bicameral.ledger.keys import Key, Keyring
from bicameral.ledger.store import Draft, Store
from bicameral.ledger.writer import Clock, Job, Unwritten, Writer

log = logging.getLogger("bicameral.ledger")

_SWEEP = 30.0
_LOOK = 1.0


def wall() -> int:
    """Unix milliseconds."""
    return time.time_ns() // 1_000_000


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

    `keyring` is at most two seconds old, so that long a revoked key may still work.
    `fault` says why nothing can be written now, if so. `patience` is the seconds that the database
    may take before that is said. LedgerError or ConfigError if it cannot be opened.
    """

    def __init__(
        self,
        url: str,
        *,
        hold_seconds: int = 3600,
        clock: Clock = wall,
        patience: float = PATIENCE,
    ) -> None:
        self.keyring = Keyring()
        self._hold_ms = hold_seconds * 1000
        self._clock = clock
        self._swept = self._looked = -math.inf
        self._writer = Writer(url, patience, clock, self._chores)

    @property
    def fault(self) -> str:
        """Why nothing can be written now; empty if it can."""
        return self._writer.fault

    def now(self) -> int:
        """Unix milliseconds by the book's clock."""
        return self._clock()

    @property
    def waiting(self) -> int:
        """How many entries are not written yet."""
        return self._writer.waiting

    async def authorise(self, wanted: Wanted, key: Key) -> Held:
        """Set aside what `wanted` says within the limits of `key`; what was set aside.

        LimitError if the limits leave less, LedgerError if it cannot be written.
        """
        self.check()
        made: list[Hold] = []

        def work(draft: Draft, now: int) -> Held:
            if not draft.doubtful:
                made.clear()
            elif (before := draft.hold(wanted.id)) is not None and before in made:
                return _held(before)
            day = today(now)
            money = allowed(draft.tally, key, wanted.least, wanted.most, wanted.tokens, day, now)
            until = (now + self._hold_ms) // 1000
            hold = Hold(
                id=wanted.id,
                caller=wanted.caller,
                mind=wanted.mind,
                money=money,
                tokens=wanted.tokens,
                day=day,
                until=until,
            )
            if not draft.put(hold, now):
                raise LedgerError(f"the hold {hold.id} was made before; it is not made again")
            made.append(hold)
            return _held(hold)

        try:
            held: Held = await self._writer.result(Job(work, keep=False))
        except (asyncio.CancelledError, Unwritten):
            # It may be written all the same; queued behind it, the void finds it.
            self._writer.later(Job(lambda d, now: self._give_back(d, now, made), keep=True))
            raise
        return held

    async def settle(self, body: Body) -> bool:
        """Write `body`; False if it is written already. LedgerError: kept, and tried again."""
        written: bool = await self._writer.result(self._settling(body))
        return written

    async def unused(self, ids: Sequence[str]) -> str | None:
        """The first of `ids` that nothing is booked under, if those before it gave no answer.

        None if one of them did, or holds money still: who asks again would pay twice. LedgerError.
        """
        self.check()

        def work(draft: Draft, now: int) -> str | None:
            for id in ids:
                end = draft.find(ending(id))
                if end is None:
                    return None if draft.known(id) else id
                if not _unanswered(end):
                    return None
            return None

        found: str | None = await self._writer.result(Job(work, keep=False))
        return found

    def settle_soon(self, body: Body) -> None:
        """Write `body` without waiting, as for a caller who has gone."""
        self._writer.later(self._settling(body))

    def check(self) -> None:
        """Raise LedgerError while the book cannot be written: nothing is spent unbooked."""
        if self.fault:
            raise LedgerError(self.fault)

    def close(self) -> None:
        """Write what waits and end."""
        self._writer.close()

    def _settling(self, body: Body) -> Job:
        held: Held | None = getattr(body, "held", None)

        def work(draft: Draft, now: int) -> bool:
            if held is not None and not draft.is_open(held.id):
                return _unheld(draft, body, now)
            return draft.put(body, now)

        return Job(work, keep=True, hold=held.id if held else "")

    def _give_back(self, draft: Draft, now: int, made: Sequence[Hold]) -> bool:
        """Only what was made for this request: another may have been given its id since."""
        hold = draft.hold(made[-1].id) if made else None
        return hold is not None and hold in made and draft.put(void(hold), now)

    # --- in the thread -----------------------------------------------------------------------

    def _chores(self, store: Store) -> None:
        """What the writer's thread does between transactions."""
        now = time.monotonic()
        if now - self._swept > _SWEEP:
            self._swept = now
            self._sweep(store)
        if now - self._looked > _LOOK:
            self._looked = now
            self.keyring = Keyring.of(store.keys())

    def _sweep(self, store: Store) -> None:
        """Resolve the holds that nobody came back for: what became of the money is not known."""
        holds = store.open_holds(until=self._clock() // 1000)
        if holds:
            log.warning("%d holds expired: their requests ended with the process", len(holds))
            store.write(lambda draft: self._expire(draft, holds))

    def _expire(self, draft: Draft, holds: Sequence[Hold]) -> None:
        now = self._clock()
        for hold in holds:
            if draft.hold(hold.id) is not None:  # another process may have been faster
                draft.put(void(hold, expired=True), now)


def void(hold: Hold | Held, *, expired: bool = False) -> Void:
    """The entry that gives `hold` back."""
    return Void(id=ending(hold.id), held=_held(hold), expired=expired)


def ending(booking: str) -> str:
    """The id of the one entry that resolves a hold, whether it settles it or gives it back."""
    return f"{booking}/end"


def _unanswered(end: Body) -> bool:
    """Whether a request that ended so may be asked again under its Idempotency-Key."""
    match end:
        case Booking():
            return end.ended != "finished"
        case Void():
            return not end.expired
    return False


def _held(hold: Hold | Held) -> Held:
    return Held(**{name: getattr(hold, name) for name in Held.__struct_fields__})


def _unheld(draft: Draft, body: Body, now: int) -> bool:
    """Book what resolves a hold that is not open: once, and never twice."""
    end = draft.find(body.id)
    if end is None:
        raise LedgerError(f"{body.id}: its hold is not open, so it cannot be resolved")
    if isinstance(body, Booking) and isinstance(end, Void) and end.expired:
        return draft.put(_overdue(body), now)
    return False


def _overdue(body: Booking) -> Booking:
    """What a request came to whose hold had expired: owners are paid, at the operator's expense.

    The caller's limits count the hold as spent already, and its money may be gone.
    """
    owed = tuple((name, amount) for name, amount in body.postings if name.startswith(f"{OWNER}/"))
    loss = sum(amount for _, amount in owed)
    return replace(
        body,
        id=f"{body.id}/late",
        postings=((OVERRUN, -loss), *owed) if loss else owed,
        caller=LOCAL,
        held=None,
        late=True,
        paid=0,
    )
