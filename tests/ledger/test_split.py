"""What is shared out adds up, and over time everybody gets what is due, to the unit."""

from __future__ import annotations

import random
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bicameral.errors import LedgerError
from bicameral.ledger.split import entitled, owing, split

NAMES = "abcdefgh"
WEIGHTS = st.dictionaries(st.sampled_from(NAMES), st.integers(0, 10**6), min_size=1).filter(
    lambda weights: any(weights.values())
)


def paid_out(amounts, weights):
    """What is owed to each after every payment by the same weights."""
    owed: dict[str, Fraction] = {}
    for amount in amounts:
        shares = split(amount, weights, owed)
        assert sum(shares.values()) == amount
        assert min(shares.values()) >= 0
        for name, due in entitled(amount, weights).items():
            owed[name] = owed.get(name, Fraction(0)) + due - shares[name]
        yield owed


def test_a_hundred_thousand_small_payments_starve_nobody():
    draw = random.Random(7)
    amounts = [draw.randint(1, 9) for _ in range(100_000)]
    weights = {"a": 4, "b": 3, "c": 2, "d": 1}
    tenths = dict.fromkeys(weights, 0)
    for amount in amounts:
        shares = split(amount, weights, {n: Fraction(rest, 10) for n, rest in tenths.items()})
        assert sum(shares.values()) == amount
        for name, weight in weights.items():
            tenths[name] += amount * weight - 10 * shares[name]
        assert all(-10 < rest < 10 for rest in tenths.values())


@given(WEIGHTS, st.lists(st.integers(0, 30), max_size=60))
def test_by_the_same_weights_nobody_is_ever_a_unit_off(weights, amounts):
    for owed in paid_out(amounts, weights):
        assert all(abs(rest) < 1 for rest in owed.values())


def test_where_the_largest_remainder_would_owe_two_the_same_unit():
    """There it ends with two whole units due and one to give."""
    weights = {"a": 1, "b": 12, "c": 21, "d": 1, "e": 9, "f": 1}
    amounts = [2, 1, 1, 1, 1, 2, 2, 1, 2, 1, 1, 1, 1, 2, 1, 2, 2, 2, 1, 1, 1, 1]
    for owed in paid_out(amounts, weights):
        assert all(abs(rest) < 1 for rest in owed.values())


@given(st.lists(st.tuples(st.integers(0, 10**12), WEIGHTS), max_size=30))
def test_weights_may_change_and_it_still_adds_up(payments):
    owed: dict[str, Fraction] = {}
    pasts = []
    for amount, weights in payments:
        shares = split(amount, weights, owed)
        assert sum(shares.values()) == amount
        assert min(shares.values()) >= 0
        pasts.append((amount, weights, shares))
        owed = owing(pasts)
        assert sum(owed.values()) == 0
        assert all(abs(rest) < len(NAMES) for rest in owed.values())


def test_a_weight_of_zero_gets_nothing():
    assert split(1001, {"a": 1, "b": 0, "c": 1}) == {"a": 501, "b": 0, "c": 500}


def test_the_same_every_time_whatever_the_order_of_names():
    assert split(2, {"b": 1, "a": 1, "c": 1}) == split(2, {"c": 1, "a": 1, "b": 1})


@pytest.mark.parametrize(
    ("amount", "weights"), [(5, {"a": 0}), (5, {}), (-1, {"a": 1}), (1, {"a": 2, "b": -1})]
)
def test_what_cannot_be_shared_out_is_refused(amount, weights):
    with pytest.raises(LedgerError):
        split(amount, weights)


def test_nothing_is_shared_out_among_nobody():
    assert split(0, {"a": 0}) == {"a": 0}
