"""The floor: it promises only what holds, and says what it lacks."""

from __future__ import annotations

import itertools
import math
import random

import pytest

from bicameral.left.floor import (
    accept_above,
    outcomes_needed,
    p_value,
    promise,
    wrong_needed,
)

SAFE = [0.0] * 1_000


def losing(count: int, of: int = 1_000, loss: float = 1.0) -> list[float]:
    return [loss] * count + [0.0] * (of - count)


def test_the_published_example_needs_149_prompts():
    assert promise([[0.0] * 149], eps=0.02, delta=0.05).plan == 0
    refused = promise([[0.0] * 148], eps=0.02, delta=0.05)
    assert refused.plan is None
    assert refused.more == 1
    assert refused.why == (
        "no promise of at most 2.00% worse at 95% confidence: the first plan needs 1 more outcomes"
    )
    assert promise([[0.0] * 100], eps=0.02, delta=0.05).more == 49
    assert promise([[]], eps=0.02, delta=0.05).more == 149


def test_the_cheapest_that_passes():
    plans = [SAFE, losing(2), losing(8), losing(40), losing(0)]
    told = promise(plans, eps=0.02, delta=0.05)
    assert told.plan == 2
    assert len(told.tested) == 4  # it stops at the first that fails, whatever comes after
    assert told.more is None
    assert told.why.endswith("from 1000 outcomes; plan 3 loses too much")


def test_a_plan_that_might_pass_says_what_it_lacks():
    told = promise([SAFE, losing(15)], eps=0.02, delta=0.05)
    assert told.plan == 0
    count = 1_000 + told.more
    assert p_value(losing(round(0.015 * count), count), 0.02) == pytest.approx(0.05, abs=0.01)
    assert f"plan 1 needs {told.more} more outcomes" in told.why


def test_all_pass():
    told = promise([SAFE, SAFE], eps=0.02, delta=0.05)
    assert (told.plan, told.more) == (1, None)
    assert told.why == "plan 1 is at most 2.00% worse, at 95% confidence from 1000 outcomes"


def test_the_binomial_is_exact():
    for count, lost, eps in ((5, 0, 0.3), (5, 2, 0.3), (9, 4, 0.5), (3, 3, 0.1)):
        brute = sum(
            math.prod(eps if loss else 1 - eps for loss in draw)
            for draw in itertools.product((0, 1), repeat=count)
            if sum(draw) <= lost
        )
        assert p_value(losing(lost, count), eps) == pytest.approx(brute)


def test_no_outcomes_prove_nothing():
    assert p_value([], 0.5) == 1.0


def test_parts_of_a_loss_are_no_worse_than_whole_ones():
    """Hoeffding-Bentkus uses that losses lie between; it is looser than the exact test."""
    assert p_value(losing(20, 1_000, 0.5), 0.05) < p_value(losing(20), 0.05) * math.e
    assert p_value(losing(500, 1_000, 0.5), 0.05) == 1.0


def test_gains_make_up_for_losses():
    swings = [1.0, -1.0, -1.0, 0.0, 0.0] * 200  # loses a fifth, wins two
    assert p_value(swings, 0.02) < 1e-6
    assert p_value([max(0.0, s) for s in swings], 0.02) == pytest.approx(1.0)
    assert p_value([-s for s in swings], 0.02) > 0.5


def draw_whole(rng: random.Random, eps: float) -> float:
    return float(rng.random() < eps)


def draw_parts(rng: random.Random, eps: float) -> float:
    return rng.choice((0.2, 0.8)) if rng.random() < 2 * eps else 0.0


def draw_signed(rng: random.Random, eps: float) -> float:
    u = rng.random()
    return 1.0 if u < 0.2 else -1.0 if u < 0.4 - eps else 0.0


