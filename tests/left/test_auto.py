"""Auto: it takes the arm that is worth most, and declines to combine where a member is."""

from __future__ import annotations

import pytest

from bicameral.decision import Asked
from bicameral.left.auto import Auto
from bicameral.left.ballot import PLAIN
from bicameral.left.cascade import Cascade
from bicameral.left.mind import Mind
from bicameral.left.policy import Estimate
from bicameral.left.vote import Vote
from bicameral.left.worth import Worth
from bicameral.model import collect
from bicameral.types import Request, Tool
from tests.left.cases import HELLO, case

VOTE = {"vote#1": (Vote(PLAIN, order=["a", "b", "c"]), frozenset("abc"))}


def estimates(**quality):
    return {name.replace("vote", "vote#1"): Estimate(quality=q) for name, q in quality.items()}


def names(step):
    return [model.card.name for model in step.models]


def members_of(found):
    """The case without the arm among its members."""
    keep = tuple(m for m in found.members if "#" not in m.card.name)
    return type(found)(
        request=found.request, members=keep, estimates=found.estimates, asked=found.asked,
        answers=found.answers, warm=found.warm,
    )  # fmt: skip


def test_a_combination_that_is_worth_more_is_taken():
    step = Auto(VOTE).next(members_of(case(estimates(a=0.6, b=0.6, c=0.6, vote=0.8))))
    assert names(step) == ["a", "b", "c"]
    assert not step.final


def test_where_one_member_dominates_it_alone_is_asked():
    step = Auto(VOTE).next(members_of(case(estimates(a=0.6, b=0.95, c=0.6, vote=0.9))))
    assert names(step) == ["b"]
    assert step.final


def test_an_arm_with_a_member_that_cannot_take_the_request_does_not_count():
    step = Auto(VOTE).next(members_of(case(estimates(a=0.6, b=0.7, vote=0.9))))
    assert names(step) == ["b"]


def test_a_request_with_tools_goes_to_a_member():
    request = HELLO.but(tools=(Tool("f"),))
    found = members_of(case(estimates(a=0.6, b=0.6, c=0.6, vote=0.9), request=request))
    assert Auto(VOTE).next(found).final


def test_the_price_of_a_combination_counts():
    dear = {n: Estimate(quality=0.6, cost=1_000) for n in "abc"}
    dear["vote#1"] = Estimate(quality=0.8, cost=3_000)
    found = members_of(case(dear))
    assert len(Auto(VOTE, Worth(worth=100_000)).next(found).models) == 3
    assert len(Auto(VOTE, Worth(worth=5_000)).next(found).models) == 1


def test_single_estimates_are_believed_only_as_far_as_they_proved_to_tell():
    means = {"a": 0.7, "b": 0.6, "c": 0.6, "vote#1": 0.65}
    found = members_of(case(estimates(a=0.7, b=0.8, c=0.6, vote=0.65)))
    assert names(Auto(VOTE, means=means, lean=1.0).next(found)) == ["b"]
    assert names(Auto(VOTE, means=means, lean=0.25).next(found)) == ["a"]


def test_if_a_whole_arm_fails_the_best_member_left_is_asked():
    two = {"vote#1": (Vote(PLAIN, order=["a", "b"]), frozenset("ab"))}
    gone = [Asked(model=n, error="gone") for n in "ab"]
    found = members_of(case(estimates(a=0.6, b=0.6, c=0.5, vote=0.9), *gone))
    step = Auto(two).next(found)
    assert names(step) == ["c"]
    assert step.final


def test_the_arms_policy_settles():
    asked = [Asked(model=n, key=k) for n, k in (("a", "x"), ("b", "y"), ("c", "y"))]
    found = members_of(case(estimates(a=0.6, b=0.6, c=0.6, vote=0.9), *asked))
    verdict = Auto(VOTE).settle(found)
    assert found.asked[verdict.index].key == "y"
    assert verdict.shares == pytest.approx((0.0, 0.5, 0.5))


class Fixed:
    """An estimator that always says the same."""

    digest = "fixed"

    def __init__(self, found):
        self.found = found

    def estimate(self, request, cards):
        return self.found


async def test_it_streams_and_records_what_it_chose_from(member):
    members = [await member("a", reply="x", confidence=0.9), await member("b", reply="x")]
    arms = {"try": (Cascade(0.8), frozenset("ab"))}
    expected = {n: Estimate(quality=q) for n, q in (("a", 0.5), ("b", 0.6), ("try", 0.7))}
    mind = Mind("m", Auto(arms), members, estimator=Fixed(expected))
    answer = await collect(mind, Request.ask("hello", id="r"))
    decision = answer.decisions[0]
    assert (answer.text, decision.policy, decision.learned) == ("x", "auto", "fixed")
    assert {c.model: c.quality for c in decision.considered} == {"a": 0.5, "b": 0.6, "try": 0.7}
    assert members[1].leaf.runs == 0
