"""The report's figures are those of its runs, and its pictures are pictures."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from rich.console import Console

from bicameral.errors import ConfigError
from bicameral.evals.baselines import single
from bicameral.evals.frontier import Point, draw, frontier
from bicameral.evals.frontier import markdown as frontier_markdown
from bicameral.evals.metrics import difference, interval
from bicameral.evals.report import lines, markdown, shown

from .tables import table

OUTCOMES = table(*["x: x y", "x: x y", "x: y x", "x: x x", "x: x y"] * 20)
RUNS = {"a alone": single(OUTCOMES, "a"), "b alone": single(OUTCOMES, "b")}


def test_a_line_has_the_means_and_intervals_of_its_run():
    first, second = lines(RUNS, resamples=500, seed=3)
    a, b = RUNS.values()
    assert (first.name, second.name) == ("a alone", "b alone")
    assert first.quality == interval(a.quality, 500, 3)
    assert second.gain.mean == pytest.approx(-0.4)
    paired = difference(b.quality, a.quality, 500, 3)
    assert second.gain.low == pytest.approx(paired.low)
    assert second.gain.high == pytest.approx(paired.high)
    assert second.cost.mean == pytest.approx(2)
    assert (first.seconds.mean, second.calls.mean) == (1, 1)


def test_the_markdown_table():
    first, second = markdown(lines(RUNS, 500, 3)).splitlines()[2:]
    assert first.startswith("| a alone | 80.0 [")
    assert first.endswith("|  | 1 | 1 | 1.00 |")
    assert "| -40.0 [" in second
    assert second.endswith("| 2 | 2 | 1.00 |")


def test_the_terminal_table_shows_the_same(capsys):
    found = lines(RUNS, 500, 3)
    Console(width=200).print(shown(found))
    said = " ".join(capsys.readouterr().out.split())
    assert "a alone 80.0 [" in said
    assert "-40.0 [" in said


def test_what_is_not_recorded_is_a_question_mark():
    run = single(table("x: x y", "x: y x", cost=None), "a")
    assert "| ? | 1 | 1.00 |" in markdown(lines({"a": run}, 100))


# --- the frontier ---

POINTS = [
    Point("dear and good", 5, 0.9),
    Point("cheap", 1, 0.5),
    Point("dominated", 2, 0.4),
    Point("same price, better", 1, 0.6),
    Point("no better", 6, 0.9),
    Point("unpriced", float("nan"), 0.99),
    Point("mind", 3, 0.8, "vote"),
]


def test_the_frontier_is_what_nothing_cheaper_matches():
    assert [p.name for p in frontier(POINTS)] == ["same price, better", "mind", "dear and good"]
    rng = np.random.default_rng(0)
    cloud = [Point(str(i), *rng.random(2).round(1)) for i in range(60)]
    kept = frontier(cloud)
    for point in cloud:
        beaten = any(
            other.cost <= point.cost
            and other.quality >= point.quality
            and (other.cost, other.quality) != (point.cost, point.quality)
            for other in cloud
        )
        assert ((point.cost, point.quality) in {(k.cost, k.quality) for k in kept}) != beaten


def test_the_frontier_as_a_table():
    text = frontier_markdown(POINTS)
    assert "| mind | vote | 3 | 80.0 | yes |" in text
    assert "| dominated | member | 2 | 40.0 |  |" in text
    assert text.splitlines()[-1] == "| unpriced | member | ? | 99.0 |  |"


def test_the_frontier_as_a_picture(tmp_path):
    path = tmp_path / "frontier.png"
    draw(POINTS, path)
    assert path.read_bytes().startswith(b"\x89PNG\r\n")


def test_a_frontier_needs_costs_and_matplotlib(tmp_path, monkeypatch):
    with pytest.raises(ConfigError, match="no costs are recorded"):
        draw([POINTS[5]], tmp_path / "f.png")
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ConfigError, match=r"bicameral\[learn\]"):
        draw(POINTS, tmp_path / "f.png")
