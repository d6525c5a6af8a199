"""The entries of the book, and what each does to the balances: frozen values, no input or output.

An entry is one transaction. Its body, as canonical JSON, is what the hash chain covers; `effects`
says all it changes, so that every balance can be computed again from the entries alone. A posting
adds an amount of integer nano-dollars to an account, and those of an entry sum to zero: positive
is what we owe to whoever the account is named for.
"""

from __future__ import annotations

import hashlib
from datetime import date, timedelta
from functools import lru_cache
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from bicameral.ledger.keys import Key
from bicameral.usage import Call, Ended

Posting = tuple[str, int]
Name = Annotated[str, Meta(min_length=1, max_length=200)]
GENESIS = bytes(32)

# What an account is named for is the part after the slash.
CALLER = "caller"  # what a caller has paid in, less what it was charged
OWNER = "owner"  # what the owner of members is owed
MARGIN = "margin"  # what a mind's callers paid above its cost, not settled yet
CASH = "cash/operator"  # what the operator has taken in is negative: it is owed by, not to
OVERRUN = "overrun/operator"  # what calls cost beyond what callers pay for: the operator's loss
LOCAL = "local"  # the caller that has no key: the command line, a library, a server without keys


class Entry(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What every entry has. `id` is its idempotency key: it is written once, whoever retries."""

    id: Name
    postings: tuple[Posting, ...] = ()


class Hold(Entry, frozen=True, kw_only=True, omit_defaults=True, tag="hold"):
    """The most that a request may cost and consume, set aside before it is asked.

    `money` None: nothing limits what its caller spends. It counts against the limits of the `day`
    (UTC) on which it was made, and until Unix second `until`, when it expires.
    """

    caller: str
    mind: str
    money: int | None
    tokens: int
    day: str
    until: int


class Held(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The hold that an entry resolves, as it was made."""

    id: str
    caller: str
    money: int | None
    tokens: int
    day: str


class Booking(Entry, frozen=True, kw_only=True, omit_defaults=True, tag="booking"):
    """A request as it went: every call made for it, what its caller pays, who gets it.

    `paid` is for what is known to have cost something; `unpriced` names the members of which that
    is not known. `request` is the caller's own name for it. `by` is the member whose answer it
    was, `shares` are the parts of members in what was said. `late`: a call that ended after its
    request had been booked.
    """

    caller: str
    mind: str
    request: str = ""
    day: str
    held: Held | None = None
    ended: Ended
    late: bool = False
    calls: tuple[Call, ...] = ()
    paid: int = 0
    unpriced: tuple[str, ...] = ()
    by: str = ""
    shares: tuple[tuple[str, float], ...] = ()


class Void(Entry, frozen=True, kw_only=True, omit_defaults=True, tag="void"):
    """A hold given back. `expired`: nobody said what came of it, so it counts as spent."""

    held: Held
    expired: bool = False


class KeySet(Entry, frozen=True, kw_only=True, omit_defaults=True, tag="key"):
    """An API key as it stands from now on: made, changed or revoked."""

    key: Key


class Transfer(Entry, frozen=True, kw_only=True, omit_defaults=True, tag="transfer"):
    """Money moved by hand: paid in by a caller, out to an owner, given back, or put right.

    `of` is the id of the entry that it corrects.
    """

    why: Literal["deposit", "payout", "refund", "adjust"]
    note: str = ""
    of: str = ""


class Settlement(Entry, frozen=True, kw_only=True, omit_defaults=True, tag="settlement"):
    """A mind's margin of a period, shared out among owners.

    It covers the bookings of `mind` with `first` <= seq <= `last`. `amount` is their margin less
    what the operator keeps; `weights` are each owner's part of it, as whole numbers, found by
    `scheme` from what has the digest `inputs`. Rounding makes up for that of earlier periods.
    """

    period: str
    mind: str
    first: int
    last: int
    margin: int
    kept: int
    amount: int
    scheme: str
    weights: tuple[tuple[str, int], ...]
    inputs: str = ""


class Weights(Entry, frozen=True, kw_only=True, omit_defaults=True, tag="weights"):
    """What owners contributed to a mind in a period: written once, so it is frozen.

    `weights` are whole numbers by owner, found by `scheme` from what has the digest `inputs`;
    whoever is in `negative` came out below 0, which counts as 0. `members` are the mind's, each
    with its owner. `values` is what the mind was worth with each set of owners, `unit` to a right
    answer: place m is for the set that has owner i where bit i of m is 1. It is empty where sets
    were sampled, in `orders` orders from `seed`; then `errors` are the weights' standard errors.
    """

    period: str
    mind: str
    scheme: str
    weights: tuple[tuple[str, int], ...]
    negative: tuple[str, ...] = ()
    members: tuple[tuple[str, str], ...] = ()
    prompts: int = 0
    unit: int = 1
    values: tuple[int, ...] = ()
    orders: int = 0
    seed: int = 0
    errors: tuple[int, ...] = ()
    inputs: str = ""


Body = Hold | Booking | Void | KeySet | Transfer | Settlement | Weights


class Written(Struct, frozen=True, kw_only=True):
    """A row of the book: `at` is Unix milliseconds, but the order is that of `seq`."""

    seq: int
    id: str
    at: int
    body: str
    hash: bytes


_encode = msgspec.json.Encoder(order="deterministic").encode
_decode = msgspec.json.Decoder(Body).decode


def canonical(body: Body) -> str:
    """The one spelling of `body` that is written and hashed."""
    return _encode(body).decode()


def read(text: str) -> Body:
    """The body again; msgspec.DecodeError if it is none."""
    body: Body = _decode(text)
    return body


def link(before: bytes, seq: int, id: str, at: int, body: str) -> bytes:
    """The hash of an entry: SHA-256 over the hash before it and all its columns."""
    return hashlib.sha256(before + f"{seq}\0{id}\0{at}\0{body}".encode()).digest()


def effects(body: Body) -> list[tuple[str, int]]:
    """What `body` adds to which tally.

    Tallies are account/ACCOUNT, held/CALLER/UNIT and spent/CALLER/UNIT/WINDOW, where UNIT is money
    or tokens and WINDOW a UTC day, a UTC month or `ever`.
    """
    found = [(f"account/{account}", amount) for account, amount in body.postings]
    match body:
        case Hold():
            found += _holds(body, 1)
        case Void():
            found += _holds(body.held, -1)
            if body.expired:
                held = body.held
                found += _spends(held.caller, held.day, held.money or 0, held.tokens)
        case Booking():
            if body.held is not None:
                found += _holds(body.held, -1)
            day = body.held.day if body.held else body.day
            found += _spends(body.caller, day, charged(body.paid, body.held), used_tokens(body))
    return found


def used_tokens(body: Booking) -> int:
    """The tokens that count against the caller's limits: reported, else estimated, else held."""
    total = 0
    for call in body.calls:
        known = (call.estimate or call.usage).total_tokens
        if known is None:
            return body.held.tokens if body.held else total
        total += known
    return total


def windows(day: str) -> tuple[str, str, str]:
    """The windows that `day` falls into, as a tally names them: the day, its month, ever."""
    return day, day[:7], "ever"


def today(at_ms: int) -> str:
    """The UTC day of a Unix time in milliseconds."""
    return _day(at_ms // 86_400_000)


@lru_cache(maxsize=64)
def _day(number: int) -> str:
    return (date(1970, 1, 1) + timedelta(days=number)).isoformat()


def charged(paid: int, held: Held | None) -> int:
    """What the caller pays of `paid`: never more than was held."""
    return paid if held is None or held.money is None else min(paid, held.money)


def _holds(held: Hold | Held, sign: int) -> list[tuple[str, int]]:
    return [
        (f"held/{held.caller}/money", sign * (held.money or 0)),
        (f"held/{held.caller}/tokens", sign * held.tokens),
    ]


def _spends(caller: str, day: str, money: int, tokens: int) -> list[tuple[str, int]]:
    if caller == LOCAL:  # who has no key has no limits to keep
        return []
    monies, counts = _spent(caller, day)
    found = [(name, money) for name in monies] if money else []
    return found + [(name, tokens) for name in counts] if tokens else found


@lru_cache(maxsize=1024)
def _spent(caller: str, day: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The tallies of what a caller spends on a day: in money, in tokens."""
    money, tokens = (
        tuple(f"spent/{caller}/{unit}/{window}" for window in windows(day))
        for unit in ("money", "tokens")
    )
    return money, tokens
