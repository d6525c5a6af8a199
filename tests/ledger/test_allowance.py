"""What the limits of a key leave: never more than the tightest, and the message names it."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bicameral.errors import LimitError
from bicameral.ledger.allowance import allowed
from bicameral.ledger.entry import today
from bicameral.ledger.keys import Limits, make

NOON = int(datetime(2026, 2, 27, 12, tzinfo=UTC).timestamp() * 1000)
AMOUNT = st.integers(0, 10**10)
NAMES = tuple(
    f"{window}_{unit}"
    for unit in ("money", "tokens")
    for window in ("request", "day", "month", "ever")
)
LIMITS = st.builds(
    Limits, **dict.fromkeys(NAMES, st.none() | AMOUNT), prepaid=st.booleans()
)  # fmt: skip


def ask(limits: Limits, tallies=None, least=10, most=100, tokens=0, now=NOON):
    key = make("alice", limits=limits)[1]
    named = {name.replace("KEY", key.id): amount for name, amount in (tallies or {}).items()}
    return allowed(lambda name: named.get(name, 0), key, least, most, tokens, today(now), now)


def refused(*args, **fields) -> LimitError:
    with pytest.raises(LimitError) as caught:
        ask(*args, **fields)
    return caught.value


def test_without_limits_all_of_it_is_granted():
    assert ask(Limits()) == 100
    assert ask(Limits(), most=None) is None


def test_the_tightest_limit_counts():
    tallies = {"spent/KEY/money/2026-02-27": 30, "spent/KEY/money/2026-02": 60}
    assert ask(Limits(day_money=100, month_money=150), tallies) == 70
    assert ask(Limits(day_money=100, month_money=110), tallies) == 50
    assert ask(Limits(day_money=100, request_money=20), tallies) == 20


def test_what_is_used_up_says_which_limit_and_when_it_is_renewed():
    tallies = {"spent/KEY/money/2026-02-27": 95}
    error = refused(Limits(day_money=100), tallies)
    assert (error.limit, error.spent, error.resets) == ("day_money", True, 12 * 3600)
    assert "day budget of the key alice" in str(error)
    assert "12.0 h" in str(error)
    error = refused(Limits(month_tokens=9), {"spent/KEY/tokens/2026-02": 4}, tokens=6)
    assert (error.limit, error.resets) == ("month_tokens", 1.5 * 86_400)
    error = refused(Limits(ever_money=50), {"spent/KEY/money/ever": 41})
    assert (error.limit, error.resets) == ("ever_money", None)


def test_what_running_requests_hold_is_soon_free():
    error = refused(Limits(day_money=100), {"held/KEY/money": 95})
    assert (error.limit, error.spent, error.resets) == ("day_money", False, 1.0)
    error = refused(Limits(day_money=100), {"held/KEY/money": 50, "spent/KEY/money/2026-02-27": 95})
    assert error.spent


@pytest.mark.parametrize("window", ["request", "day", "month", "ever"])
def test_one_request_that_is_too_dear_by_itself_is_told_what_to_do(window):
    error = refused(Limits(**{f"{window}_money": 2000}), least=2001, most=9999)
    assert (error.limit, error.resets) == (f"{window}_money", None)
    assert "$0.000002, this request needs $0.000002001: set a lower max_tokens" in str(error)


def test_prepaid_spends_what_was_paid_in():
    assert refused(Limits(prepaid=True)).limit == "prepaid_money"
    assert ask(Limits(prepaid=True), {"account/caller/KEY": 40}) == 40
    assert ask(Limits(prepaid=True), {"account/caller/KEY": 40, "held/KEY/money": 5}) == 35


def test_what_is_free_is_granted_even_when_all_is_spent():
    assert ask(Limits(day_money=5), {"spent/KEY/money/2026-02-27": 9}, least=0) == 0


def test_another_day_and_month_have_budgets_of_their_own():
    tallies = {"spent/KEY/money/2026-02-27": 100, "spent/KEY/money/2026-02": 100}
    limits = Limits(day_money=100, month_money=150)
    refused(limits, tallies)
    assert ask(limits, tallies, now=NOON + 86_400_000) == 50
    assert ask(limits, tallies, now=NOON + 3 * 86_400_000) == 100


@given(LIMITS, st.dictionaries(st.sampled_from(("day", "month", "ever", "paid", "held")), AMOUNT),
       AMOUNT, AMOUNT, AMOUNT)  # fmt: skip
def test_no_limit_is_ever_exceeded(limits, stands, least, more, tokens):
    windows = {"day": "2026-02-27", "month": "2026-02", "ever": "ever"}
    tallies = {"account/caller/KEY": stands.get("paid", 0)}
    for unit in ("money", "tokens"):
        tallies[f"held/KEY/{unit}"] = stands.get("held", 0)
        for window, name in windows.items():
            tallies[f"spent/KEY/{unit}/{name}"] = stands.get(window, 0)
    try:
        granted = ask(limits, tallies, least, least + more, tokens)
    except LimitError:
        return
    assert least <= granted <= least + more
    held = stands.get("held", 0)
    for unit, taken in (("money", granted), ("tokens", tokens)):
        for window in windows:
            limit = limits.of(window, unit)
            if limit is not None and taken:
                assert stands.get(window, 0) + held + taken <= limit
        limit = limits.of("request", unit)
        assert limit is None or taken <= limit
    if limits.prepaid and granted:
        assert granted + held <= stands.get("paid", 0)