@pytest.mark.parametrize("draw", [draw_whole, draw_parts, draw_signed])
def test_a_plan_just_too_bad_passes_no_more_often_than_delta(draw):
    """Each loss has the mean eps, the worst that must not pass; 600 data sets, seeded."""
    rng = random.Random(20)
    eps, delta, trials = 0.05, 0.1, 600
    passed = sum(p_value([draw(rng, eps) for _ in range(200)], eps) <= delta for _ in range(trials))
    slack = 3 * math.sqrt(delta * (1 - delta) / trials)
    assert passed / trials <= delta + slack


def test_the_promise_holds_for_the_whole_walk():
    """Plans from safe to cheap, the third is the first that is too bad: choosing it is wrong."""
    rng = random.Random(21)
    eps, delta, trials = 0.05, 0.1, 500
    risks = (0.0, 0.03, 0.06, 0.10)
    wrong, right = 0, 0
    for _ in range(trials):
        difficulty = [rng.random() for _ in range(300)]  # plans lose on the same prompts
        plans = [[float(d < risk) for d in difficulty] for risk in risks]
        plan = promise(plans, eps=eps, delta=delta).plan
        wrong += plan is not None and risks[plan] > eps
        right += plan == 1
    assert wrong / trials <= delta + 3 * math.sqrt(delta * (1 - delta) / trials)
    assert right / trials > 0.3  # and it is no idle promise


def test_good_plans_pass_when_there_is_enough():
    rng = random.Random(22)
    good = [
        p_value([draw_signed(rng, -0.04) for _ in range(3_000)], 0.05) <= 0.05 for _ in range(20)
    ]
    assert sum(good) >= 18


@pytest.mark.parametrize(
    ("losses", "passes_with"),
    [([0.0] * 50, 149), (losing(30), None), ([1.0, -1.0] * 50, 10_000)],
)
def test_how_many_are_needed(losses, passes_with):
    needed = outcomes_needed(losses, 0.02, 0.05)
    if passes_with is None:
        assert needed is None
    else:
        assert len(losses) < needed
        assert needed == passes_with or needed > 1_000


def test_signed_losses_pass_with_about_what_was_said():
    few = [1.0, -1.0, 0.0, 0.0, 0.0] * 40
    needed = outcomes_needed(few, 0.05, 0.05)
    assert p_value(few, 0.05) > 0.05
    assert p_value((few * 100)[: 2 * needed], 0.05) <= 0.05


@pytest.mark.parametrize(
    ("losses", "keys", "said"),
    [
        ([[0.0], [0.0, 1.0]], {}, "one for each prompt"),
        ([], {}, "at least one"),
        ([[0.0]], {"eps": 0.0}, "between 0 and 1"),
        ([[0.0]], {"delta": 1.0}, "between 0 and 1"),
        ([[1.5]], {}, "between -1 and 1"),
        ([[math.nan]], {}, "between -1 and 1"),
    ],
)
def test_what_makes_no_sense_is_refused(losses, keys, said):
    with pytest.raises(ValueError, match=said):
        promise(losses, **{"eps": 0.02, "delta": 0.05, **keys})


# --- verifiers ---------------------------------------------------------------------------------


def test_accepts_no_more_wrong_answers_than_asked():
    rng = random.Random(23)
    alpha, trials, accepted = 0.1, 1_500, 0
    for _ in range(trials):
        bar = accept_above([rng.gauss(0, 1) for _ in range(60)], alpha)
        accepted += rng.gauss(0, 1) > bar
    assert accepted / trials <= alpha + 3 * math.sqrt(alpha * (1 - alpha) / trials)
    assert accepted / trials >= alpha / 2  # nor does it refuse everything


@pytest.mark.parametrize(("alpha", "needed"), [(0.05, 19), (0.1, 9), (0.5, 1), (0.3, 3)])
def test_too_few_wrong_answers_accept_nothing(alpha, needed):
    assert wrong_needed(alpha) == needed
    assert accept_above([0.5] * (needed - 1), alpha) is None
    assert accept_above([0.5] * needed, alpha) == 0.5


def test_the_bar_is_a_score_that_was_seen():
    scores = [i / 100 for i in range(99)]
    assert accept_above(scores, 0.05) == 0.94  # the 95th smallest of 99
