"""The picture of a training: its loss, and the held-out loss of each task, by step."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bicameral.engines.vdt.learn.pieces import Row
from bicameral.errors import ConfigError


def draw(rows: Sequence[Row], path: Path, title: str) -> None:
    """Write a PNG; ConfigError says what to install where matplotlib is missing."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ConfigError(
            "matplotlib is not installed: run `pip install 'bicameral[learn]'`"
        ) from error
    figure: Any = Figure(figsize=(10, 4), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    _losses(left, rows)
    _tasks(right, [row for row in rows if row.tasks])
    figure.suptitle(title, fontsize=10)
    partly = path.with_name(f".{path.name}.part")
    figure.savefig(partly, format="png", dpi=110)
    partly.replace(path)


def _losses(axes: Any, rows: Sequence[Row]) -> None:
    points = [(row.step, row.loss) for row in rows if row.loss is not None]
    axes.plot([step for step, _ in points], [loss for _, loss in points], color="C0", lw=0.8)
    if points and min(loss for _, loss in points) > 0:
        axes.set_yscale("log")
    axes.set(xlabel="step", ylabel="training loss")
    rate = axes.twinx()
    rates = [(row.step, row.rate) for row in rows if row.rate is not None]
    rate.plot([step for step, _ in rates], [each for _, each in rates], color="C7", lw=0.8, ls=":")
    rate.set_ylabel("learning rate (dotted)")


def _tasks(axes: Any, rows: Sequence[Row]) -> None:
    names = list(rows[-1].tasks or ()) if rows else []
    for name in names:
        line = [(row.step, (row.tasks or {}).get(name)) for row in rows]
        axes.plot([step for step, _ in line], [loss for _, loss in line], marker=".", label=name)
    axes.set(xlabel="step", ylabel="held-out loss, averaged weights")
    if names:
        axes.legend(fontsize=7)
