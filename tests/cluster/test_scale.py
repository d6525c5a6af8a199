from __future__ import annotations

import pytest

from bicameral.cluster.scale import Scale
from bicameral.cluster.settings import Bounds, Settings, checked
from bicameral.config import convert
from bicameral.errors import ConfigError

BOUNDS = Bounds(min=1, max=3, up_seconds=2, down_seconds=10)


def follow(scale: Scale, steps: list[tuple[float, int]], count: int = 1) -> list[int]:
    counts = []
    for now, busy in steps:
        count = scale.wanted(now, busy, count)
        counts.append(count)
    return counts


def test_it_grows_after_a_while_one_at_a_time_and_stops_at_the_most() -> None:
    steps = [(0, 40), (1, 40), (2, 40), (3, 40), (4, 40), (5, 40), (6, 40), (60, 40)]
    assert follow(Scale(BOUNDS, 10), steps) == [1, 1, 2, 2, 3, 3, 3, 3]


def test_a_short_peak_moves_nothing() -> None:
    steps = [(0, 40), (1, 40), (1.5, 3), (2, 40), (3, 40), (3.5, 3)]
    assert follow(Scale(BOUNDS, 10), steps) == [1] * 6


def test_it_shrinks_late_and_not_below_the_least() -> None:
    steps = [(0, 0), (9, 0), (10, 0), (19, 0), (20, 0), (90, 0)]
    assert follow(Scale(BOUNDS, 10), steps, count=3) == [3, 3, 2, 2, 1, 1]


def test_between_the_marks_it_rests() -> None:
    """Two replicas of ten: one would be enough for 5, two are too few from 17."""
    for busy in (6, 10, 16):
        assert follow(Scale(BOUNDS, 10), [(0, busy), (99, busy), (999, busy)], 2) == [2, 2, 2]


def test_what_died_is_wanted_at_once() -> None:
    assert Scale(Bounds(min=2, max=2), 10).wanted(0, 0, 0) == 2
    assert Scale(BOUNDS, 10).wanted(0, 0, 4) == 3


@pytest.mark.parametrize(
    ("table", "what"),
    [
        ({"replicas": {"min": 3, "max": 2}}, "max is less than min"),
        ({"resources": {"CPU": 1}}, "write CPU as num_cpus"),
        ({"resources": {"memory": 1}}, "write memory as memory"),
        ({"replicas": 0}, "replicas"),
        ({"replica": 2}, "did you mean 'replicas'"),
    ],
)
def test_a_wrong_table_is_refused_by_name(table: dict, what: str) -> None:
    with pytest.raises(ConfigError, match=what):
        checked("m", convert(table, Settings, "here.toml", "models.m.cluster"))
