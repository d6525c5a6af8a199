"""What one member alone would have cost for the same requests of a mind, and how good it is.

Where a member was asked anyway its own call says what it costs. Where it was not, that is
estimated: from its price, the prompt's tokens as whoever was asked counted them (another tokenizer
counts otherwise, and a warm cache would have made it cheaper), and as many tokens of answer as it
gives on average. Money is integer nano-dollars.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction

from msgspec import Struct

from bicameral.ledger.entry import Booking, charged
from bicameral.ledger.report import measured
from bicameral.usage import Call, Price, Usage, half_even, total_cost

FEWEST = 10
"""So many ratings a member needs before it is called the best."""

Scores = Mapping[tuple[str, str], Mapping[str, float]]
"""By caller and request, the score, 0 to 1, of whoever gave that answer, its mind included."""


class Quality(Struct, frozen=True, kw_only=True):
    """The mean of `count` answers, each right (1), wrong (0) or between."""

    mean: float
    count: int


class Habits(Struct, frozen=True, kw_only=True):
    """How much members say, and for how long their chips are busy: means over their calls.

    `late` are the calls that were booked after their requests, by the booking of those.
    """

    said: Mapping[str, int]
    busy: Mapping[str, float]
    anyone: int | None
    late: Mapping[str, Sequence[Call]] = {}


class Alone(Struct, frozen=True, kw_only=True):
    """One member alone: `cost` for as many requests as that could be found out for.

    `mind_cost` is what the mind cost for those very requests. `own` of them are the member's own
    calls, which failed in `failed`; `estimated` are not, and of these `guessed` take the mean
    answer of all members, as it never finished one. For `unknown` more nothing is known.
    """

    member: str
    cost: int
    mind_cost: int
    own: int
    failed: int
    estimated: int
    guessed: int
    unknown: int
    quality: Quality | None

    @property
    def compared(self) -> int:
        """For how many requests the two costs are."""
        return self.own + self.estimated

    @property
    def saved(self) -> int | None:
        """What the mind cost less than this member; negative: it cost more. None: unknown."""
        return self.cost - self.mind_cost if self.compared else None

    @property
    def part(self) -> Fraction | None:
        """That as a part of what this member costs; None if that is nothing or unknown."""
        return Fraction(self.cost - self.mind_cost, self.cost) if self.cost else None


class Alternative(Struct, frozen=True, kw_only=True):
    """A mind beside each of its members alone.

    `cost` and `paid` are of the `requests` that asked somebody and whose cost is known; `left_out`
    are the others. `best` is the member of the highest quality, of equals the cheapest; `cheapest`
    the cheapest that is not worse than that by more than the floor. Both are "" where too little
    is known.
    """

    mind: str
    requests: int
    left_out: int
    cost: int
    paid: int
    quality: Quality | None
    alone: tuple[Alone, ...]
    best: str
    cheapest: str

    def of(self, member: str) -> Alone:
        """That member alone."""
        return next(alone for alone in self.alone if alone.member == member)


def habits(bookings: Iterable[Booking]) -> Habits:
    """What is usual in the book: to be asked before `alternatives`."""
    said: dict[str, tuple[int, int]] = {}
    busy: dict[str, tuple[float, int]] = {}
    late: dict[str, list[Call]] = {}
    for body in bookings:
        for call in body.calls:
            words = measured(call).completion_tokens
            if call.ended == "finished" and words is not None:
                total, count = said.get(call.model, (0, 0))
                said[call.model] = total + words, count + 1
            if call.ended == "finished" and call.chip_seconds is not None:
                seconds, count = busy.get(call.model, (0.0, 0))
                busy[call.model] = seconds + call.chip_seconds, count + 1
        if body.late and (request := _request(body)):
            late.setdefault(request, []).extend(body.calls)
    tokens = sum(total for total, _ in said.values())
    count = sum(count for _, count in said.values())
    return Habits(
        said={name: half_even(total, count) for name, (total, count) in said.items()},
        busy={name: seconds / count for name, (seconds, count) in busy.items()},
        anyone=half_even(tokens, count) if count else None,
        late=late,
    )


def _request(body: Booking) -> str:
    """What the ids of all bookings of one request begin with; "" if it was booked late itself."""
    return body.id.rpartition("/late/")[0] if body.late else body.id.removesuffix("/end")


def alternatives(
    bookings: Iterable[Booking],
    minds: Mapping[str, Sequence[str]],
    prices: Mapping[str, Price | None],
    usual: Habits,
    *,
    known: Mapping[str, Quality] | None = None,
    scores: Scores | None = None,
    floor: float = 0.02,
) -> list[Alternative]:
    """Each of `minds` that answered anything in `bookings`, beside those members of it.

    Qualities are those `known` from a table of outcomes; without one, the means of `scores`, which
    rate only what callers were shown.
    """
    found = {mind: _Mind(mind, members, prices, usual) for mind, members in minds.items()}
    for body in bookings:
        if not body.late and body.mind in found:
            found[body.mind].add(body, scores or {})
    return [mind.alternative(known, floor) for mind in found.values() if mind.asked]


class _Mind:
    """One mind as far as its bookings have been read."""

    def __init__(
        self, name: str, members: Sequence[str], prices: Mapping[str, Price | None], usual: Habits
    ) -> None:
        self._name = name
        self._usual = usual
        self._alone = [_Alone(member, prices.get(member), usual) for member in members]
        self._requests = self._left_out = self._cost = self._paid = 0
        self._scores: dict[str, list[float]] = {}

    @property
    def asked(self) -> bool:
        return bool(self._requests or self._left_out)

    def add(self, body: Booking, scores: Scores) -> None:
        for name, score in scores.get((body.caller, body.request), {}).items():
            self._scores.setdefault(name, []).append(score)
        calls = (*body.calls, *self._usual.late.get(_request(body), ()))
        cost = total_cost(calls)
        if not calls or cost is None:
            self._left_out += 1
            return
        self._requests += 1
        self._cost += cost
        self._paid += charged(body.paid, body.held)
        question = _question(calls)
        for alone in self._alone:
            alone.add(calls, cost, question)

    def alternative(self, known: Mapping[str, Quality] | None, floor: float) -> Alternative:
        rated = {
            name: Quality(mean=sum(scores) / len(scores), count=len(scores))
            for name, scores in self._scores.items()
        }
        quality = rated if known is None else known
        alone = tuple(each.alone(quality.get(each.name)) for each in self._alone)
        best, cheapest = _chosen(alone, 1 if known is not None else FEWEST, floor)
        return Alternative(
            mind=self._name,
            requests=self._requests,
            left_out=self._left_out,
            cost=self._cost,
            paid=self._paid,
            quality=quality.get(self._name),
            alone=alone,
            best=best,
            cheapest=cheapest,
        )


class _Alone:
    """One member of a mind as far as the mind's bookings have been read."""

    def __init__(self, name: str, price: Price | None, usual: Habits) -> None:
        self.name = name
        self._price = price
        self._usual = usual
        self._cost = self._mind_cost = 0
        self._own = self._failed = self._estimated = self._unknown = 0

    def add(self, calls: Sequence[Call], mind_cost: int, question: Usage) -> None:
        own = _own(calls, self.name)
        cost = self._estimate(question) if own is None else own[0]
        if cost is None:
            self._unknown += 1
            return
        self._cost += cost
        self._mind_cost += mind_cost
        if own is None:
            self._estimated += 1
        else:
            self._own += 1
            self._failed += not own[1]

    def alone(self, quality: Quality | None) -> Alone:
        return Alone(
            member=self.name,
            cost=self._cost,
            mind_cost=self._mind_cost,
            own=self._own,
            failed=self._failed,
            estimated=self._estimated,
            guessed=0 if self.name in self._usual.said else self._estimated,
            unknown=self._unknown,
            quality=quality,
        )

    def _estimate(self, question: Usage) -> int | None:
        if self._price is None:
            return None
        usage = Usage(
            prompt_tokens=question.prompt_tokens,
            completion_tokens=self._usual.said.get(self.name, self._usual.anyone),
            images=question.images,
            media_ms=question.media_ms,
        )
        return self._price.cost(usage, self._usual.busy.get(self.name))


