"""Panels: bars stop where more does not pay; the frontier rises with an answer's worth."""

from __future__ import annotations

import numpy as np
import pytest

from bicameral.left.panel import Field, apply_bars, fit_bars, frontier, play
from bicameral.left.tally import Given, fit_ballot, given
from tests.left.worlds import world

MEMBERS = {"cheap": (0.7,) * 3, "fair": (0.7,) * 3, "dear": (0.85,) * 3, "useless": (0.2,) * 3}
COST = [0.1, 0.2, 2.0, 0.5]


def field(seed=0, members=MEMBERS, cost=COST, prompts=1500):
    outcomes = world(members, prompts, seed=seed, cost=cost)
    quality = np.tile(outcomes.score.mean(axis=0), (prompts, 1))
    topics = np.ones((prompts, 1))
    ballot, weights = fit_ballot(outcomes, quality, topics)
    return Field(
        given(outcomes),
        weights(quality, topics),
        np.array(ballot.none),
        outcomes.cost,
        np.array(ballot.agree),
    )


def test_playing_an_order_gives_the_leader_after_each_answer():
    whole = field()
    sure, value = play(whole, [2, 0])
    assert value[:, 0].mean() == pytest.approx(0.85, abs=0.03)
    assert ((sure > 0) & (sure < 1)).all()


def test_a_worthless_answer_is_not_paid_for():
    panel = fit_bars(field(), [0, 2], worth=0.5)
    assert panel.calls.mean() == pytest.approx(1.0)
    assert panel.cost.mean() == pytest.approx(0.1)


def test_the_more_an_answer_is_worth_the_more_is_asked_and_right():
    whole = field()
    thrifty, lavish = (fit_bars(whole, [0, 1, 2], worth) for worth in (3.0, 300.0))
    assert thrifty.cost.mean() < lavish.cost.mean()
    assert thrifty.quality.mean() < lavish.quality.mean()


def test_given_bars_reach_the_same_on_the_field_they_were_fitted_on():
    whole = field()
    panel = fit_bars(whole, [0, 1, 2], 20.0)
    again = apply_bars(whole, panel.order, panel.bars)
    assert (again.quality == panel.quality).all()
    assert (again.cost == panel.cost).all()


def test_the_frontier_holds_on_prompts_it_was_not_fitted_on():
    panels = frontier(field(seed=1), [0.3, 3.0, 30.0, 300.0])
    fresh = field(seed=2)
    reached = [apply_bars(fresh, p.order, p.bars) for p in panels]
    quality = [r.quality.mean() for r in reached]
    best = fresh.seen.value[np.arange(1500), fresh.seen.group[:, 2]].mean()
    assert quality[-1] > best  # three together beat the best of them
    assert reached[0].cost.mean() < reached[-1].cost.mean()
    assert quality[0] < quality[-1]


def test_where_one_dominates_the_best_is_not_dragged_down():
    members = {"star": (0.97,) * 3, "a": (0.3,) * 3, "b": (0.3,) * 3}
    whole = field(members=members, cost=[1.0, 1.0, 1.0])
    panel = frontier(whole, [1000.0])[0]
    star = whole.seen.value[np.arange(1500), whole.seen.group[:, 0]].mean()
    assert panel.quality.mean() >= star - 0.005
    assert panel.calls.mean() < 1.5


def test_a_member_without_an_outcome_is_skipped_for_free():
    whole = field()
    here = whole.seen.here.copy()
    here[:, 0] = False
    group = np.where(here, whole.seen.group, -1)
    seen = Given(group, whole.seen.value, here, exclusive=True)
    gone = Field(seen, whole.weights, whole.none, whole.cost, whole.agree)
    panel = apply_bars(gone, [0, 2], [0.99])
    assert panel.cost.mean() == pytest.approx(2.0)
    assert panel.quality.mean() == pytest.approx(0.85, abs=0.03)
