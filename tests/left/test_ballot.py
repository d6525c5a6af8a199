"""Ballots: answers that agree count together, weights decide, abstentions say nothing."""

from __future__ import annotations

import math

import pytest

from bicameral.decision import Asked
from bicameral.left.ballot import PLAIN, Ballot, Heard, logit
from bicameral.left.policy import Estimate
from tests.left.cases import case

EVEN = {name: Estimate(quality=0.6) for name in "abc"}


def said(model, key, **signs):
    return Asked(model=model, key=key, **signs)


def test_one_answer_is_as_sure_as_its_member_is_good():
    posterior = PLAIN.posterior(case(EVEN, said("a", "x")))
    assert posterior.of == (pytest.approx(0.6),)
    assert (posterior.lead, posterior.sure) == (0, pytest.approx(0.6))


def test_agreement_makes_sure_and_dissent_unsure():
    alone = PLAIN.posterior(case(EVEN, said("a", "x"))).sure
    agreed = PLAIN.posterior(case(EVEN, said("a", "x"), said("b", "x"))).sure
    split = PLAIN.posterior(case(EVEN, said("a", "x"), said("b", "y"))).sure
    assert split < alone < agreed


def test_two_of_equal_weight_beat_one_but_not_one_of_more_than_both():
    two = case(EVEN, said("a", "x"), said("b", "y"), said("c", "y"))
    assert PLAIN.posterior(two).lead == 1
    weights = {"a": 3.0, "b": 1.0, "c": 1.0}
    weighed = {name: Estimate(quality=0.6, weight=w) for name, w in weights.items()}
    strong = case(weighed, said("a", "x"), said("b", "y"), said("c", "y"))
    assert PLAIN.posterior(strong).lead == 0


def test_the_probabilities_are_those_of_the_conditional_logit():
    weighed = {"a": Estimate(quality=0.5, weight=1.0), "b": Estimate(quality=0.5, weight=2.0)}
    ballot = Ballot({}, none=(0.5, 1.5))
    posterior = ballot.posterior(case(weighed, said("a", "x"), said("b", "y")))
    total = math.exp(1.0) + math.exp(2.0) + math.exp(1.5)
    assert posterior.of == pytest.approx((math.exp(1.0) / total, math.exp(2.0) / total))


@pytest.mark.parametrize(
    "silent", [said("b", None), said("b", "y", error="gone"), said("b", "y", cut=True)]
)
def test_failures_abstentions_and_cut_answers_do_not_vote(silent):
    posterior = PLAIN.posterior(case(EVEN, said("a", "x"), silent))
    assert posterior.of == (pytest.approx(0.6), 0.0)
    nobody = PLAIN.posterior(case(EVEN, silent))
    assert (nobody.lead, nobody.sure) == (None, 0.0)


def test_answers_that_do_not_exclude_each_other_are_judged_one_by_one():
    ballot = Ballot({}, exclusive=False)
    both = ballot.posterior(case(EVEN, said("a", "x"), said("b", "y")))
    assert both.of == pytest.approx((0.6, 0.6))


def test_signs_move_a_vote_and_a_missing_sign_does_not():
    heard = {"a": Heard(confidence=1.0, confidence_mean=0.0, tokens=-1.0)}
    ballot = Ballot(heard)
    plain = ballot.posterior(case(EVEN, said("a", "x"))).sure
    assert plain == pytest.approx(0.6)
    surer = ballot.posterior(case(EVEN, said("a", "x", confidence=0.9))).sure
    assert logit(surer) == pytest.approx(logit(0.6) + logit(0.9))
    longer = ballot.posterior(case(EVEN, said("a", "x", tokens=10_000))).sure
    assert logit(longer) == pytest.approx(logit(0.6) - 3.0)  # bounded, however long
    checked = [ballot.posterior(case(EVEN, said("a", "x", checked=c))).sure for c in (True, False)]
    assert checked[0] > plain > checked[1]
