from __future__ import annotations

from random import Random

import pytest
from msgspec.structs import replace

from bicameral.chips.forecast import Spread
from bicameral.chips.outcome import running
from bicameral.chips.plan import solve
from bicameral.chips.queueing import waiting
from bicameral.chips.replica import Steady
from bicameral.chips.simulate import (
    Percentiles,
    Simulated,
    _fails,
    _Play,
    percentiles,
    simulate,
)
from tests.chips.work import H100, work


def played(seed: int = 0) -> tuple[Simulated, ...]:
    given = work(H100)
    return simulate(given, solve(given).chosen, seed=seed, requests=1500)


def test_a_seed_gives_the_same_figures() -> None:
    assert played() == played()
    assert played() != played(1)


def test_the_plan_holds_when_it_is_played() -> None:
    (group,) = played()
    assert not group.fails
    assert group.first.at == pytest.approx(group.planned_first, rel=0.2)
    assert group.token
    assert group.planned_token
    assert group.token.at == pytest.approx(group.planned_token, rel=0.2)
    assert group.busy == pytest.approx(group.planned_busy, rel=0.3)


def test_a_queue_of_one_place_waits_as_theory_says() -> None:
    one = Steady(Spread(1.0, 1.0, 1.0), "measured", "a test")
    seen = _Play(one, 1, 1, None, Random(1)).run(0.7, 500, 20_000)
    mean = sum(first for first, _ in seen) / len(seen)
    assert mean == pytest.approx(1 + waiting(1, 0.7, 1.0, 0.0).mean, rel=0.1)


def test_what_the_plan_had_not_expected_is_said() -> None:
    given = work(H100)
    (run,) = running(given, solve(given).chosen)
    expected = run.does.first_at.value
    late = Percentiles(expected, expected, expected, expected, 2.5)
    said = _fails(run.taken.option.held, run, late, None, 90)
    assert [("planned" in line, "misses the goal" in line) for line in said] == [
        (True, False),
        (False, True),
    ]
    assert not _fails(run.taken.option.held, run, replace(late, at=expected), None, 90)


def test_percentiles_are_of_nearest_rank() -> None:
    found = percentiles([float(n) for n in range(100)], 95)
    assert (found.p50, found.p90, found.p99, found.at) == (50, 90, 99, 95)
