"""Money moved by hand: paid in, paid out, given back, put right; and holds let go.

Each function writes one entry, or none: what it may do is checked in the transaction that writes
it, so two who pay out at once cannot pay out more than is owed. `id` is the caller's own name for
the move: asked twice with it, it is done once, and asked for something else with it, refused.
Amounts are nano-dollars. RequestError if it cannot be done, LedgerError if it cannot be written.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from msgspec import Struct

from bicameral.config import nano, nearest
from bicameral.errors import RequestError
from bicameral.ledger.book import ending, void
from bicameral.ledger.entry import (
    CALLER,
    CASH,
    MARGIN,
    OVERRUN,
    OWNER,
    Body,
    Booking,
    Hold,
    Posting,
    Transfer,
    charged,
)
from bicameral.ledger.prices import decimal
from bicameral.ledger.store import Draft, Store

# How much of a booking was given back is kept beside it: what each one's account has, ALL owes.
REFUNDED = "refunded"
ALL = f"{REFUNDED}/all"
_NAME = 150


class Moved(Struct, frozen=True, kw_only=True):
    """The entry that says so, and whether it is `new` or was written when this was asked before."""

    entry: Transfer
    new: bool

    def amount(self, account: str) -> int:
        """What it added to `account`."""
        return _added(self.entry, account)


class _Asked(Struct, frozen=True, kw_only=True):
    """A move as it was asked for: `amount` on `account`; None: as much as there is."""

    why: Literal["deposit", "payout", "refund", "adjust"]
    account: str
    amount: int | None
    of: str = ""
    note: str = ""


def deposit(store: Store, key: str, amount: int, *, id: str, at: int, note: str = "") -> Moved:
    """The caller with the key id `key` has paid in `amount`."""
    known = tuple(held.id for held in store.keys().values())
    if key not in known:
        hint = nearest(key, known) if known else "make one with `bicameral keys new`"
        raise RequestError(f"there is no key with the id '{key}'; {hint}", param="key")
    account = f"{CALLER}/{key}"
    asked = _Asked(why="deposit", account=account, amount=_positive(amount), note=note)
    return _move(store, asked, id, at, lambda _: ((CASH, -amount), (account, amount)))


def payout(store: Store, owner: str, amount: int, *, id: str, at: int, note: str = "") -> Moved:
    """`owner` was paid `amount`, no more than it is owed."""
    account = _owner(store, owner)
    asked = _Asked(why="payout", account=account, amount=-_positive(amount), note=note)

    def plan(draft: Draft) -> tuple[Posting, ...]:
        owed = draft.tally(f"account/{account}")
        if amount > owed:
            raise RequestError(
                f"{owner} is owed ${decimal(owed)}, which is less than ${decimal(amount)}",
                param="amount",
            )
        return (account, -amount), (CASH, amount)

    return _move(store, asked, id, at, plan)


def refund(store: Store, of: str, amount: int | None, *, id: str, at: int, note: str = "") -> Moved:
    """Give back `amount` of what the booking `of` cost its caller; None: all that is left of it.

    It comes from the margin of its mind as far as there is one, the rest is the operator's loss:
    what its members' owners have earned stays theirs.
    """
    booking = _booking(store, of)
    account, so_far = f"{CALLER}/{booking.caller}", f"{REFUNDED}/{of}"
    wanted = None if amount is None else _positive(amount)
    asked = _Asked(why="refund", account=account, amount=wanted, of=of, note=note)

    def plan(draft: Draft) -> tuple[Posting, ...]:
        left = charged(booking.paid, booking.held) - draft.tally(f"account/{so_far}")
        back = left if wanted is None else wanted
        if not 0 < back <= left:
            raise RequestError(f"${decimal(left)} of {of} is left to give back", param="amount")
        margin = f"{MARGIN}/{booking.mind}"
        spared = min(back, max(0, draft.tally(f"account/{margin}")))
        moved = ((account, back), (margin, -spared), (OVERRUN, spared - back))
        return (*_kept(moved), (so_far, back), (ALL, -back))

    return _move(store, asked, id, at, plan)


def adjust(store: Store, owner: str, amount: int, *, of: str, id: str, at: int, note: str) -> Moved:
    """`owner` gets `amount` more, or less, than the entry `of` says: the operator bears it.

    An owner may not come to owe what it was paid out already.
    """
    if not note.strip():
        raise RequestError("--note: say why, as in 'invoice 7 says $1.20'", param="note")
    if not amount:
        raise RequestError("an adjustment by nothing is none", param="amount")
    account = _owner(store, owner, _found(store, of))
    asked = _Asked(why="adjust", account=account, amount=amount, of=of, note=note)

    def plan(draft: Draft) -> tuple[Posting, ...]:
        owed = draft.tally(f"account/{account}")
        if amount < 0 and owed + amount < 0:
            raise RequestError(
                f"{owner} is owed ${decimal(owed)}: the rest has been paid out already, ask for "
                "it back",
                param="amount",
            )
        return (account, amount), (OVERRUN, -amount)

    return _move(store, asked, id, at, plan)


def release(store: Store, hold: str, *, at: int) -> Hold:
    """Give back the open hold of that id, whose request has ended without saying so."""

    def work(draft: Draft) -> Hold:
        found = draft.hold(hold)
        if found is None:
            ended = draft.known(ending(hold))
            why = "is resolved already" if ended else "does not exist; `holds` lists the open ones"
            raise RequestError(f"the hold '{hold}' {why}", param="hold")
        draft.put(void(found), at)
        return found

    return store.write(work)


def dollars(text: str, *, signed: bool = False) -> int:
    """The nano-dollars of a decimal number of dollars; RequestError if it is none."""
    minus = signed and text.startswith("-")
    try:
        amount = nano(text[1:] if minus else text) if text.isascii() else nano("")
    except ValueError as error:
        example = '"0.25" or "-0.25"' if signed else '"0.25"'
        raise RequestError(
            f"'{text}' is no amount: write dollars as {example}, without a currency's sign",
            param="amount",
        ) from error
    return -amount if minus else amount


def _move(
    store: Store, asked: _Asked, id: str, at: int, plan: Callable[[Draft], tuple[Posting, ...]]
) -> Moved:
    name = f"transfer/{_named(id)}"

    def work(draft: Draft) -> bool:
        if draft.known(name):
            return False
        entry = Transfer(id=name, postings=plan(draft), why=asked.why, note=asked.note, of=asked.of)
        return draft.put(entry, at)

    new = store.write(work)
    entry = store.find(name)
    if not isinstance(entry, Transfer) or not _is(entry, asked):
        raise RequestError(
            f"--id {id}: something else was moved under that id; choose another", param="id"
        )
    return Moved(entry=entry, new=new)


def _is(entry: Transfer, asked: _Asked) -> bool:
    """Whether `entry` is what was asked for; a note may be worded anew."""
    if (entry.why, entry.of) != (asked.why, asked.of):
        return False
    added = _added(entry, asked.account)
    return bool(added) if asked.amount is None else added == asked.amount


def _added(entry: Transfer, account: str) -> int:
    return sum(amount for name, amount in entry.postings if name == account)


def _kept(postings: tuple[Posting, ...]) -> tuple[Posting, ...]:
    return tuple((account, amount) for account, amount in postings if amount)


def _positive(amount: int) -> int:
    if amount <= 0:
        raise RequestError("the amount must be more than 0", param="amount")
    return amount


def _named(id: str) -> str:
    if not 0 < len(id) <= _NAME or not id.isprintable():
        raise RequestError(f"--id: give 1 to {_NAME} printable characters", param="id")
    return id


def _found(store: Store, of: str) -> Body:
    entry = store.find(of)
    if entry is None:
        raise RequestError(f"there is no entry '{of}'", param="of")
    return entry


def _booking(store: Store, of: str) -> Booking:
    entry = _found(store, of)
    if not isinstance(entry, Booking):
        raise RequestError(f"'{of}' is no request's booking: nothing was paid for it", param="of")
    return entry


def _owner(store: Store, owner: str, of: Body | None = None) -> str:
    """The account of an owner that the book has seen, or that has a member called in `of`.

    A call whose cost was not known has left nothing in its owner's account.
    """
    start = f"account/{OWNER}/"
    seen = {name.removeprefix(start) for name in store.tallies(start)}
    if isinstance(of, Booking):
        seen |= {call.owner or call.model for call in of.calls}
    if owner not in seen:
        hint = nearest(owner, tuple(seen)) if seen else "nobody has earned anything yet"
        raise RequestError(f"the book knows no owner '{owner}'; {hint}", param="owner")
    return f"{OWNER}/{owner}"
