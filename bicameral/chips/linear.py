"""Small linear programmes, solved exactly in fractions."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

Row = list[Fraction]


def maximise(
    gain: Sequence[Fraction], rows: Sequence[Sequence[Fraction]], limits: Sequence[Fraction]
) -> tuple[Fraction, tuple[Fraction, ...]]:
    """The most of `gain` x over x >= 0 with `rows` x <= `limits` (none below 0), and one such x.

    The simplex method with Bland's rule (1977), which ends on every input. Raises ValueError if
    a limit is negative or the gain has no bound.
    """
    if min(limits, default=Fraction(0)) < 0:
        raise ValueError("limits must not be negative: x = 0 has to be allowed")
    count, width = len(limits), len(gain)
    table = [
        [*map(Fraction, row), *(Fraction(i == j) for j in range(count)), Fraction(limit)]
        for i, (row, limit) in enumerate(zip(rows, limits, strict=True))
    ]
    goal = [*(-Fraction(g) for g in gain), *[Fraction(0)] * (count + 1)]
    base = list(range(width, width + count))
    while (enters := next((j for j, g in enumerate(goal[:-1]) if g < 0), None)) is not None:
        leaves = _leaving(table, base, enters)
        _pivot(table, goal, leaves, enters)
        base[leaves] = enters
    found = dict(zip(base, (row[-1] for row in table), strict=True))
    return goal[-1], tuple(found.get(j, Fraction(0)) for j in range(width))


def _leaving(table: Sequence[Row], base: Sequence[int], enters: int) -> int:
    """The row that first stops the entering variable; among ties, that of the lowest variable."""
    stops = [(row[-1] / row[enters], base[i], i) for i, row in enumerate(table) if row[enters] > 0]
    if not stops:
        raise ValueError("the gain has no bound")
    return min(stops)[2]


def _pivot(table: list[Row], goal: Row, leaves: int, enters: int) -> None:
    scale = table[leaves][enters]
    table[leaves] = [x / scale for x in table[leaves]]
    pivot = table[leaves]
    for row in (*(r for i, r in enumerate(table) if i != leaves), goal):
        if factor := row[enters]:
            row[:] = [x - factor * p for x, p in zip(row, pivot, strict=True)]
