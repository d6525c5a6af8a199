from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bicameral.chips.linear import maximise
from bicameral.chips.place import Placement, Pool, Stage, place
from bicameral.errors import ConfigError

HEAR, SAY = Stage("hear", 100), Stage("say", 300)
FAST, SLOW = (6000.0, 18_000.0), (2000.0, 1200.0)


def placed(*pools: Pool) -> Placement:
    return place([HEAR, SAY], pools)


def test_what_is_slower_at_both_may_do_what_it_is_least_slow_at() -> None:
    found = placed(Pool("fast", 1, FAST), Pool("slow", 3, SLOW))
    assert found.replicas.rate == pytest.approx(30 + 3 / (0.05 + 0.25))
    # The slow ones hear all of it; what they have left, and all of the fast one, speaks.
    hearing = (60 + 12) / (60 + 12)
    assert found.shared.rate == pytest.approx(60 * hearing)
    assert found.gain == pytest.approx(60 / 40)
    assert found.best.name == "whole"
    shares = {(s.kind, s.stage): s.chips for s in found.best.shares}
    assert shares == {("fast", "say"): 1, ("slow", "hear"): 3}


def test_alike_chips_gain_nothing() -> None:
    found = placed(Pool("fast", 2, FAST))
    assert found.gain == pytest.approx(1)
    assert found.best is found.replicas
    assert "alike" in found.why


def test_a_small_gain_is_not_worth_a_cut() -> None:
    found = placed(Pool("fast", 8, FAST), Pool("slow", 1, (1000.0, 2500.0)))
    assert found.gain is not None
    assert 1 < found.gain < 1.03
    assert found.best is found.replicas
    assert "take replicas" in found.why


def test_chips_that_do_one_stage_only_leave_no_replicas() -> None:
    found = placed(Pool("ears", 1, (1000.0, 0.0)), Pool("mouth", 1, (0.0, 900.0)))
    assert found.replicas.rate == 0
    assert found.gain is None
    assert found.best.rate == pytest.approx(3)


def test_time_is_shared_where_whole_chips_would_waste_it() -> None:
    found = placed(Pool("fast", 1, FAST), Pool("slow", 1, SLOW))
    assert found.whole is not None
    assert found.whole.rate == pytest.approx(20)
    assert found.best is found.shared
    used = sum(s.chips for s in found.shared.shares if s.kind == "fast")
    assert used == pytest.approx(1)


def test_senseless_pools_are_refused() -> None:
    with pytest.raises(ConfigError, match="no chip of the pools can do say"):
        placed(Pool("ears", 4, (1000.0, 0.0)))
    with pytest.raises(ConfigError, match="one rate >= 0 for each stage"):
        placed(Pool("ears", 4, (1000.0,)))
    with pytest.raises(ConfigError, match="amount"):
        place([Stage("hear", 0)], [Pool("ears", 1, (1.0,))])


RATE = st.integers(0, 50).map(float)


@settings(deadline=None, max_examples=60)
@given(
    amounts=st.lists(st.integers(1, 20).map(float), min_size=1, max_size=3),
    data=st.data(),
)
def test_no_linear_programme_does_better(amounts: list[float], data: st.DataObject) -> None:
    optimize = pytest.importorskip("scipy.optimize")
    stages = [Stage(f"s{i}", a) for i, a in enumerate(amounts)]
    drawn = st.tuples(st.integers(0, 4), st.tuples(*[RATE] * len(stages)))
    pools = [
        Pool(f"p{i}", *p) for i, p in enumerate(data.draw(st.lists(drawn, min_size=1, max_size=3)))
    ]
    try:
        found = place(stages, pools)
    except ConfigError:
        return
    cells = len(pools) * len(stages)
    rows = np.zeros((len(pools) + len(stages), 1 + cells))
    for i, pool in enumerate(pools):
        for j, stage in enumerate(stages):
            rows[i, 1 + i * len(stages) + j] = 1
            rows[len(pools) + j, 1 + i * len(stages) + j] = -pool.rates[j]
            rows[len(pools) + j, 0] = stage.amount
    limits = [*(p.count for p in pools), *[0] * len(stages)]
    best = optimize.linprog([-1, *[0] * cells], A_ub=rows, b_ub=limits)
    assert found.shared.rate == pytest.approx(-best.fun, rel=1e-6, abs=1e-9)
    assert found.replicas.rate <= found.shared.rate * (1 + 1e-9)
    assert found.whole is not None
    assert found.whole.rate <= found.shared.rate * (1 + 1e-9)
    assert found.best.rate >= found.replicas.rate


def test_maximise_is_exact() -> None:
    third = Fraction(1, 3)
    rate, where = maximise(
        [Fraction(1), Fraction(1)],
        [[Fraction(3), Fraction(0)], [Fraction(1), Fraction(1)]],
        [Fraction(1), Fraction(1)],
    )
    assert rate == 1
    assert sum(where) == 1
    assert where[0] <= third
    with pytest.raises(ValueError, match="no bound"):
        maximise([Fraction(1)], [[Fraction(-1)]], [Fraction(1)])
    with pytest.raises(ValueError, match="negative"):
        maximise([Fraction(1)], [[Fraction(1)]], [Fraction(-1)])
