"""An owner's statement of a period, from the book's entries alone: anyone who has them makes it.

What the members' calls cost, the owner's parts of margins, and what was paid out; it adds up, from
what the owner was owed before to what it is owed after. A settlement belongs to the period that
it settles, any other entry to the one that it was booked in. `entries` are the book's from the
first on, and are gone through more than once. Money is nano-dollars.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from fractions import Fraction
from typing import Literal

from msgspec import Struct

from bicameral.errors import LedgerError
from bicameral.ledger.entry import OWNER, Body, Booking, Settlement, Transfer, Written, read
from bicameral.ledger.settle import cut, month, owed, owner_of, paid, settlements
from bicameral.usage import Call, Ended


class Line(Struct, frozen=True, kw_only=True):
    """A call of one of the owner's members; `cost` None: not known, so nothing was credited."""

    seq: int
    at: str
    request: str
    mind: str
    member: str
    ended: Ended
    prompt_tokens: int | None
    completion_tokens: int | None
    cost: int | None
    state: Literal["reported", "estimated", "unknown"]
    mismatch: bool
    late: bool


class Part(Struct, frozen=True, kw_only=True):
    """The owner's part of a mind's margin. `seq` None: it is a draft, and not booked.

    `amount` was shared out by `weights`; `before` is what rounding owed the owner until then.
    """

    seq: int | None
    mind: str
    scheme: str
    first: int
    last: int
    margin: int
    kept: int
    amount: int
    weights: tuple[tuple[str, int], ...]
    before: Fraction
    share: int
    inputs: str


class Move(Struct, frozen=True, kw_only=True):
    """Money moved by hand: a payout is negative, as less is owed after it."""

    seq: int
    at: str
    why: str
    note: str
    amount: int


class Member(Struct, frozen=True, kw_only=True):
    """What a member did for a mind. Tokens are those that are known; `untold` calls told none."""

    mind: str
    member: str
    finished: int
    failed: int
    abandoned: int
    tokens: int
    untold: int
    cost: int


class Statement(Struct, frozen=True, kw_only=True):
    """It adds up: opening + cost + margin + moved = closing, and closing + since = now.

    `since` was booked after the period; `now` is what the book says is owed at its entry number
    `seq`, which has the digest `head`. `draft`: some settlement of the period is not booked, so
    `now` is without it.
    """

    owner: str
    period: str
    draft: bool
    opening: int
    cost: int
    margin: int
    moved: int
    closing: int
    since: int
    now: int
    seq: int
    head: str
    members: tuple[Member, ...]
    lines: tuple[Line, ...]
    parts: tuple[Part, ...]
    moves: tuple[Move, ...]


def statement(
    owner: str, entries: Iterable[Written], period: str, drafts: Sequence[Settlement] = ()
) -> Statement:
    """The statement of `owner`; `drafts` are settlements of the period that are not booked.

    LedgerError if an entry credits another amount than the calls in it cost.
    """
    return statements((owner,), entries, period, drafts)[0]


def statements(
    owners: Sequence[str],
    entries: Iterable[Written],
    period: str,
    drafts: Sequence[Settlement] = (),
) -> list[Statement]:
    """The `statement` of each of `owners`."""
    past = settlements(entries)
    opened, closed = _edge(entries, past, _before(period)), _edge(entries, past, period)
    accounts = [_Account(owner, period) for owner in owners]
    seq, head = 0, b""
    for entry in entries:
        body, when = read(entry.body), _when(entry.seq, opened, closed)
        for account in accounts:
            account.take(entry, body, when, past)
        seq, head = entry.seq, entry.hash
    for draft in drafts:
        for account in accounts:
            account.share(None, draft, past)
    return [account.closed(seq, head.hex(), draft=bool(drafts)) for account in accounts]


def owners(
    entries: Iterable[Written], period: str, drafts: Sequence[Settlement] = ()
) -> tuple[str, ...]:
    """Who has members that were called until the end of the period, or any balance then."""
    last = _edge(entries, settlements(entries), period)
    found = {name for draft in drafts for name in _named(draft)}
    for entry in entries:
        body = read(entry.body)
        if entry.seq <= last or (isinstance(body, Settlement) and body.period <= period):
            found |= _named(body)
    return tuple(sorted(found))


def _named(body: Body) -> set[str]:
    start = f"{OWNER}/"
    named = {a.removeprefix(start) for a, _ in body.postings if a.startswith(start)}
    match body:
        case Booking():
            named |= {owner_of(call) for call in body.calls}
        case Settlement():
            named |= {name for name, _ in body.weights}
    return named


def _edge(entries: Iterable[Written], past: Iterable[tuple[int, Settlement]], period: str) -> int:
    """The last entry of the period: as it was settled, else as the clock said."""
    settled = [body.last for _, body in past if body.period == period]
    return max(settled) if settled else cut(entries, month(period)[1])


def _before(period: str) -> str:
    year, number = int(period[:4]), int(period[5:])
    return f"{year}-{number - 1:02}" if number > 1 else f"{year - 1}-12"


