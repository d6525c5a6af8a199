"""What a mind is measured against, on tables small enough to work out by hand."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from bicameral.evals.baselines import (
    baselines,
    category_table,
    majority,
    majority_of_best,
    oracle,
    random,
    single,
)
from bicameral.evals.replay import replay
from bicameral.left.vote import Vote

from .tables import Fixed, table


def test_a_single_member_is_wrong_and_free_without_an_outcome():
    found = single(table("x: x x", "x: ? y", "x: y x"), "a")
    assert found.quality.tolist() == [1, 0, 0]
    assert found.cost == pytest.approx([0.001, 0, 0.001])
    assert found.calls.tolist() == [1, 0, 1]
    assert found.by.tolist() == ["a", "", "a"]


def test_random_is_the_mean_of_those_recorded():
    found = random(table("x: x y y y", "x: x ? x ?"))
    assert found.quality.tolist() == [0.25, 1]
    assert found.cost == pytest.approx([0.0025, 0.002])
    assert found.seconds.tolist() == [2.5, 2]


def test_the_oracle_takes_the_cheapest_right_one_and_the_cheapest_if_none_is():
    outcomes = table("x: y x x", "x: y y y", "x: ? y x")
    found = oracle(outcomes)
    assert found.quality.tolist() == [1, 0, 1]
    assert found.by.tolist() == ["b", "a", "c"]
    assert found.cost == pytest.approx([0.002, 0.001, 0.003])


def test_the_oracle_without_costs_takes_the_first_right_one():
    found = oracle(table("x: y x x", cost=None))
    assert (found.quality.tolist(), found.by.tolist()) == ([1], ["b"])
    assert np.isnan(found.cost).all()


def test_the_category_table_is_learned_from_the_training_prompts():
    outcomes = dataclasses.replace(
        table("x: x y", "x: x y", "x: y x", "x: x x"), categories=("law", "law", "art", "art")
    )
    test = dataclasses.replace(
        table("x: y x", "x: x y", "x: x y"), categories=("law", "art", "music")
    )
    found = category_table(outcomes, test)
    assert found.by.tolist() == ["a", "b", "a"]
    assert found.quality.tolist() == [0, 0, 1]


def test_a_plain_majority_by_hand():
    outcomes = table("x: x x y", "x: y z x", "x: - y y", "x: - - x", "x: ? x x", "x: - - ?")
    found = majority(outcomes, np.array([1, 0, 2]))
    assert found.by.tolist() == ["b", "b", "b", "c", "b", "b"]
    assert found.quality.tolist() == [1, 0, 0, 1, 1, 0]
    assert found.calls.tolist() == [3, 3, 3, 3, 2, 2]
    assert found.cost == pytest.approx([0.006, 0.006, 0.006, 0.006, 0.005, 0.003])
    assert found.seconds.tolist() == [3, 3, 3, 3, 3, 2]


def test_a_plain_majority_is_a_vote_of_equals():
    rng = np.random.default_rng(0)
    rows = [f"x: {' '.join(rng.choice(list('xxyz-'), 5))}" for _ in range(200)]
    outcomes = table(*rows)
    plain = majority(outcomes, np.arange(5))
    voted = replay(outcomes, Vote(), Fixed(dict.fromkeys("abcde", 0.5)))
    said = [any(a is not None for a in row) for row in outcomes.answer]
    assert plain.quality[said].tolist() == voted.quality[said].tolist()
    assert plain.cost == pytest.approx(voted.cost)


def test_the_majority_has_the_size_that_did_best_in_training():
    """The first three are right together; the last two turn each majority of five wrong."""
    good = ["x: x x y y y", "x: x y x y y", "x: x x y y y", "x: y x x y y"] * 3
    test = table("x: x x y y y")
    found = majority_of_best(table(*good), test)
    assert found.calls.tolist() == [3]
    assert found.quality.tolist() == [1]


def test_a_report_has_the_baselines_its_table_can_give():
    outcomes = table(*["x: x y x", "x: y x x"] * 20)
    assert [*baselines(outcomes)] == [
        "best single (c)",
        "random",
        "majority of the best",
        "oracle",
    ]
    named = dataclasses.replace(outcomes, categories=("law",) * 40)
    assert "category table" in baselines(named)
    assert "majority of the best" not in baselines(outcomes.only(["a", "b"]))
    for found in baselines(named).values():
        assert len(found.quality) == 40
