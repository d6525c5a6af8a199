"""A study learns on other folds than it measures on, and says what it found."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from bicameral.evals.findings import findings
from bicameral.evals.frontier import frontier
from bicameral.evals.metrics import gap, mean_auc
from bicameral.evals.replay import crossval, graded
from bicameral.evals.study import points, study
from bicameral.left.policy import Estimate
from bicameral.left.route import Route
from bicameral.left.vote import Vote

from .tables import table


class Rates:
    """Learns how often each member is right on even and on odd questions."""

    def __init__(self, train):
        self.train = set(train.prompts)
        self.digest = "rates"
        odd = np.array([_odd(prompt) for prompt in train.prompts])
        halves = [np.nan_to_num(train.score[odd == half]).mean(axis=0) for half in (0, 1)]
        self._rates = [dict(zip(train.models, half.tolist(), strict=True)) for half in halves]
        self._costs = dict(zip(train.models, np.nanmean(train.cost, axis=0), strict=True))

    def policy(self, name, worth=None):
        return {"route": Route(worth), "vote": Vote()}[name]

    def estimator(self):
        return self

    def estimate(self, request, cards):
        assert request.question not in self.train
        rates = self._rates[_odd(request.question)]
        return {
            c.name: Estimate(quality=rates[c.name], cost=round(self._costs[c.name] * 1e9))
            for c in cards
        }


def _odd(prompt):
    return int(prompt.split()[-1]) % 2


EVEN, ODD = "x: x y y", "x: y y x"
OUTCOMES = table(*[ODD if i % 2 else EVEN for i in range(58)], "x: y x y", "x: x y ?")


def test_the_runs_and_their_order():
    said = []
    done = study(OUTCOMES, Rates, ["route", "vote"], [None, 10**9, 0], said=said.append)
    assert [*done.runs][:4] == ["best single (a)", "random", "majority of the best", "oracle"]
    assert [*done.minds] == [*done.runs][4:]
    assert [*done.minds][:3] == ["route", "route, right is worth $1", "route, right is worth $0"]
    assert said[0] == "fold 1 of 5: learning"
    assert said[-1] == "fold 5 of 5: vote, right is worth $0"


def test_a_mind_is_measured_on_prompts_it_did_not_learn_from():
    done = study(OUTCOMES, Rates, ["route"], seed=2)
    routed = done.runs["route"]
    assert routed.quality[:58].tolist() == [1] * 58
    # a is wrong on the last but one; on the last c has no outcome, and a stands in.
    assert routed.quality[58:].tolist() == [0, 1]
    assert routed.by[58:].tolist() == ["a", "a"]
    alone = crossval(OUTCOMES, lambda t: (Route(), Rates(t)), seed=2)
    assert routed.by.tolist() == alone.by.tolist()
    assert done.estimates.shape == (60, 3)
    assert (done.estimates[0:58:2, 0] > 0.9).all()
    assert (done.estimates[1:58:2, 0] < 0.1).all()


def test_what_a_study_found_in_words():
    named = dataclasses.replace(OUTCOMES, categories=("sums",) * 30 + ("words",) * 30)
    done = study(named, Rates, ["route", "vote"], [10**9, 0])
    size, estimates, *rest = findings(done)
    assert size.startswith("60 prompts, 3 members, 5 folds by wording, seed 0; 0.6% of outcomes")
    auc = mean_auc(done.estimates, graded(named))
    assert f"on held-out prompts: AUC {auc:.3f}, Brier score 0.018" in estimates
    text = "\n".join(rest)
    # The route states nothing where its first choice failed: the last prompt.
    stated = np.append(done.runs["route, right is worth $1"].expected[:59], np.nan)
    assert np.isnan(done.runs["route, right is worth $1"].expected).tolist() == [False] * 59 + [
        True
    ]
    assert (
        "route, right is worth $1: says how likely it is right in 98% of its answers, on average "
        f"{100 * np.nanmean(stated):.1f}% where 98.3% are"
    ) in text
    # The best member of each half is right in half of it, the route in all and in all but one.
    gain = 100 * ((1 - 15 / 30) + (29 / 30 - 15 / 30)) / 2
    assert f"route, right is worth $1: within-task gain {gain:+.1f} points, against" in text
    # The curve: a alone (worth nothing), straight to the route, and flat to c's price, which has
    # one outcome less.
    middle, dear = done.runs["route, right is worth $1"].cost.mean() * 1000, 3 * 59 / 60
    area = ((0.5 + 59 / 60) / 2 * (middle - 1) + 59 / 60 * (dear - middle)) / (dear - 1)
    assert f"route: mean height of its quality-cost curve {100 * area:.1f} %." in text
    assert "APGR" not in text


def test_two_members_are_measured_as_a_pair():
    two = OUTCOMES.only(["a", "c"])
    done = study(two, Rates, ["route"])
    (pair,) = [text for text in findings(done) if "APGR" in text]
    grades = np.nan_to_num(two.score)
    strong, weak = (0, 1) if grades[:, 0].mean() > grades[:, 1].mean() else (1, 0)
    curve = gap(
        grades[:, strong], grades[:, weak], done.estimates[:, strong] - done.estimates[:, weak]
    )
    assert pair.startswith(f"Of the two, {'ac'[strong]} for the prompts")
    assert f"APGR {curve.apgr:.3f}, CPT(50 %) {curve.cpt(50):.1f} %" in pair


def test_the_points_of_a_frontier():
    found = points(study(OUTCOMES, Rates, ["route"]))
    assert [p.name for p in found] == ["a", "b", "c", "majority of the best", "route"]
    assert [p.kind for p in found] == ["member", "member", "member", "baseline", "route"]
    route = found[-1]
    assert route.quality == pytest.approx(59 / 60)
    assert frontier(found) == [found[0], route]
