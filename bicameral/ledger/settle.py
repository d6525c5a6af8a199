"""Settling: who is owed what of the margins of a period, from the book's entries alone.

A period is a UTC month. What its calls cost was credited to their owners as they were booked; here
what callers paid above that is shared out. A settlement covers all that no earlier one did, up to
the last entry of its period, so what was booked late falls into the next. `entries` are the book's
from the first on, and are gone through more than once.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from fractions import Fraction

from msgspec import Struct
from msgspec.structs import replace

from bicameral.errors import LedgerError, RequestError
from bicameral.ledger.entry import (
    MARGIN,
    OVERRUN,
    OWNER,
    Body,
    Booking,
    Posting,
    Settlement,
    Weights,
    Written,
    read,
    today,
)
from bicameral.ledger.split import Owed, owing, split
from bicameral.ledger.store import Draft, Store
from bicameral.usage import Call

KEPT = "kept/operator"  # what the operator keeps of margins
FROZEN = ("shapley", "feedback")
SIMPLE = ("calls", "tokens", "final")
_MILLION = 10**6
_MONTH = re.compile(r"(\d{4})-(0[1-9]|1[0-2])")


class Result(Struct, frozen=True, kw_only=True):
    """What settling a mind comes to; None: nothing is shared out, and `note` says why."""

    mind: str
    settlement: Settlement | None = None
    booked: bool = False
    note: str = ""


def month(period: str) -> tuple[int, int]:
    """The Unix milliseconds at which it begins, and at which it has ended; RequestError if none."""
    found = _MONTH.fullmatch(period)
    if found is None or int(found[1]) < 1970:
        raise RequestError(f"--period {period}: a period is a month, as in 2026-11")
    first = datetime(int(found[1]), int(found[2]), 1, tzinfo=UTC)
    following = datetime(first.year + first.month // 12, first.month % 12 + 1, 1, tzinfo=UTC)
    return int(first.timestamp()) * 1000, int(following.timestamp()) * 1000


def cut(entries: Iterable[Written], end: int) -> int:
    """The number of the last entry that was written before `end`, Unix milliseconds; 0 if none."""
    return max((entry.seq for entry in entries if entry.at < end), default=0)


def settlements(entries: Iterable[Written]) -> list[tuple[int, Settlement]]:
    """Every settlement with its number, in order."""
    found = ((e.seq, read(e.body)) for e in entries if e.id.startswith("settle/"))
    return [(seq, body) for seq, body in found if isinstance(body, Settlement)]


def frozen(entries: Iterable[Written], period: str) -> dict[str, Weights]:
    """The weights that were frozen for that period, by mind."""
    start = f"weights/{period}/"
    found = (read(entry.body) for entry in entries if entry.id.startswith(start))
    return {body.mind: body for body in found if isinstance(body, Weights)}


def settle(
    entries: Iterable[Written], period: str, *, keep: Fraction, scheme: str | None = None
) -> list[Result]:
    """What each mind's margin of `period` comes to, by mind; those that are booked as they are.

    `keep` is the operator's part. `scheme` None: the weights that were frozen for that period,
    and where there are none, whose answers were final. A loss is the operator's. LedgerError if
    weights are wanted that nobody froze.
    """
    _, end = month(period)
    past = settlements(entries)
    weights = frozen(entries, period)
    results = {
        s.mind: Result(mind=s.mind, settlement=s, booked=True)
        for _, s in past
        if s.period == period
    }
    for mind, (first, last, traffic) in _traffic(entries, past, cut(entries, end)).items():
        if mind in results:
            continue
        name, shares, inputs = _weighed(mind, traffic, scheme, weights.get(mind))
        asked = Settlement(
            id=f"settle/{period}/{mind}",
            period=period,
            mind=mind,
            first=first,
            last=last,
            margin=traffic.margin,
            kept=0,
            amount=0,
            scheme=name,
            weights=shares,
            inputs=inputs,
        )
        results[mind] = _settled(asked, keep, owed(past, mind))
    return [results[mind] for mind in sorted(results)]


def owed(past: Iterable[tuple[int, Settlement]], mind: str) -> dict[str, Fraction]:
    """What rounding still owes each owner after these settlements of `mind`; below 0: had early."""
    return owing((s.amount, dict(s.weights), paid(s)) for _, s in past if s.mind == mind)


def paid(settlement: Settlement) -> dict[str, int]:
    """What each owner gets by it."""
    start = f"{OWNER}/"
    return {a.removeprefix(start): n for a, n in settlement.postings if a.startswith(start)}


def book(store: Store, results: Iterable[Result], now: int) -> list[Result]:
    """Write what is not booked yet, at Unix millisecond `now`: all of it or nothing.

    LedgerError if a month has not ended, or somebody else has settled one of these minds meanwhile.
    """
    results = list(results)
    new = [r.settlement for r in results if r.settlement is not None and not r.booked]
    for each in new:
        if now < month(each.period)[1]:
            raise LedgerError(f"{each.period} has not ended, so it cannot be settled yet")
    months = list(_months(store, now))

    def work(draft: Draft) -> None:
        for each in new:
            ids = (f"settle/{period}/{each.mind}" for period in months)
            if any(_overlap(draft.find(id), each) for id in ids) or not draft.put(each, now):
                raise LedgerError(f"{each.mind} has been settled meanwhile: look again")

    if new:
        store.write(work)
    return [replace(r, booked=r.settlement is not None) for r in results]


def _overlap(other: Body | None, settlement: Settlement) -> bool:
    """Whether it covers entries that are in `settlement` as well."""
    return isinstance(other, Settlement) and other.last >= settlement.first


def _months(store: Store, now: int) -> Iterator[str]:
    """Every month from the book's first entry to `now`."""
    first = next((entry.at for entry in store.entries(last=1)), now)
    while first <= now:
        period = today(first)[:7]
        yield period
        first = month(period)[1]


