"""What is wanted: worth, bounds, and what is not known."""

from __future__ import annotations

import pytest

from bicameral.left.worth import Worth, dollars
from tests.left.cases import expect

CHEAP_AND_DEAR = {"cheap": expect(0.6, 10), "dear": expect(0.9, 1_000)}


@pytest.mark.parametrize(
    ("worth", "name"),
    [
        (Worth(), "dear"),
        (Worth(worth=100), "cheap"),  # 30 more for 990
        (Worth(worth=10_000), "dear"),  # 3000 more for 990
        (Worth(least=0.5), "cheap"),
        (Worth(least=0.7), "dear"),
        (Worth(least=0.99), "dear"),  # none reaches it: the best
        (Worth(most=500), "cheap"),
        (Worth(most=1_000), "dear"),
        (Worth(most=5), "cheap"),  # nothing is that cheap: the cheapest
        (Worth(worth=10_000, most=500), "cheap"),
        (Worth(least=0.7, most=500), "cheap"),
    ],
)
def test_worth_and_bounds(worth: Worth, name: str) -> None:
    assert worth.pick(CHEAP_AND_DEAR).name == name


def test_seconds_have_a_price() -> None:
    estimates = {"slow": expect(0.8, 0, 10.0), "fast": expect(0.7, 0, 1.0)}
    assert Worth(worth=1_000, second=5).pick(estimates).name == "slow"
    assert Worth(worth=1_000, second=20).pick(estimates).name == "fast"


def test_an_unknown_cost_counts_as_the_highest_known() -> None:
    estimates = {"unpriced": expect(0.8), "dear": expect(0.8, 900), "cheap": expect(0.8, 1)}
    pick = Worth(worth=1_000).pick(estimates)
    assert pick.name == "cheap"
    assert "cost of unpriced unknown, taken for the highest known" in pick.why
    assert Worth(worth=1).prices(estimates)["unpriced"] == 900


def test_an_unknown_cost_never_fits_a_bound() -> None:
    estimates = {"unpriced": expect(0.99), "priced": expect(0.5, 900)}
    pick = Worth(most=1_000).pick(estimates)
    assert pick.name == "priced"
    assert "unpriced unknown, left out" in pick.why
    assert Worth(most=10).pick(estimates).name == "priced"  # known to be too dear is still known


def test_an_unknown_wait_counts_as_the_longest_known() -> None:
    estimates = {"unknown": expect(0.5, 0), "slow": expect(0.5, 0, 9.0), "fast": expect(0.5, 0, 1)}
    assert Worth(worth=100, second=1).pick(estimates).name == "fast"
    assert Worth(worth=100, second=1).prices(estimates)["unknown"] == 9.0


def test_among_equals_the_first() -> None:
    estimates = {"a": expect(0.5, 7), "b": expect(0.5, 7)}
    for worth in (Worth(), Worth(worth=10), Worth(least=0.4), Worth(most=10), Worth(most=1)):
        assert worth.pick(estimates).name == "a"
        assert worth.pick(estimates, warm="b").name == "b"


def test_what_was_not_set_is_not_recorded() -> None:
    assert Worth().settings == {}
    assert Worth(worth=5, second=2).settings == {"worth": 5, "second": 2}


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"worth": 1, "least": 0.5}, "exclude"),
        ({"second": 1}, "what a right answer is worth"),
        ({"least": 1.5}, "probability"),
        ({"most": -1}, "negative"),
        ({"worth": -1}, "negative"),
    ],
)
def test_what_makes_no_sense_is_refused(keys: dict[str, float], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Worth(**keys)


def test_money_is_written_for_people() -> None:
    assert dollars(1_230_000) == "$0.00123"
    assert dollars(0) == "$0"
    assert dollars(2 * 10**9) == "$2"
