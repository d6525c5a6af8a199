"""Votes over scripted members: who is asked, when it stops, what is said of it."""

from __future__ import annotations

import pytest

from bicameral.decision import Asked
from bicameral.left.ballot import PLAIN
from bicameral.left.mind import Mind
from bicameral.left.policy import Estimate
from bicameral.left.score import Priors
from bicameral.left.vote import Vote
from bicameral.model import collect
from bicameral.types import Request
from tests.left.cases import case

HELLO = Request.ask("hello there", id="r")
EVEN = {name: Estimate(quality=0.7) for name in "abcde"}


def said(model, key):
    return Asked(model=model, key=key)


def names(step):
    return [model.card.name for model in step.models]


def test_it_asks_in_order_and_stops_at_the_bar():
    vote = Vote(PLAIN, order=["c", "a", "b"], bars=[0.9, 0.9], at_once=1)
    assert names(vote.next(case(EVEN))) == ["c"]
    assert names(vote.next(case(EVEN, said("c", "x")))) == ["a"]
    assert vote.next(case(EVEN, said("c", "x"), said("a", "x"))) is None
    assert names(vote.next(case(EVEN, said("c", "x"), said("a", "y")))) == ["b"]


def test_a_bar_belongs_to_its_place_in_the_order():
    vote = Vote(PLAIN, order=["a", "b", "c"], bars=[0.99, 0.5], at_once=1)
    without_a = case({n: EVEN[n] for n in "bc"}, said("b", "x"))
    assert vote.next(without_a) is None  # b's bar, not that of the first place


def test_without_bars_it_stops_once_nobody_can_overtake():
    vote = Vote(at_once=1)
    three = case(EVEN, said("a", "x"), said("b", "x"), said("c", "x"))
    assert vote.next(three) is None
    two = case(EVEN, said("a", "x"), said("b", "x"))
    assert names(vote.next(two)) == ["c"]  # three others could still outvote two


def test_abstentions_keep_it_going_and_all_abstaining_is_said():
    vote = Vote(PLAIN, order=["a", "b"], bars=[0.5], at_once=1)
    silent = case({n: EVEN[n] for n in "ab"}, said("a", None))
    assert names(vote.next(silent)) == ["b"]
    strong = {"a": Estimate(quality=0.4), "b": Estimate(quality=0.8)}
    verdict = vote.settle(case(strong, said("a", None), said("b", None)))
    assert verdict.index == 1
    assert "no answers could be compared" in verdict.why


def test_the_shares_go_to_those_who_said_it_by_weight():
    weights = {"a": 3.0, "b": 1.0, "c": 1.0}
    estimates = {n: Estimate(quality=0.5, weight=w) for n, w in weights.items()}
    verdict = Vote().settle(case(estimates, said("a", "x"), said("b", "y"), said("c", "x")))
    assert verdict.index == 0
    assert verdict.shares == pytest.approx((0.75, 0.0, 0.25))
    assert 0.5 < verdict.quality < 1


async def test_a_weak_majority_loses_to_a_strong_member(member):
    members = [await member("a", reply="no"), await member("b", reply="no")]
    members.append(await member("c", reply="yes"))
    strong = Priors({"a": 0.2, "b": 0.2, "c": 0.95})
    answer = await collect(Mind("m", Vote(), members, estimator=strong), HELLO)
    assert answer.text == "yes"
    equal = await collect(Mind("m", Vote(), members), HELLO)
    assert equal.text == "no"


async def test_a_failed_member_is_skipped_and_the_next_asked(member):
    a, b = await member("a", fail="unreachable"), await member("b", reply="x")
    c = await member("c", reply="x")
    answer = await collect(Mind("m", Vote(at_once=1, bars=[0.9, 0.9]), [a, b, c]), HELLO)
    assert answer.text == "x"
    assert [call.model for call in answer.calls] == ["a", "b", "c"]


async def test_members_not_needed_are_never_called(member):
    members = [await member(n, reply="x") for n in "abc"]
    answer = await collect(Mind("m", Vote(at_once=1), members), HELLO)
    assert answer.text == "x"
    assert members[2].leaf.runs == 0
    decision = answer.decisions[0]
    assert [t.models for t in decision.turns] == [("a",), ("b",)]
    assert [a.share for a in decision.asked] == pytest.approx([0.5, 0.5])
