"""Shapley values in whole numbers: what each player adds, on average over all orders of joining.

L. S. Shapley, A value for n-person games, 1953. A set of players is an integer: player i is in it
where bit i is 1. Values are integers, and so is all arithmetic, so who adds nothing to any set gets
exactly 0.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from math import factorial, gcd, isqrt

Value = Callable[[int], int]


def exact(values: Sequence[int]) -> tuple[int, ...]:
    """Each player's Shapley value times n!, from the values of all 2^n sets in order."""
    players = len(values).bit_length() - 1
    if not values or len(values) != 1 << players or values[0] != 0:
        raise ValueError("values must be those of all 2^n sets, that of nobody being 0")
    times = [factorial(k) * factorial(players - k - 1) for k in range(players)]
    return tuple(
        sum(
            times[mask.bit_count()] * (values[mask | 1 << i] - values[mask])
            for mask in range(len(values))
            if not mask >> i & 1
        )
        for i in range(players)
    )


def sampled(
    players: int, value: Value, orders: int, seed: int = 0
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Each player's marginal values summed over random orders, and the sums' standard errors.

    Castro, Gomez and Tejada, Polynomial calculation of the Shapley value based on sampling, 2009.
    Divided by `orders` they estimate the Shapley values; they sum to `orders` times the value of
    all players exactly. The same seed gives the same. At least two orders.
    """
    if orders < 2:
        raise ValueError("an error can be stated from two orders on")
    draw = random.Random(seed)  # noqa: S311
    sums, squares = [0] * players, [0] * players
    for _ in range(orders):
        order = list(range(players))
        draw.shuffle(order)
        mask = before = 0
        for i in order:
            mask |= 1 << i
            after = value(mask)
            sums[i] += after - before
            squares[i] += (after - before) ** 2
            before = after
    return tuple(sums), tuple(_error(s, q, orders) for s, q in zip(sums, squares, strict=True))


def weights(values: Sequence[int]) -> tuple[int, ...]:
    """Values as weights: below 0 counts as 0, and what divides them all is left out."""
    floored = [max(0, value) for value in values]
    common = gcd(*floored) or 1
    return tuple(value // common for value in floored)


def _error(total: int, squares: int, count: int) -> int:
    """The standard error of a sum of `count` draws, rounded up: the root of count x variance."""
    variance = count * squares - total * total  # times count x (count - 1) / count
    return isqrt(max(0, variance - 1) // (count - 1)) + 1 if variance > 0 else 0
