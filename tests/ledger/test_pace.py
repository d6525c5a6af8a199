"""A minute's limits: never more within any 60 seconds, whatever was asked when."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from bicameral.errors import LimitError
from bicameral.ledger.keys import Limits, make
from bicameral.ledger.pace import WINDOW, Pace, Quota


class Clock:
    """Seconds that pass when they are told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def keyed(**limits: int):
    return make("a", limits=Limits(**limits))[1]


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def pace(clock):
    return Pace(clock)


def test_requests_are_counted_within_any_minute(pace, clock):
    key = keyed(requests_per_minute=2)
    pace.admit(key, None)
    clock.now += 45
    pace.admit(key, None)
    with pytest.raises(LimitError, match=r"2 requests a minute.*15\.0 s") as caught:
        pace.admit(key, None)
    assert (caught.value.limit, caught.value.spent) == ("requests_per_minute", False)
    assert caught.value.resets == pytest.approx(15)
    clock.now += caught.value.resets
    pace.admit(key, None)
    with pytest.raises(LimitError) as caught:
        pace.admit(key, None)
    assert caught.value.resets == pytest.approx(45)


def test_tokens_are_reserved_and_then_what_they_were(pace, clock):
    key = keyed(tokens_per_minute=100)
    ticket = pace.admit(key, 80)
    with pytest.raises(LimitError, match="max_tokens") as caught:
        pace.admit(key, 30)
    assert (caught.value.limit, caught.value.resets) == ("tokens_per_minute", 1.0)
    pace.settle(ticket, 20)
    pace.settle(pace.admit(key, 80), 80)
    clock.now += 10
    with pytest.raises(LimitError) as caught:
        pace.admit(key, 10)
    assert caught.value.resets == pytest.approx(50)


def test_what_is_not_known_stays_reserved_and_is_forgotten_after_a_minute(pace, clock):
    key = keyed(tokens_per_minute=100)
    pace.settle(pace.admit(key, 100), None)
    with pytest.raises(LimitError):
        pace.admit(key, 1)
    clock.now += WINDOW
    pace.settle(pace.admit(key, 100), 5)
    assert pace.quota(key, "tokens") == Quota(limit=100, remaining=95, resets=WINDOW)


@pytest.mark.parametrize("bound", [None, 101, 10**9])
def test_one_that_may_take_more_than_the_limit_runs_alone(pace, bound):
    key = keyed(tokens_per_minute=100)
    for _ in range(3):
        ticket = pace.admit(key, bound)
        for other in (1, bound):
            with pytest.raises(LimitError):
                pace.admit(key, other)
        pace.settle(ticket, 30)
    pace.settle(pace.admit(key, bound), 500)
    with pytest.raises(LimitError):
        pace.admit(key, bound)


def test_what_ends_after_its_minute_is_not_counted_twice(pace, clock):
    key = keyed(tokens_per_minute=100)
    ticket = pace.admit(key, 100)
    clock.now += WINDOW
    other = pace.admit(key, 40)
    pace.settle(ticket, 90)
    pace.settle(other, 40)
    assert pace.quota(key, "tokens").remaining == 60


def test_keys_do_not_count_against_each_other_and_most_have_no_limit(pace):
    a, b = keyed(requests_per_minute=1), keyed(requests_per_minute=1)
    assert pace.admit(a, None)
    assert pace.admit(b, None)
    free = keyed(day_money=5)
    assert pace.admit(free, None) is None
    assert pace.quota(free, "requests") is None
    assert pace.quota(keyed(requests_per_minute=3), "requests").remaining == 3


def test_a_limit_that_was_lowered_holds_at_once(pace):
    key = keyed(requests_per_minute=5)
    for _ in range(4):
        pace.admit(key, None)
    with pytest.raises(LimitError):
        pace.admit(replace(key, limits=Limits(requests_per_minute=3)), None)


@given(
    st.lists(
        st.tuples(
            st.floats(0, 40),
            st.integers(0, 120) | st.none(),
            st.floats(0, 1) | st.none(),
            st.booleans(),
        ),
        max_size=60,
    )
)
def test_no_minute_ever_holds_more_than_the_limits(steps):
    """Each step: seconds that pass, the bound, the part of it used, whether at once or later."""
    clock = Clock()
    pace, key = Pace(clock), keyed(requests_per_minute=5, tokens_per_minute=100)
    running, took = [], []
    for seconds, bound, part, later in steps:
        clock.now += seconds
        try:
            ticket = pace.admit(key, bound)
        except LimitError:
            continue
        used = None if part is None else int(part * ticket.tokens)
        took.append((clock.now, ticket, used))
        running.append((ticket, used))
        if not later:
            while running:
                pace.settle(*running.pop())
    starts = Counter()
    for at, _, _ in took:
        within = [(t, used) for then, t, used in took if at - WINDOW < then <= at]
        starts[at] = len(within)
        assert sum(t.tokens if used is None else used for t, used in within) <= 100
    assert max(starts.values(), default=0) <= 5
