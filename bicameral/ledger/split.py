"""Shares out whole units by weights, so that nothing is lost and nobody is starved over time.

What is rounded now is made up for later: `owed` carries what each was entitled to before and did
not get. Whole units that are due are paid; those left over go to whom the next one is due soonest
(earliest deadline first, Liu and Layland 1973, over entitlements as Baruah and others 1996). The
largest remainder, which is simpler, sometimes owes two a unit when there is one to give.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from fractions import Fraction

from bicameral.errors import LedgerError

Owed = Mapping[str, Fraction]


def entitled(amount: int, weights: Mapping[str, int]) -> dict[str, Fraction]:
    """Each one's exact part of `amount`; LedgerError if nobody has a weight, or one is negative."""
    total = _total(amount, weights)
    return {name: Fraction(amount * weight, total) for name, weight in weights.items()}


def split(amount: int, weights: Mapping[str, int], owed: Owed | None = None) -> dict[str, int]:
    """The units of `amount` for each name, summing to it exactly, none negative.

    Paid so again and again by the same weights, everybody is at every time within one unit of
    what it is entitled to; where weights change, within as many units as there are names.
    """
    if amount < 0:
        raise LedgerError("what is shared out cannot be negative")
    due, unit = _due(amount, weights, owed or {})
    paid = {name: max(0, parts // unit) for name, parts in due.items()}
    left = {name: parts - paid[name] * unit for name, parts in due.items()}
    spare = amount - sum(paid.values())
    if spare < 0:
        _take_back(-spare, left, paid, unit)
    else:
        for name in _soonest(left, weights, unit)[:spare]:
            paid[name] += 1
    return paid


def owing(pasts: Iterable[tuple[int, Mapping[str, int], Mapping[str, int]]]) -> dict[str, Fraction]:
    """What is owed after payments of (amount, weights, what was paid to each)."""
    owed: dict[str, Fraction] = {}
    for amount, weights, paid in pasts:
        for name, part in entitled(amount, weights).items():
            owed[name] = owed.get(name, Fraction(0)) + part
        for name, units in paid.items():
            owed[name] = owed.get(name, Fraction(0)) - units
    return owed


def _due(amount: int, weights: Mapping[str, int], owed: Owed) -> tuple[dict[str, int], int]:
    """What each is due, and what a unit is, both in the same small parts of one."""
    total = _total(amount, weights)
    unit = math.lcm(total, *(rest.denominator for rest in owed.values()))
    due = {name: amount * weight * (unit // total) for name, weight in weights.items()}
    for name, rest in owed.items():
        due[name] = due.get(name, 0) + rest.numerator * (unit // rest.denominator)
    return due, unit


def _total(amount: int, weights: Mapping[str, int]) -> int:
    if any(weight < 0 for weight in weights.values()):
        raise LedgerError("a weight is negative, and nobody pays in for contributing")
    total = sum(weights.values())
    if not total and amount:
        raise LedgerError("nobody has a weight, so there is nobody to share it among")
    return total or 1


def _soonest(left: Mapping[str, int], weights: Mapping[str, int], unit: int) -> list[str]:
    """Who is owed part of a unit, by when it will be a whole one; then the larger; then by name."""

    def deadline(name: str) -> tuple[bool, Fraction, int, str]:
        weight = weights.get(name, 0)
        return not weight, Fraction(unit - left[name], weight or 1), -left[name], name

    return sorted((name for name in left if left[name] > 0), key=deadline)


def _take_back(units: int, left: dict[str, int], paid: dict[str, int], unit: int) -> None:
    """More is due than there is: who is owed least beyond its whole units waits."""
    for _ in range(units):
        name = min((n for n in paid if paid[n]), key=lambda n: (left[n], n))
        paid[name] -= 1
        left[name] += unit