def _own(calls: Sequence[Call], name: str) -> tuple[int, bool] | None:
    """What asking only that member cost, and whether it answered: up to its first answer.

    Tries that were lost before it count; later calls, as a judge or again, do not. One that was
    abandoned tells nothing, as alone it would have been waited for.
    """
    mine = [call for call in calls if call.model == name and call.ended != "abandoned"]
    cost = 0
    for call in mine:
        if call.cost is None:
            return None
        cost += call.cost
        if call.ended == "finished":
            return cost, True
    return (cost, False) if mine else None


def _question(calls: Sequence[Call]) -> Usage:
    """What was asked, without the answers that a judge reads beside it: the least of any call."""
    usages = [measured(call) for call in calls]
    return Usage(
        prompt_tokens=_least(usage.prompt_tokens for usage in usages),
        images=_least(usage.images for usage in usages),
        media_ms=_least(usage.media_ms for usage in usages),
    )


def _least(amounts: Iterable[int | None]) -> int | None:
    """The least that is more than 0, as a call that was refused consumed nothing; else 0."""
    known = [amount for amount in amounts if amount is not None]
    return min(filter(None, known), default=0) if known else None


def _chosen(alone: Sequence[Alone], fewest: int, floor: float) -> tuple[str, str]:
    """The best, and the cheapest within the floor of it: compared by what a request costs."""
    rated = [
        (each.quality.mean, -_each(each), each.member)
        for each in alone
        if each.quality is not None and each.quality.count >= fewest and each.compared
    ]
    if not rated:
        return "", ""
    top, _, best = max(rated, key=lambda row: row[:2])
    good = [row for row in rated if row[0] >= top - floor]
    return best, max(good, key=lambda row: (row[1], row[0]))[2]


def _each(alone: Alone) -> Fraction:
    return Fraction(alone.cost, alone.compared)
