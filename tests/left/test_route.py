"""Route: whom it takes, who is next when one fails, and what it costs to switch."""

from __future__ import annotations

from bicameral.decision import Asked
from bicameral.errors import AllFailed, Broken, TooLong
from bicameral.left.mind import Mind
from bicameral.left.route import Route
from bicameral.left.score import Priors
from bicameral.left.sticky import warmed
from bicameral.left.worth import Worth
from bicameral.model import collect
from tests.left.cases import HELLO, case, expect, names, priced, talk


async def test_asks_the_first_and_streams_it(member):
    a, b = await member("a", reply="one two"), await member("b")
    answer = await collect(Mind("m", Route(), [a, b]), HELLO)
    assert (answer.text, answer.by) == ("one two", "a")
    assert [call.model for call in answer.calls] == ["a"]
    assert b.leaf.runs == 0
    assert answer.why == "route of m"  # nothing was weighed, so nothing is claimed


async def test_follows_the_estimates(member):
    a, b = await member("a"), await member("b")
    mind = Mind("m", Route(), [a, b], estimator=Priors({"a": 0.1, "b": 0.9}))
    answer = await collect(mind, HELLO)
    assert answer.by == "b"
    assert "b is expected right at 0.90" in answer.why


async def test_a_dead_member_is_skipped_and_recorded(member):
    a = await member("a", fail="unreachable")
    b = await member("b", reply="alive")
    answer = await collect(Mind("m", Route(), [a, b]), HELLO)
    assert answer.text == "alive"
    assert [(c.model, c.error is None) for c in answer.calls] == [("a", False), ("b", True)]
    assert answer.usage.total_tokens == 3  # the dead one took nothing up: 2 asked, 1 said
    assert "a failed" in answer.why


async def test_after_the_first_token_nobody_takes_over(member):
    a, b = await member("a", reply="one two three", die_after=1), await member("b")
    answer = await collect(Mind("m", Route(), [a, b]), HELLO)
    assert isinstance(answer.error, Broken)
    assert answer.text == "one "
    assert b.leaf.runs == 0
    assert [c.model for c in answer.calls] == ["a"]


async def test_all_dead_says_who_and_why(member):
    a, b = await member("a", fail="unreachable"), await member("b", fail="overloaded")
    answer = await collect(Mind("m", Route(), [a, b]), HELLO)
    assert isinstance(answer.error, AllFailed)
    assert set(answer.error.failures) == {"a", "b"}
    assert answer.error.retryable


async def test_a_common_failure_is_raised_as_itself(member):
    a, b = await member("a", fail="too_long"), await member("b", fail="too_long")
    answer = await collect(Mind("m", Route(), [a, b]), HELLO)
    assert isinstance(answer.error, TooLong)


def test_the_next_best_when_the_best_fails():
    estimates = {"a": expect(0.2), "b": expect(0.9), "c": expect(0.5)}
    step = Route().next(case(estimates, Asked(model="b", error="down")))
    assert names(step) == ["c"]
    assert step.final
    assert "b failed, asked c" in step.why


def test_the_settings_are_what_was_wanted():
    assert Route(Worth(least=0.7)).settings == {"least": 0.7}
    assert Route().settings == {}


# --- switching ---------------------------------------------------------------------------------

TALK = talk("x" * 40_000, "y", "and now?")  # some 10,000 tokens are in the cache
EQUAL = {"new": expect(0.8, 10_000), "old": expect(0.8, 10_000)}


def warm(estimates):
    """The case in which `old` holds the conversation, at a tenth of the price for cached tokens."""
    told = warmed(estimates, priced("old", 1_000_000, 100_000), TALK)
    return case(told, request=TALK, warm="old")


def test_stays_with_the_member_that_holds_the_conversation():
    step = Route(Worth(worth=10_000)).next(warm(EQUAL))
    assert names(step) == ["old"]
    assert "kept, it holds this conversation" in step.why


def test_a_cold_conversation_goes_by_the_order():
    assert names(Route(Worth(worth=10_000)).next(case(EQUAL))) == ["new"]


def test_stays_until_the_gain_exceeds_what_the_cache_saves():
    better = {"new": expect(0.9, 10_000), "old": expect(0.8, 10_000)}
    saved = 9_000  # nano-dollars: 10,000 tokens x (1 - 0.1) nano-dollars
    assert names(Route(Worth(worth=saved * 9)).next(warm(better))) == ["old"]
    step = Route(Worth(worth=saved * 11)).next(warm(better))
    assert names(step) == ["new"]
    assert "left old, which holds this conversation" in step.why


def test_the_cache_counts_under_a_bound_too():
    cheaper = {"new": expect(0.8, 5_000), "old": expect(0.8, 10_000)}
    assert names(Route(Worth(least=0.5)).next(warm(cheaper))) == ["old"]
    assert names(Route(Worth(most=2_000)).next(warm(cheaper))) == ["old"]
