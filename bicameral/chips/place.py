"""Which kind of chip should do which stage: pools of unlike chips, requests of several stages.

Perception and reasoning need unlike arithmetic, so a chip that is slower at both may still be
worth having for one of them (comparative advantage). Whether that pays is a linear programme; the
same chips as replicas, each doing everything, are always among the answers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction
from itertools import product
from math import comb, prod

import msgspec

from bicameral.chips.linear import maximise
from bicameral.errors import ConfigError

# A split that gains less than this is not worth its second set of weights and its transfers.
WORTH = Fraction(3, 100)
_SEARCHED = 100_000


class Stage(msgspec.Struct, frozen=True):
    """One stage of a request, and how much of it a request has (tokens, frames, ...)."""

    name: str
    amount: float


class Pool(msgspec.Struct, frozen=True):
    """`count` chips (or nodes) of a kind; `rates`: what one does of each stage in a second.

    In the order of the stages, in the unit of their amounts; 0: it cannot.
    """

    kind: str
    count: int
    rates: tuple[float, ...]


class Share(msgspec.Struct, frozen=True):
    """How many chips of a kind work for a stage; a fraction shares a chip's time."""

    kind: str
    stage: str
    chips: float


class Plan(msgspec.Struct, frozen=True):
    """A way to place the stages, and the requests a second that it can take."""

    name: str
    rate: float
    shares: tuple[Share, ...]


class Placement(msgspec.Struct, frozen=True):
    """The plan to take, all that were considered, and what it gains over replicas.

    `replicas`: every chip does everything (those that can). `whole`: each chip does one stage;
    None if there are too many ways to try. `shared`: chips may share their time; no plan is
    better. `gain`: the rate of the better of the two over that of the replicas, None if those take
    no requests at all.
    """

    best: Plan
    replicas: Plan
    whole: Plan | None
    shared: Plan
    gain: float | None
    why: str


def place(stages: Sequence[Stage], pools: Sequence[Pool]) -> Placement:
    """The best placement; in doubt the replicas, which need no transfer and no second cut.

    Raises ConfigError if a number is senseless or no chip can do some stage.
    """
    _check(stages, pools)
    replicas, shared, whole = _replicas(stages, pools), _shared(stages, pools), None
    if _ways(stages, pools) <= _SEARCHED:
        whole = _whole(stages, pools)
    gain = shared.rate / replicas.rate if replicas.rate else None
    splits = gain is None or gain >= 1 + WORTH
    best = shared if splits else replicas
    if splits and whole and whole.rate >= shared.rate * float(1 - WORTH):
        best = whole
    return Placement(best, replicas, whole, shared, gain, _why(gain, best, pools))


def _check(stages: Sequence[Stage], pools: Sequence[Pool]) -> None:
    for pool in pools:
        if len(pool.rates) != len(stages) or min(pool.rates, default=0) < 0 or pool.count < 0:
            raise ConfigError(f"{pool.kind}: give a count and one rate >= 0 for each stage")
    for i, stage in enumerate(stages):
        if stage.amount <= 0:
            raise ConfigError(f"{stage.name}: the amount of a stage must be above 0")
        if not any(pool.count and pool.rates[i] for pool in pools):
            raise ConfigError(f"no chip of the pools can do {stage.name}")


def _alone(stages: Sequence[Stage], pool: Pool) -> Fraction:
    """Requests a second of one chip that does everything."""
    if not all(pool.rates):
        return Fraction(0)
    each = zip(stages, pool.rates, strict=True)
    return 1 / sum((Fraction(s.amount) / Fraction(r) for s, r in each), Fraction(0))


def _replicas(stages: Sequence[Stage], pools: Sequence[Pool]) -> Plan:
    rate, shares = Fraction(0), []
    for pool in pools:
        alone = _alone(stages, pool)
        rate += alone * pool.count
        shares += [
            Share(pool.kind, s.name, float(pool.count * alone * Fraction(s.amount) / Fraction(r)))
            for s, r in zip(stages, pool.rates, strict=True)
            if alone and pool.count
        ]
    return Plan("replicas", float(rate), tuple(shares))


def _shared(stages: Sequence[Stage], pools: Sequence[Pool]) -> Plan:
    """The linear programme: requests a second, and the time of each kind for each stage."""
    cells = [(i, j) for i in range(len(pools)) for j in range(len(stages))]
    time = [[Fraction(0), *(Fraction(i == k) for i, _ in cells)] for k in range(len(pools))]
    work = [
        [Fraction(s.amount), *(-Fraction(pools[i].rates[j]) * (j == k) for i, j in cells)]
        for k, s in enumerate(stages)
    ]
    limits = [Fraction(p.count) for p in pools] + [Fraction(0)] * len(stages)
    rate, found = maximise([Fraction(1), *[Fraction(0)] * len(cells)], time + work, limits)
    shares = tuple(
        Share(pools[i].kind, stages[j].name, float(chips))
        for (i, j), chips in zip(cells, found[1:], strict=True)
        if chips
    )
    return Plan("shared", float(rate), shares)


def _ways(stages: Sequence[Stage], pools: Sequence[Pool]) -> int:
    return prod(comb(p.count + len(stages) - 1, len(stages) - 1) for p in pools)


def _splits(count: int, parts: int) -> Iterator[tuple[int, ...]]:
    """Every way to give `count` chips to `parts` stages."""
    if parts == 1:
        yield (count,)
        return
    for first in range(count + 1):
        for rest in _splits(count - first, parts - 1):
            yield (first, *rest)


def _whole(stages: Sequence[Stage], pools: Sequence[Pool]) -> Plan:
    """The best of all ways to give every chip to one stage."""

    def rate(way: tuple[tuple[int, ...], ...]) -> float:
        return min(
            sum(chips[j] * p.rates[j] for chips, p in zip(way, pools, strict=True)) / s.amount
            for j, s in enumerate(stages)
        )

    best = max(product(*(_splits(p.count, len(stages)) for p in pools)), key=rate)
    shares = tuple(
        Share(p.kind, s.name, float(n))
        for chips, p in zip(best, pools, strict=True)
        for s, n in zip(stages, chips, strict=True)
        if n
    )
    return Plan("whole", rate(best), shares)


def _why(gain: float | None, best: Plan, pools: Sequence[Pool]) -> str:
    if gain is None:
        return "no chip can do every stage, so there are no replicas to compare with"
    if best.name != "replicas":
        return f"placed apart the stages take up to {gain:.2f}x the requests of replicas"
    if len({p.rates for p in pools if p.count}) <= 1:
        return "the chips are alike: a split gains nothing over as many replicas"
    return f"a split gains at most {gain - 1:.1%}, too little for a second cut: take replicas"
