"""Each measure against a hand-computed example or brute force."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from bicameral.evals.metrics import (
    difference,
    gap,
    interval,
    intervals,
    mean_auc,
    quality_cost_area,
    router_arena,
    within_task_gain,
)


def array(*values):
    return np.array(values, dtype=float)


# --- intervals ---


def test_the_bootstrap_of_three_prompts_is_the_exact_one():
    """All 27 resamples of 0, 1, 2 enumerated: their 2.5 and 97.5 percentiles are 0 and 2."""
    every = sorted(sum(drawn) / 3 for drawn in itertools.product([0, 1, 2], repeat=3))
    found = interval(array(0, 1, 2))
    assert (found.mean, found.low, found.high) == (1, every[0], every[-1])


def test_the_interval_is_about_two_standard_errors():
    values = array(*[1] * 700, *[0] * 300)
    found = interval(values)
    half = 1.96 * math.sqrt(0.7 * 0.3 / 1000)
    assert found.mean == 0.7
    assert found.low == pytest.approx(0.7 - half, abs=0.003)
    assert found.high == pytest.approx(0.7 + half, abs=0.003)


def test_the_same_seed_gives_the_same_interval_and_chunks_do_not_matter(monkeypatch):
    values = np.random.default_rng(3).random(50)
    whole = interval(values, resamples=200, seed=5)
    assert interval(values, resamples=200, seed=5) == whole
    assert interval(values, resamples=200, seed=6) != whole
    monkeypatch.setattr("bicameral.evals.metrics._CELLS", 50 * 7)
    chunked = interval(values, resamples=200, seed=5)
    assert (chunked.low, chunked.high) == pytest.approx((whole.low, whole.high))


def test_resampling_matches_plain_indexing():
    values = np.random.default_rng(4).random((20, 2))
    found = intervals(values, resamples=100, seed=9)
    drawn = np.random.default_rng(9).integers(0, 20, size=(100, 20), dtype=np.int64)
    means = values[drawn].mean(axis=1)
    assert [f.low for f in found] == pytest.approx(list(np.percentile(means, 2.5, axis=0)))
    assert [f.high for f in found] == pytest.approx(list(np.percentile(means, 97.5, axis=0)))


def test_a_paired_difference_sees_what_two_intervals_do_not():
    theirs = np.random.default_rng(0).random(400).round()
    ours = theirs.copy()
    ours[np.flatnonzero(theirs == 0)[:8]] = 1
    found = difference(ours, theirs)
    assert found.mean == pytest.approx(0.02)
    assert found.real
    assert interval(ours).low < interval(theirs).high
    assert not difference(ours, ours).real


def test_an_unknown_value_makes_its_own_column_unknown():
    known, unknown = intervals(np.array([[1.0, 1.0], [0.0, np.nan]]))
    assert known.mean == 0.5
    assert math.isnan(unknown.mean)
    assert math.isnan(unknown.low)


# --- RouteLLM ---


def test_the_gap_by_hand():
    """Strong wins on a and b, weak on c: sent in the order a, c, b, d."""
    strong, weak = array(1, 1, 0, 1), array(0, 0, 1, 1)
    found = gap(strong, weak, score=array(0.9, 0.3, 0.5, 0.1))
    assert found.fractions.tolist() == [0, 0.25, 0.5, 0.75, 1]
    assert found.recovered.tolist() == [0, 1, 0, 1, 1]
    assert found.apgr == pytest.approx(0.25 * (0.5 + 0.5 + 0.5 + 1))
    assert found.cpt(50) == pytest.approx(12.5)
    assert found.cpt(100) == pytest.approx(25)
    assert found.cpt(0) == 0
    assert math.isnan(found.cpt(101))


def test_no_information_recovers_half():
    strong, weak = array(1, 1, 0, 1), array(0, 0, 0, 1)
    found = gap(strong, weak, score=array(2, 2, 2, 2))
    assert found.apgr == pytest.approx(0.5)
    assert found.cpt(80) == pytest.approx(80)


def test_equal_scores_are_the_mean_over_every_order():
    strong, weak = array(1, 0.5, 0, 1, 1), array(0, 0, 0.5, 0, 1)
    score = array(3, 1, 1, 1, 0)
    areas = []
    for order in itertools.permutations([1, 2, 3]):
        broken = score.copy()
        broken[list(order)] += np.array([0.3, 0.2, 0.1])
        areas.append(gap(strong, weak, broken).apgr)
    assert gap(strong, weak, score).apgr == pytest.approx(np.mean(areas))


def test_few_points_are_taken_from_the_same_curve():
    rng = np.random.default_rng(1)
    strong, weak = rng.random(400).round(), rng.random(400).round() * 0.5
    score = strong - weak + rng.normal(size=400)
    full, few = gap(strong, weak, score), gap(strong, weak, score, points=10)
    assert few.fractions == pytest.approx(np.arange(11) / 10)
    assert few.recovered[5] == pytest.approx(full.recovered[200])
    assert few.apgr == pytest.approx(full.apgr, abs=0.02)


# --- AUC ---


def test_auc_is_the_mean_over_members_with_both_classes():
    truth = np.array([[1, 1, np.nan], [0, 1, 1], [1, 1, 0], [0, 1, 1]])
    guess = np.array([[0.9, 0.1, 0.9], [0.8, 0.2, 0.2], [0.7, 0.3, 0.1], [0.1, 0.4, 0.0]])
    # Member 0: 3 of 4 pairs; member 1 is always right; member 2: 1 of 2 pairs.
    assert mean_auc(guess, truth) == pytest.approx((0.75 + 0.5) / 2)
    assert math.isnan(mean_auc(np.ones((3, 1)), np.ones((3, 1))))


# --- the cascade-routing area ---

CHEAP, DEAR = (1.0, 0.4), (5.0, 0.8)


def test_the_area_of_a_straight_line_is_its_middle():
    assert quality_cost_area([CHEAP, DEAR], [CHEAP, DEAR]) == pytest.approx(0.6)


def test_the_area_by_hand():
    """From (1, 0.4) straight to (2, 0.6), to (3, 0.8), flat to 5."""
    found = quality_cost_area([(2.0, 0.6), (3.0, 0.8)], [CHEAP, DEAR])
    assert found == pytest.approx((0.5 + 0.7 + 0.8 + 0.8) / 4)


def test_points_outside_the_members_costs_only_give_the_slope():
    """At cost 1 the line from (0, 0.2) to (2, 0.6) stands at 0.4; at 5 that to (7, 1.1) at 0.9."""
    found = quality_cost_area([(0.0, 0.2), (2.0, 0.6), (7.0, 1.1)], [CHEAP, DEAR])
    assert found == pytest.approx((0.5 * 1 + 0.75 * 3) / 4)


def test_members_of_one_price_have_no_curve():
    with pytest.raises(ValueError, match="same"):
        quality_cost_area([CHEAP], [(1.0, 0.4), (1.0, 0.8)])


# --- tasks, RouterArena ---


def test_recognising_the_task_is_no_gain_within_it():
    grades = np.array([[1, 0], [1, 0], [0, 1], [0, 1], [1, 1], [0, np.nan]])
    tasks = ["a", "a", "b", "b", "b", "b"]
    table = array(1, 1, 1, 1, 1, 0)
    assert within_task_gain(table, grades, tasks) == 0
    worse = array(1, 0, 1, 1, 1, 0)
    assert within_task_gain(worse, grades, tasks) == pytest.approx((-0.5 + 0) / 2)
    better = array(1, 1, 1, 1, 1, 1)
    assert within_task_gain(better, grades, tasks) == pytest.approx((0 + 0.25) / 2)


def test_router_arena():
    """At $0.0044 per 1,000 the thrift is 1, at $200 it is 0."""
    assert router_arena(0.8, 0.0044) == pytest.approx(1.1 * 0.8 / 1.08)
    assert router_arena(0.8, 200) == 0
    assert router_arena(0.7969, 0.27) == pytest.approx(0.7763, abs=0.001)
