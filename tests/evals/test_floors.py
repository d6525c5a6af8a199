"""What may be promised of a mind: only what its outcomes show against every member."""

from __future__ import annotations

import numpy as np
import pytest

from bicameral.evals.baselines import single
from bicameral.evals.floors import floors, told
from bicameral.evals.study import Study, study
from bicameral.left.worth import Worth

from .tables import table
from .test_study import Rates


def of_a(*rows: str) -> Study:
    """A study of minds that ask a and nobody else; b and c may be better."""
    outcomes = table(*rows)
    return Study(
        outcomes=outcomes,
        folds=5,
        seed=0,
        runs={"mind": single(outcomes, "a")},
        minds={"mind": ("route", Worth())},
        estimates=np.zeros_like(outcomes.score),
    )


def test_a_mind_that_is_better_is_promised():
    """a is right on even questions, b on odd ones: a route by evenness is always right."""
    split = table(*["x: y x z" if i % 2 else "x: x y z" for i in range(400)])
    (floor,) = floors(study(split, Rates, ["route"]), eps=0.02, sure=0.95)
    assert floor.promise.plan == 0
    assert floor.member in ("a", "b")
    assert floor.loss == pytest.approx(-0.5)
    assert told(floor, 0.95) == (
        "route: is at most 2 points worse than the best member, at 95 % confidence "
        "from 400 prompts."
    )


def test_a_mind_that_is_as_good_needs_enough_prompts():
    """Without a loss 149 prompts show two points at 95 %."""
    (floor,) = floors(of_a(*["x: x y"] * 140), eps=0.02, sure=0.95)
    assert (floor.promise.plan, floor.promise.more, floor.member) == (None, 9, "a")
    assert told(floor, 0.95) == (
        "mind: not promised to be at most 2 points worse than the best member, at 95 % "
        "confidence; beside a it takes about 9 more prompts."
    )
    assert floors(of_a(*["x: x y"] * 149), eps=0.02, sure=0.95)[0].promise.plan == 0


def test_a_mind_that_loses_is_never_promised():
    (floor,) = floors(of_a(*["x: y x y"] * 60, *["x: x x y"] * 940), eps=0.02, sure=0.95)
    assert (floor.promise.plan, floor.promise.more, floor.member) == (None, None, "b")
    assert told(floor, 0.95).endswith("it is 6.0 points worse than b.")


def test_the_member_it_is_hardest_to_promise_against_is_told():
    rows = [*["x: y x x"] * 40, *["x: y x y"] * 20, *["x: x x x"] * 940]
    (floor,) = floors(of_a(*rows), eps=0.02, sure=0.95)
    assert (floor.member, floor.loss) == ("b", pytest.approx(0.06))
    rows = [*["x: y y x"] * 10, *["x: x x x"] * 990]
    (floor,) = floors(of_a(*rows), eps=0.015, sure=0.95)
    assert floor.member == "c"
    assert floor.promise.more > 0


def test_promises_of_several_minds_hold_together():
    split = table(*["x: y x" if i % 2 else "x: x y" for i in range(60)])
    found = floors(study(split, Rates, ["route", "vote"], folds=2), eps=0.02, sure=0.95)
    assert [floor.mind for floor in found] == ["route", "vote"]
    assert [floor.promise.delta for floor in found] == pytest.approx([0.025, 0.025])


def test_it_promises_wrongly_no_more_often_than_said():
    """The mind truly loses the bound: 200 worlds of 200 prompts, seeded."""
    rng, passed = np.random.default_rng(5), 0
    for _ in range(200):
        rows = ["x: y x" if lost else "x: x x" for lost in rng.random(200) < 0.05]
        passed += floors(of_a(*rows), eps=0.05, sure=0.9)[0].promise.plan is not None
    assert passed / 200 <= 0.1 + 3 * np.sqrt(0.1 * 0.9 / 200)


@pytest.mark.parametrize(("eps", "sure"), [(0.0, 0.95), (1.0, 0.95), (0.02, 1.0)])
def test_what_makes_no_sense_is_refused(eps, sure):
    with pytest.raises(ValueError, match="between 0 and 1"):
        floors(of_a("x: x y"), eps=eps, sure=sure)
