from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bicameral.chips.whole import Column, Room, Short, cover, knapsack

COLUMNS = st.lists(
    st.builds(
        Column,
        pool=st.integers(0, 1),
        chips=st.sampled_from([1, 2, 4]),
        cost=st.integers(0, 9),
        covers=st.tuples(st.integers(0, 4).map(float), st.integers(0, 4).map(float)).filter(any),
    ),
    min_size=1,
    max_size=4,
)
ROOMS = [Room(((1, 5), (2, 4), (4, 4))), Room(((1, 3), (2, 2), (4, 0)))]


def brute(columns: list[Column], demand: tuple[float, float]) -> int | None:
    """Every way, tried."""
    best = None
    for counts in product(range(6), repeat=len(columns)):
        pairs = list(zip(counts, columns, strict=True))
        fits = all(
            sum(n * c.chips for n, c in pairs if c.pool == k and c.chips >= size) <= most
            for k, room in enumerate(ROOMS)
            for size, most in room.limits
        )
        if fits and all(sum(n * c.covers[r] for n, c in pairs) >= demand[r] for r in (0, 1)):
            cost = sum(n * c.cost for n, c in pairs)
            best = cost if best is None else min(best, cost)
    return best


@settings(deadline=None, max_examples=80)
@given(columns=COLUMNS, demand=st.tuples(st.integers(1, 9), st.integers(1, 9)))
def test_nothing_whole_costs_less(columns: list[Column], demand: tuple[int, int]) -> None:
    wanted = (float(demand[0]), float(demand[1]))
    least = brute(columns, wanted)
    if least is None:
        with pytest.raises(Short):
            cover(columns, wanted, ROOMS)
        return
    found = cover(columns, wanted, ROOMS)
    assert found.exact
    assert found.cost == least
    assert found.bound <= least * (1 + 1e-6) + 1e-6


def test_the_gap_is_what_is_not_known() -> None:
    columns = [Column(0, 1, 7 + i, (1.0 + i / 7,)) for i in range(6)]
    found = cover(columns, [37.0], [Room(((1, 100),))], tried=1)
    assert not found.exact
    assert 0 <= found.gap < 0.1
    assert cover(columns, [37.0], [Room(((1, 100),))]).cost <= found.cost


def test_a_knapsack_is_whole() -> None:
    assert knapsack([(10.0, 4.0), (3.0, 1.0)], 5.0) == 13
    assert knapsack([(10.0, 4.0)], 5.0) == 20
