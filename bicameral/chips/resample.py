"""What repeats can tell: intervals by resampling, exact tests, and a correction for many of them.

Pure Python, as a bake-off has to run where nothing else is installed.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Mapping, Sequence
from statistics import NormalDist

from msgspec import Struct

LEVEL = 0.95
_BLOCK = tuple[int, float]
Plan = Sequence[tuple[_BLOCK, Sequence[int]]]
"""Blocks as (repeat, rate), and which of their requests count, some of them several times."""


class Interval(Struct, frozen=True):
    """A value and its interval; None where it is not reached, as a percentile that failed."""

    value: float | None
    low: float | None = None
    high: float | None = None


def plans(counts: Mapping[_BLOCK, int], times: int, seed: str) -> Iterator[Plan]:
    """Resamples of a contest, the same for everyone in it, so that differences stay paired.

    Repeats are drawn first: one fewer than there are, which keeps the variance between so few of
    them unbiased (Rao and Wu 1988). Within a block runs of neighbours are drawn, as requests that
    queue behind each other are alike (Künsch 1989).
    """
    drawn = random.Random(seed)  # noqa: S311 - statistics, no secret
    repeats = sorted({repeat for repeat, _ in counts})
    by_repeat = {r: [block for block in counts if block[0] == r] for r in repeats}
    for _ in range(times):
        chosen = drawn.choices(repeats, k=max(1, len(repeats) - 1))
        yield [
            (block, _runs(counts[block], drawn)) for repeat in chosen for block in by_repeat[repeat]
        ]


def _runs(count: int, drawn: random.Random) -> list[int]:
    """`count` of the numbers below it, in runs of about its root, around the end as well."""
    length = max(1, math.isqrt(count))
    found: list[int] = []
    while len(found) < count:
        start = drawn.randrange(count)
        found += [(start + step) % count for step in range(min(length, count - len(found)))]
    return found


def percentile(ordered: Sequence[float], share: float) -> float:
    """The smallest of them that `share` of them do not exceed; they are in order."""
    return ordered[min(len(ordered) - 1, max(0, math.ceil(share * len(ordered)) - 1))]


def between(resampled: Sequence[float]) -> tuple[float, float]:
    """The middle 95 % of them."""
    ordered = sorted(resampled)
    tail = (1 - LEVEL) / 2
    return percentile(ordered, tail), percentile(ordered, 1 - tail)


def chance(resampled: Sequence[float], none: float) -> float:
    """How probable so clear a difference would be if there was none: two-sided, never 0."""
    below = sum(value <= none for value in resampled)
    above = sum(value >= none for value in resampled)
    return min(1.0, 2 * (min(below, above) + 1) / (len(resampled) + 1))


def holm(chances: Sequence[float]) -> tuple[float, ...]:
    """Each corrected for there being others, so that one wrong claim in all is rare (Holm 1979)."""
    order = sorted(range(len(chances)), key=chances.__getitem__)
    fixed, most = [0.0] * len(chances), 0.0
    for place, index in enumerate(order):
        most = max(most, min(1.0, (len(chances) - place) * chances[index]))
        fixed[index] = most
    return tuple(fixed)


def sign_test(wins: int, losses: int) -> float:
    """Two-sided and exact: how probable so uneven a split is between two that are equal."""
    count, few = wins + losses, min(wins, losses)
    tail = sum(math.comb(count, k) for k in range(few + 1))
    return min(1.0, float(2 * tail / 2**count))


def share(right: int, asked: int) -> Interval:
    """A share and its 95 % interval (Wilson 1927)."""
    if not asked:
        return Interval(None)
    z = NormalDist().inv_cdf(0.5 + LEVEL / 2)
    middle = (right + z * z / 2) / (asked + z * z)
    half = z / (asked + z * z) * math.sqrt(right * (asked - right) / asked + z * z / 4)
    return Interval(right / asked, max(0.0, middle - half), min(1.0, middle + half))


def matched(wins: int, losses: int, count: int, among: int = 1) -> Interval:
    """The difference of two shares of the same `count` tasks, and its interval.

    `wins`: only the first was right. Half a task is added to each of the four cells (Agresti and
    Min 2005); `among` so many comparisons all intervals hold together (Bonferroni).
    """
    if not count:
        return Interval(None)
    z = NormalDist().inv_cdf(1 - (1 - LEVEL) / 2 / among)
    total, apart = count + 2, wins - losses
    middle = apart / total
    half = z * math.sqrt(wins + losses + 1 - apart**2 / total) / total
    return Interval((wins - losses) / count, max(-1.0, middle - half), min(1.0, middle + half))
