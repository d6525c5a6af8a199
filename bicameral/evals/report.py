"""The comparison as a table: minds beside what they have to beat, with 95 % intervals."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from rich.table import Table

from bicameral.evals.metrics import Interval, intervals
from bicameral.evals.replay import Replayed

COLUMNS = ("", "quality %", "against best single", "$ per 1,000", "seconds", "calls")


@dataclass(frozen=True)
class Line:
    """One way of answering every prompt. `gain` is paired with the report's first line.

    Quality is 0 to 1, cost in dollars per 1,000 prompts, seconds and calls per prompt.
    """

    name: str
    quality: Interval
    gain: Interval
    cost: Interval
    seconds: Interval
    calls: Interval


def lines(runs: Mapping[str, Replayed], resamples: int = 10_000, seed: int = 0) -> list[Line]:
    """A line a run; the first run is what the others are compared with.

    All intervals come from the same resampled prompts, so they can be compared.
    """
    first = next(iter(runs.values()))
    columns = []
    for run in runs.values():
        gain = run.quality - first.quality
        columns += [run.quality, gain, run.cost * 1000, run.seconds, run.calls]
    found = iter(intervals(np.stack(columns, axis=1), resamples, seed))
    return [Line(name, *itertools.islice(found, 5)) for name in runs]


def markdown(report: Sequence[Line]) -> str:
    """The lines as a Markdown table."""
    rows = [COLUMNS, ("---",) * len(COLUMNS), *(cells(line) for line in report)]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def shown(report: Sequence[Line]) -> Table:
    """The lines for a terminal."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in COLUMNS:
        table.add_column(column, justify="right" if column else "left")
    for line in report:
        table.add_row(*cells(line))
    return table


def cells(line: Line) -> tuple[str, ...]:
    """A line's figures as text; ? is not recorded."""
    none = line.gain.mean == line.gain.low == line.gain.high == 0
    return (
        line.name,
        _figure(line.quality, 100, ".1f"),
        "" if none else _figure(line.gain, 100, "+.1f"),
        _figure(line.cost, 1, ".3g"),
        _figure(line.seconds, 1, ".3g"),
        _figure(line.calls, 1, ".2f"),
    )


def _figure(found: Interval, scale: float, form: str) -> str:
    if math.isnan(found.mean):
        return "?"
    mean, low, high = (format(v * scale, form) for v in (found.mean, found.low, found.high))
    return mean if low == high else f"{mean} [{low}, {high}]"
