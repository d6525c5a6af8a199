"""What was spent, by key, mind, member, owner or day: sums over the entries of the book.

The entries are read once, in order; memory grows with the groups and the holds that are open, not
with the entries. Money is integer nano-dollars, days are UTC.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Literal, get_args

from msgspec import Struct

from bicameral.ledger import entry
from bicameral.ledger.entry import (
    CALLER,
    MARGIN,
    OVERRUN,
    Body,
    Booking,
    Held,
    Hold,
    KeySet,
    Posting,
    Transfer,
    Void,
    Written,
)
from bicameral.usage import Call, Usage

By = Literal["key", "mind", "member", "owner", "day"]
WAYS: tuple[str, ...] = get_args(By)
KEPT = 2000
"""So many latencies of a group are kept; beyond that its quantiles are those of a sample."""


class Sum(Struct, frozen=True, kw_only=True):
    """`amount` of what is known, None if nothing is; of `missing` more it is not known."""

    amount: int | float | None
    missing: int = 0


class Row(Struct, frozen=True, kw_only=True):
    """What one group came to; `name` is that of its key.

    `requests` are those that had to do with it, `finished`, `failed` and `abandoned` its calls,
    `late` those of them that were booked apart. Tokens and media are what was reported, else
    estimated. `cost` is of all calls, its `missing` those without a price; of it `estimated` is
    the cost of `estimates` calls that ended without a report. `paid` is what callers paid,
    `margin` that less the cost, `overrun` the operator's loss; None: they belong to requests, not
    to a member or an owner. `p50` and `p95` are seconds of finished calls, of members only.
    """

    group: str
    name: str = ""
    requests: int
    finished: int
    failed: int
    abandoned: int
    late: int
    mismatches: int
    prompt_tokens: Sum
    completion_tokens: Sum
    cached_tokens: Sum
    reasoning_tokens: Sum
    images: Sum
    media_ms: Sum
    chip_seconds: Sum
    joules: Sum
    cost: Sum
    estimated: int
    estimates: int
    paid: int | None
    margin: int | None
    overrun: int | None
    p50: float | None = None
    p95: float | None = None

    @property
    def calls(self) -> int:
        """All of them, however they ended."""
        return self.finished + self.failed + self.abandoned


class Holds(Struct, frozen=True, kw_only=True):
    """Requests of which money or tokens are, or were, set aside; some limit tokens only."""

    count: int
    money: int
    tokens: int


class Spend(Struct, frozen=True, kw_only=True):
    """A report. `lost` are holds that expired: what became of their requests nobody knows.

    `moved` is what was paid in, paid out, given back and put right by hand, which is no part of
    the rows.
    """

    by: By
    first: str
    last: str
    rows: tuple[Row, ...]
    total: Row
    lost: Holds
    open: Holds
    moved: dict[str, int]


def spend(entries: Iterable[Written], by: By = "mind", first: str = "", last: str = "") -> Spend:
    """The report of what was booked from day `first` to `last`, both included; "": no bound.

    `entries` are all from the first on, whatever the days: they tell the names of keys.
    """
    sums = _Sums(by, first, last)
    for written in entries:
        sums.add(entry.read(written.body), written.at)
    return sums.spend()


def bookings(entries: Iterable[Written], first: str = "", last: str = "") -> Iterator[Booking]:
    """Those from day `first` to `last`, both included; "": no bound."""
    for written in entries:
        body = entry.read(written.body)
        if isinstance(body, Booking) and _within(body.day, first, last):
            yield body


def _within(day: str, first: str, last: str) -> bool:
    return first <= day and (not last or day <= last)


def measured(call: Call) -> Usage:
    """What it consumed: as reported, else as estimated."""
    return call.usage if call.estimate is None else call.estimate


class _Sums:
    """The report as far as it has been read."""

    def __init__(self, by: By, first: str, last: str) -> None:
        self._by = by
        self._first, self._last = first, last
        self._groups: dict[str, _Group] = {}
        self._total = _Group(0)
        self._names: dict[str, str] = {}
        self._open: dict[str, Hold] = {}
        self._lost: list[int] = [0, 0, 0]
        self._moved: dict[str, int] = {}

    def add(self, body: Body, at: int) -> None:
        match body:
            case Hold():
                self._open[body.id] = body
            case Booking():
                self._resolve(body.held)
                if self._in(body.day):
                    self._book(body)
            case Void():
                self._resolve(body.held)
                if body.expired and self._in(body.held.day):
                    held = (1, body.held.money or 0, body.held.tokens)
                    self._lost = [a + b for a, b in zip(self._lost, held, strict=True)]
            case KeySet():
                self._names[body.key.id] = body.key.name
            case Transfer() if self._in(entry.today(at)):
                amount = sum(amount for _, amount in body.postings if amount > 0)
                self._moved[body.why] = self._moved.get(body.why, 0) + amount

    def spend(self) -> Spend:
        whole = self._by in ("key", "mind", "day")
        rows = [
            group.row(name, self._names.get(name, "") if self._by == "key" else "", whole)
            for name, group in self._groups.items()
        ]
        order = _by_day if self._by == "day" else _by_cost
        opened = [hold for hold in self._open.values() if self._in(hold.day)]
        return Spend(
            by=self._by,
            first=self._first,
            last=self._last,
            rows=tuple(sorted(rows, key=order)),
            total=self._total.row("", "", True),
            lost=Holds(count=self._lost[0], money=self._lost[1], tokens=self._lost[2]),
            open=Holds(
                count=len(opened),
                money=sum(hold.money or 0 for hold in opened),
                tokens=sum(hold.tokens for hold in opened),
            ),
            moved=self._moved,
        )

    def _in(self, day: str) -> bool:
        return _within(day, self._first, self._last)

    def _resolve(self, held: Held | None) -> None:
        if held is not None:
            self._open.pop(held.id, None)

    def _book(self, body: Booking) -> None:
        self._total.add(body, body.calls)
        for name, calls in self._parts(body):
            if name not in self._groups:
                self._groups[name] = _Group(KEPT if self._by == "member" else 0)
            self._groups[name].add(body, calls)

    def _parts(self, body: Booking) -> Iterable[tuple[str, Sequence[Call]]]:
        match self._by:
            case "key":
                return ((body.caller, body.calls),)
            case "mind":
                return ((body.mind, body.calls),)
            case "day":
                return ((body.day, body.calls),)
        parts: dict[str, list[Call]] = {}
        for call in body.calls:
            name = call.model if self._by == "member" else call.owner or call.model
            parts.setdefault(name, []).append(call)
        return parts.items()


class _Group:
    """A group as far as it has been read; it keeps at most `kept` latencies."""

    def __init__(self, kept: int) -> None:
        self._requests = self._late = self._mismatches = 0
        self._ended = {"finished": 0, "failed": 0, "abandoned": 0}
        self._amounts: list[int | float] = [0] * len(_SUMMED)
        self._missing = [0] * len(_SUMMED)
        self._estimated = self._estimates = 0
        self._paid = self._margin = self._overrun = 0
        self._seconds = _Sample(kept)

    def add(self, body: Booking, calls: Sequence[Call]) -> None:
        if body.late:
            self._late += len(calls)
        else:
            self._requests += 1
        caller, margin, overrun = _posted(body.postings)
        self._paid -= caller
        self._margin += margin
        self._overrun -= overrun
        for call in calls:
            self._call(call)

    def row(self, group: str, name: str, whole: bool) -> Row:
        sums: dict[str, Any] = dict(zip(_SUMMED, self._sums(), strict=True))
        ended: dict[str, Any] = dict(self._ended)
        return Row(
            group=group,
            name=name,
            requests=self._requests,
            **ended,
            late=self._late,
            mismatches=self._mismatches,
            **sums,
            estimated=self._estimated,
            estimates=self._estimates,
            paid=self._paid if whole else None,
            margin=self._margin if whole else None,
            overrun=self._overrun if whole else None,
            p50=self._seconds.quantile(0.5),
            p95=self._seconds.quantile(0.95),
        )

    def _sums(self) -> Iterator[Sum]:
        """Of no calls at all they are 0."""
        calls = sum(self._ended.values())
        for amount, missing in zip(self._amounts, self._missing, strict=True):
            known = missing < calls or not calls
            yield Sum(amount=amount if known else None, missing=missing)

    def _call(self, call: Call) -> None:
        self._ended[call.ended] += 1
        self._mismatches += call.mismatch
        for place, figure in enumerate(_figures(call)):
            if figure is None:
                self._missing[place] += 1
            else:
                self._amounts[place] += figure
        if call.estimate is not None:
            self._estimates += 1
            self._estimated += call.cost or 0
        if call.ended == "finished" and call.seconds is not None:
            self._seconds.add(call.seconds)


_SUMMED = (
    "prompt_tokens",
    "completion_tokens",
    "cached_tokens",
    "reasoning_tokens",
    "images",
    "media_ms",
    "chip_seconds",
    "joules",
    "cost",
)


def _figures(call: Call) -> tuple[int | float | None, ...]:
    """Those of `_SUMMED`, in its order."""
    usage = measured(call)
    return (
        usage.prompt_tokens,
        usage.completion_tokens,
        usage.cached_tokens,
        usage.reasoning_tokens,
        usage.images,
        usage.media_ms,
        call.chip_seconds,
        call.joules,
        call.cost,
    )


class _Sample:
    """A uniform sample of what was added, by Vitter's algorithm R; all of it up to `kept`."""

    def __init__(self, kept: int) -> None:
        self._kept = kept
        self._seen = 0
        self._values: list[float] = []
        self._random = random.Random(0)  # noqa: S311 - equal books, equal reports

    def add(self, value: float) -> None:
        self._seen += 1
        if len(self._values) < self._kept:
            self._values.append(value)
        elif (place := self._random.randrange(self._seen)) < self._kept:
            self._values[place] = value

    def quantile(self, part: float) -> float | None:
        """By nearest rank."""
        if not self._values:
            return None
        return sorted(self._values)[max(0, math.ceil(part * len(self._values)) - 1)]


def _posted(postings: Iterable[Posting]) -> tuple[int, int, int]:
    """What went to callers, to margins and to the operator's loss."""
    caller = margin = overrun = 0
    for account, amount in postings:
        if account == OVERRUN:
            overrun += amount
        elif account.startswith(_CALLERS):
            caller += amount
        elif account.startswith(_MARGINS):
            margin += amount
    return caller, margin, overrun


_CALLERS, _MARGINS = f"{CALLER}/", f"{MARGIN}/"


def _by_day(row: Row) -> tuple[float, str]:
    return 0, row.group


def _by_cost(row: Row) -> tuple[float, str]:
    return -(row.cost.amount or 0), row.group
