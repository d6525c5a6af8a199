"""Fitted ballots recover what is known of a made-up world, and are as sure as they are right."""

from __future__ import annotations

import numpy as np
import pytest

from bicameral.decision import Asked
from bicameral.left.panel import Field, play
from bicameral.left.policy import Estimate
from bicameral.left.tally import Weights, fit_ballot, given, heard_weights
from tests.left.cases import case
from tests.left.worlds import world


def flat(outcomes):
    """Estimates that know nothing, and a single topic."""
    quality = np.tile(outcomes.score.mean(axis=0), (len(outcomes.ids), 1))
    return quality, np.ones((len(outcomes.ids), 1))


def fitted(outcomes):
    ballot, weights = fit_ballot(outcomes, *flat(outcomes))
    return ballot, weights(*flat(outcomes))


def test_groups_are_the_distinct_answers_and_worth_what_gold_says():
    outcomes = world({"a": (1, 1, 1), "b": (0, 0, 0), "c": (1, 1, 1)}, 50)
    seen = given(outcomes)
    assert seen.exclusive
    assert (seen.group == [0, 1, 0]).all()
    assert (seen.value[:, :2] == [1.0, 0.0]).all()


def test_without_answers_every_member_is_judged_on_its_own():
    outcomes = world({"a": (1, 1, 1), "b": (0, 0, 0)}, 50, answers=False)
    seen = given(outcomes)
    assert not seen.exclusive
    assert (seen.group == [0, 1]).all()
    assert (seen.value == [1.0, 0.0]).all()


def test_better_members_weigh_more():
    outcomes = world({"a": (0.9,) * 3, "b": (0.6,) * 3, "c": (0.3,) * 3}, 1500)
    _, weights = fitted(outcomes)
    a, b, c = weights[0]
    assert a > b > c


@pytest.mark.parametrize(
    ("copies", "least", "most"), [({}, 0.7, 0.95), ({"echo": "b"}, 0.35, 0.65)]
)
def test_two_against_one_count_for_less_if_one_repeats_the_other(copies, least, most):
    alike = {"a": (0.7,) * 3, "b": (0.7,) * 3, "echo": (0.7,) * 3}
    ballot, weights = fitted(world(alike, 3000, copies=copies))
    estimates = {
        name: Estimate(quality=0.7, weight=float(w))
        for name, w in zip(alike, weights[0], strict=True)
    }
    split = [Asked(model=n, key=k) for n, k in (("a", "x"), ("b", "y"), ("echo", "y"))]
    one, two, _ = ballot.posterior(case(estimates, *split)).of
    assert least < two / (one + two) < most


def test_topics_shift_the_weights():
    outcomes = world({"a": (0.95, 0.3, 0.5), "b": (0.3, 0.95, 0.5)}, 3000)
    quality, _ = flat(outcomes)
    names = sorted(set(outcomes.categories))
    topics = np.array([[float(c == n) for n in names] for c in outcomes.categories])
    _, weights = fit_ballot(outcomes, quality, topics)
    algebra, law = (np.eye(3)[names.index(n)][None, :] for n in ("algebra", "law"))
    assert np.diff(weights(quality[:1], algebra))[0, 0] < -0.5
    assert np.diff(weights(quality[:1], law))[0, 0] > 0.5


@pytest.mark.parametrize("answers", [True, False])
def test_it_is_as_sure_as_it_is_right_for_any_part_of_the_members(answers):
    members = {"a": (0.8,) * 3, "b": (0.7,) * 3, "c": (0.5,) * 3, "d": (0.4,) * 3}
    train, test = (world(members, 3000, seed=s, answers=answers) for s in (1, 2))
    ballot, weights = fit_ballot(train, *flat(train))
    full = heard_weights(ballot, weights(*flat(test)), test)
    field = Field(
        given(test), full, np.array(ballot.none), np.ones(test.score.shape), np.array(ballot.agree)
    )
    sure, right = play(field, [2, 0, 3, 1])
    for asked in range(4):
        assert sure[:, asked].mean() == pytest.approx(right[:, asked].mean(), abs=0.04)


def test_confidence_counts_where_it_tells_right_from_wrong():
    train = world({"a": (0.6,) * 3, "b": (0.6,) * 3}, 2000, confidence=True)
    ballot, _ = fit_ballot(train, *flat(train))
    assert ballot.heard["a"].confidence > 0.5


def test_the_live_ballot_says_what_the_fitted_arrays_say():
    outcomes = world({"a": (0.8,) * 3, "b": (0.6,) * 3, "c": (0.5,) * 3}, 400, confidence=True)
    ballot, weights = fit_ballot(outcomes, *flat(outcomes))
    votes = weights(*flat(outcomes))
    full = heard_weights(ballot, votes, outcomes)
    field = Field(
        given(outcomes), full, np.array(ballot.none), np.ones(full.shape), np.array(ballot.agree)
    )
    sure, _ = play(field, [0, 1, 2])
    for row in range(0, 400, 23):
        estimates = {
            name: Estimate(quality=0.5, weight=float(votes[row, m]))
            for m, name in enumerate(outcomes.models)
        }
        asked = [
            Asked(model=n, key=outcomes.answer[row, m], confidence=outcomes.confidence[row, m])
            for m, n in enumerate(outcomes.models)
        ]
        for count in (1, 2, 3):
            live = ballot.posterior(case(estimates, *asked[:count]))
            assert live.sure == pytest.approx(sure[row, count - 1])


def test_weights_survive_packing():
    outcomes = world({"a": (0.8,) * 3, "b": (0.6,) * 3}, 100)
    _, weights = fit_ballot(outcomes, *flat(outcomes))
    again = Weights.unpack(weights.pack())
    assert (again(*flat(outcomes)) == weights(*flat(outcomes))).all()