def _when(seq: int, opened: int, closed: int) -> int:
    """Below 0: before the period; above: after it."""
    return -1 if seq <= opened else int(seq > closed)


@dataclass
class _Tally:
    """A member's totals as they grow."""

    ended: dict[str, int] = field(default_factory=dict)
    tokens: int = 0
    untold: int = 0
    cost: int = 0

    def add(self, call: Call) -> None:
        tokens = (call.estimate or call.usage).total_tokens
        self.ended[call.ended] = self.ended.get(call.ended, 0) + 1
        self.tokens += tokens or 0
        self.untold += tokens is None
        self.cost += call.cost or 0


class _Account:
    """An owner's account, entry by entry."""

    def __init__(self, owner: str, period: str) -> None:
        self._owner = owner
        self._period = period
        self._opening = self._since = 0
        self._lines: list[Line] = []
        self._parts: list[Part] = []
        self._moves: list[Move] = []
        self._tallies: dict[tuple[str, str], _Tally] = {}

    def take(
        self, entry: Written, body: Body, when: int, past: Sequence[tuple[int, Settlement]]
    ) -> None:
        """Put it where it belongs; `when` is below 0 before the period, 0 in it, above after."""
        amount = sum(n for account, n in body.postings if account == f"{OWNER}/{self._owner}")
        if isinstance(body, Settlement):
            when = (body.period > self._period) - (body.period < self._period)
        if when < 0:
            self._opening += amount
        elif when > 0:
            self._since += amount
        elif isinstance(body, Settlement):
            self.share(entry.seq, body, [(n, s) for n, s in past if n < entry.seq])
        elif isinstance(body, Booking):
            self._called(entry, body, amount)
        elif amount:
            self._moved(entry, body, amount)

    def share(
        self, seq: int | None, body: Settlement, past: Sequence[tuple[int, Settlement]]
    ) -> None:
        """The owner's part of a settlement; `past` are those before it."""
        names, shares = {name for name, _ in body.weights}, paid(body)
        if self._owner not in names | set(shares):
            return
        part = Part(
            seq=seq,
            mind=body.mind,
            scheme=body.scheme,
            first=body.first,
            last=body.last,
            margin=body.margin,
            kept=body.kept,
            amount=body.amount,
            weights=body.weights,
            before=owed(past, body.mind).get(self._owner, Fraction(0)),
            share=shares.get(self._owner, 0),
            inputs=body.inputs,
        )
        self._parts.append(part)

    def closed(self, seq: int, head: str, *, draft: bool) -> Statement:
        """What it all comes to."""
        cost = sum(line.cost or 0 for line in self._lines)
        margin = sum(part.share for part in self._parts)
        moved = sum(move.amount for move in self._moves)
        closing = self._opening + cost + margin + moved
        unbooked = sum(part.share for part in self._parts if part.seq is None)
        return Statement(
            owner=self._owner,
            period=self._period,
            draft=draft,
            opening=self._opening,
            cost=cost,
            margin=margin,
            moved=moved,
            closing=closing,
            since=self._since,
            now=closing + self._since - unbooked,
            seq=seq,
            head=head,
            members=tuple(_member(*key, t) for key, t in sorted(self._tallies.items())),
            lines=tuple(self._lines),
            parts=tuple(self._parts),
            moves=tuple(self._moves),
        )

    def _called(self, entry: Written, body: Booking, amount: int) -> None:
        mine = [call for call in body.calls if owner_of(call) == self._owner]
        if sum(call.cost or 0 for call in mine) != amount:
            raise LedgerError(
                f"entry {entry.seq} credits {self._owner} another amount than its calls cost"
            )
        for call in mine:
            self._lines.append(_line(entry, body, call))
            self._tallies.setdefault((body.mind, call.model), _Tally()).add(call)

    def _moved(self, entry: Written, body: Body, amount: int) -> None:
        why = body.why if isinstance(body, Transfer) else "other"
        note = body.note if isinstance(body, Transfer) else ""
        move = Move(seq=entry.seq, at=_time(entry.at), why=why, note=note, amount=amount)
        self._moves.append(move)


def _line(entry: Written, body: Booking, call: Call) -> Line:
    usage = call.estimate or call.usage
    return Line(
        seq=entry.seq,
        at=_time(entry.at),
        request=body.request or body.id,
        mind=body.mind,
        member=call.model,
        ended=call.ended,
        prompt_tokens=usage.prompt_tokens,
        completion_tokens=usage.completion_tokens,
        cost=call.cost,
        state=call.state,
        mismatch=call.mismatch,
        late=body.late,
    )


def _member(mind: str, member: str, tally: _Tally) -> Member:
    return Member(
        mind=mind,
        member=member,
        finished=tally.ended.get("finished", 0),
        failed=tally.ended.get("failed", 0),
        abandoned=tally.ended.get("abandoned", 0),
        tokens=tally.tokens,
        untold=tally.untold,
        cost=tally.cost,
    )


def _time(at_ms: int) -> str:
    """ISO 8601 in UTC, to the second."""
    return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
