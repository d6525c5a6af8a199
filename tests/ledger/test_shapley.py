"""Shapley values: the axioms, by hand and at random."""

from __future__ import annotations

from itertools import permutations
from math import factorial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bicameral.ledger.shapley import exact, sampled, weights


@st.composite
def games(draw, players=None):
    n = draw(st.integers(1, 4)) if players is None else players
    values = draw(st.lists(st.integers(-50, 1000), min_size=2**n - 1, max_size=2**n - 1))
    return [0, *values]


def by_definition(values):
    n = len(values).bit_length() - 1
    sums = [0] * n
    for order in permutations(range(n)):
        mask = 0
        for i in order:
            sums[i] += values[mask | 1 << i] - values[mask]
            mask |= 1 << i
    return tuple(sums)


def test_the_glove_game():
    """One left glove, two right ones: a pair is worth 6. The textbook's 4, 1, 1."""
    values = [0, 0, 0, 6, 0, 6, 0, 6]
    assert exact(values) == tuple(6 * value for value in (4, 1, 1))


@given(games())
def test_it_is_the_mean_over_all_orders_and_shares_out_everything(values):
    found = exact(values)
    assert found == by_definition(values)
    assert sum(found) == factorial(len(found)) * values[-1]


@given(games(players=3))
def test_who_adds_nothing_gets_exactly_nothing_and_changes_nobodys_share(values):
    with_dummy = [*values, *values]
    assert exact(with_dummy) == (*(4 * value for value in exact(values)), 0)
    assert sampled(4, with_dummy.__getitem__, 20)[0][3] == 0


@given(games(players=3), games(players=3))
def test_two_games_together_are_worth_their_sum(some, more):
    both = [a + b for a, b in zip(some, more, strict=True)]
    assert exact(both) == tuple(a + b for a, b in zip(exact(some), exact(more), strict=True))


@given(games(players=4), st.integers(0, 99))
def test_sampled_orders_share_out_everything_too(values, seed):
    sums, errors = sampled(4, values.__getitem__, 10, seed)
    assert sum(sums) == 10 * values[-1]
    assert sampled(4, values.__getitem__, 10, seed) == (sums, errors)


def test_the_stated_error_covers_what_is_exact():
    values = [mask.bit_count() ** 2 * 10 + mask % 7 if mask else 0 for mask in range(2**6)]
    inside = 0
    for seed in range(50):
        sums, errors = sampled(6, values.__getitem__, 100, seed)
        for total, error, true in zip(sums, errors, exact(values), strict=True):
            inside += abs(total / 100 - true / factorial(6)) <= 2 * error / 100
    assert inside >= 0.9 * 50 * 6


def test_no_doubt_no_error():
    values = [mask.bit_count() for mask in range(8)]
    assert sampled(3, values.__getitem__, 5) == ((5, 5, 5), (0, 0, 0))


def test_weights_are_floored_and_as_small_as_can_be():
    assert weights((12, -3, 18)) == (2, 0, 3)
    assert weights((0, -1)) == (0, 0)


@pytest.mark.parametrize("values", [[], [0, 1, 2], [1, 2]])
def test_what_is_no_game_is_refused(values):
    with pytest.raises(ValueError, match="all 2"):
        exact(values)


def test_one_order_has_no_error():
    with pytest.raises(ValueError, match="two orders"):
        sampled(2, [0, 1, 1, 2].__getitem__, 1)