def owner_of(call: Call) -> str:
    """Who is paid for it; a member without an owner is its own."""
    return call.owner or call.model


# --- what was done ------------------------------------------------------------------------------


@dataclass
class _Traffic:
    """What a mind's entries add up to: its margin, and by owner what finished calls did."""

    margin: int = 0
    calls: dict[str, int] = field(default_factory=dict)
    tokens: dict[str, int] = field(default_factory=dict)
    final: dict[str, int] = field(default_factory=dict)

    def count(self, booking: Booking) -> None:
        """Add what was done for the request, whoever paid for it."""
        for call in booking.calls:
            done, name = call.ended == "finished", owner_of(call)
            tokens = (call.estimate or call.usage).total_tokens or 0
            self.calls[name] = self.calls.get(name, 0) + done
            self.tokens[name] = self.tokens.get(name, 0) + done * tokens
            self.final.setdefault(name, 0)
        for name, part in final(booking).items():
            self.final[name] += part


def final(booking: Booking) -> dict[str, int]:
    """Whose answer a finished request got, in millionths: by its shares, else who spoke."""
    if booking.ended != "finished":
        return {}
    owners = {call.model: owner_of(call) for call in booking.calls}
    parts: dict[str, int] = {}
    if booking.shares and all(model in owners for model, _ in booking.shares):
        for model, share in booking.shares:
            part = round(Fraction(share) * _MILLION)
            parts[owners[model]] = parts.get(owners[model], 0) + part
    elif booking.by in owners:
        parts[owners[booking.by]] = _MILLION
    return parts


def _traffic(
    entries: Iterable[Written], past: Iterable[tuple[int, Settlement]], last: int
) -> dict[str, tuple[int, int, _Traffic]]:
    """By mind that took a margin: the first and last entry not settled yet, and what they do."""
    began: dict[str, int] = {}
    for _, settlement in past:
        began[settlement.mind] = max(began.get(settlement.mind, 1), settlement.last + 1)
    found: dict[str, _Traffic] = {}
    earned: set[str] = set()
    for entry in entries:
        if entry.seq > last:
            break
        body = read(entry.body)
        for mind, amount in _margins(body):
            if entry.seq >= began.get(mind, 1):
                found.setdefault(mind, _Traffic()).margin += amount
                earned.add(mind)
        # Nobody paid for what is late, so it has no part in what was paid.
        if isinstance(body, Booking) and entry.seq >= began.get(body.mind, 1) and not body.late:
            found.setdefault(body.mind, _Traffic()).count(body)
    return {mind: (began.get(mind, 1), last, found[mind]) for mind in sorted(earned)}


def _margins(body: Body) -> Iterator[tuple[str, int]]:
    """What it adds to which mind's margin; refunds and corrections as well as bookings."""
    if not isinstance(body, Settlement):
        for account, amount in body.postings:
            kind, _, mind = account.partition("/")
            if kind == MARGIN:
                yield mind, amount


# --- who gets it --------------------------------------------------------------------------------


def _weighed(
    mind: str, traffic: _Traffic, scheme: str | None, weights: Weights | None
) -> tuple[str, tuple[tuple[str, int], ...], str]:
    """The scheme, the weights by owner, and the digest of what they were found from."""
    if weights is not None and scheme in (None, weights.scheme):
        return weights.scheme, weights.weights, weights.inputs
    if scheme in FROZEN:
        raise LedgerError(
            f"no {scheme} weights of {mind} are frozen for that period: "
            f"`bicameral ledger contribution {mind}` finds and freezes them"
        )
    name = scheme or "final"
    if name not in SIMPLE:
        raise RequestError(f"--scheme {name}: is one of {', '.join((*FROZEN, *SIMPLE))}")
    counted: Mapping[str, int] = getattr(traffic, name)
    return name, tuple(sorted(counted.items())), ""


def _settled(asked: Settlement, keep: Fraction, owed: Owed) -> Result:
    margin, mind = asked.margin, asked.mind
    if margin < 0:
        note = "it cost more than was paid for it: the loss is the operator's"
        postings: list[Posting] = [(f"{MARGIN}/{mind}", -margin), (OVERRUN, margin)]
        return Result(mind=mind, settlement=_with(asked, postings, margin, 0), note=note)
    kept = int(margin * keep)
    amount = margin - kept
    if amount and not any(weight for _, weight in asked.weights):
        note = f"by {asked.scheme} nobody contributed: it waits for the next period"
        return Result(mind=mind, note=note)
    shares = split(amount, dict(asked.weights), owed)
    postings = [(f"{MARGIN}/{mind}", -margin), (KEPT, kept)]
    postings += [(f"{OWNER}/{name}", share) for name, share in sorted(shares.items())]
    return Result(mind=mind, settlement=_with(asked, postings, kept, amount))


def _with(asked: Settlement, postings: list[Posting], kept: int, amount: int) -> Settlement:
    booked = tuple(posting for posting in postings if posting[1])
    return replace(asked, postings=booked, kept=kept, amount=amount)
