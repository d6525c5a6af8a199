"""What replayed outcomes amount to: means with intervals, and the measures of the literature.

Every function is pure; arrays run over prompts unless said.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bicameral.left.calibrate import auc

Floats = NDArray[np.float64]
_CELLS = 4_000_000  # of one chunk of resamples: 32 MB


@dataclass(frozen=True)
class Interval:
    """A mean and its 95 % interval; NaN where a value it needs is unknown."""

    mean: float
    low: float
    high: float

    @property
    def real(self) -> bool:
        """The interval excludes 0."""
        return self.low > 0 or self.high < 0


def intervals(columns: Floats, resamples: int = 10_000, seed: int = 0) -> list[Interval]:
    """The percentile bootstrap of each column's mean (Efron 1979); rows are prompts.

    All columns share the resampled prompts, so the interval of a difference of two columns is a
    paired one. Memory stays bounded whatever the number of prompts.
    """
    means = _resampled(columns, resamples, seed)
    low, high = np.percentile(means, [2.5, 97.5], axis=0)
    found = zip(columns.mean(axis=0), low, high, strict=True)
    return [Interval(float(mean), float(a), float(b)) for mean, a, b in found]


def interval(values: Floats, resamples: int = 10_000, seed: int = 0) -> Interval:
    """`intervals` of one column."""
    return intervals(np.asarray(values, dtype=float)[:, None], resamples, seed)[0]


def difference(ours: Floats, theirs: Floats, resamples: int = 10_000, seed: int = 0) -> Interval:
    """How much better `ours` is on the same prompts, paired."""
    return interval(np.asarray(ours) - np.asarray(theirs), resamples, seed)


def _resampled(columns: Floats, resamples: int, seed: int) -> Floats:
    """Resamples x columns: means, by how often each prompt was drawn."""
    rng = np.random.default_rng(seed)
    prompts = len(columns)
    size = max(1, _CELLS // prompts)
    means = []
    for start in range(0, resamples, size):
        count = min(size, resamples - start)
        drawn = rng.integers(0, prompts, size=(count, prompts), dtype=np.int64)
        drawn += np.arange(count)[:, None] * prompts
        times = np.bincount(drawn.ravel(), minlength=count * prompts).reshape(count, prompts)
        means.append(times.astype(float) @ columns / prompts)
    return np.concatenate(means)


# --- two models, one threshold (RouteLLM, arXiv 2406.18665) ------------------------------------


@dataclass(frozen=True)
class Gap:
    """The performance gap recovered at each fraction of calls to the strong model."""

    fractions: Floats
    recovered: Floats

    @property
    def apgr(self) -> float:
        """The mean over fractions: the area under the curve, by the trapezoid rule."""
        return float(np.trapezoid(self.recovered, self.fractions))

    def cpt(self, percent: float) -> float:
        """The least percentage of strong calls that recovers `percent` of the gap."""
        target = percent / 100
        over = np.flatnonzero(self.recovered >= target)
        if not len(over):
            return math.nan
        i = int(over[0])
        if i == 0:
            return 0.0
        (x0, x1), (y0, y1) = self.fractions[i - 1 : i + 1], self.recovered[i - 1 : i + 1]
        return float(100 * (x0 + (x1 - x0) * (target - y0) / (y1 - y0)))


def gap(strong: Floats, weak: Floats, score: Floats, points: int | None = None) -> Gap:
    """The curve that sends the prompts of highest `score` to the strong model first.

    One point per prefix; prompts of equal score go in no order, so the curve is straight through
    them. `points`: only that many fractions beside 0, evenly spaced, as a router evaluated at few
    thresholds has them.
    """
    order = np.argsort(-score, kind="stable")
    gained = np.concatenate([[0.0], np.cumsum((strong - weak)[order])])
    ends = np.concatenate([[True], np.diff(score[order]) != 0, [True]])
    at = np.flatnonzero(ends)
    fractions = at / len(score)
    recovered = gained[at] / (strong - weak).sum()
    if points is not None:
        few = np.linspace(0, 1, points + 1)
        fractions, recovered = few, np.interp(few, fractions, recovered)
    return Gap(fractions, recovered)


# --- estimates ---------------------------------------------------------------------------------


def mean_auc(estimates: Floats, truth: Floats) -> float:
    """P x M: the ROC-AUC of estimated correctness, averaged over members that have both classes.

    Cells without an outcome (NaN in `truth`) do not count.
    """
    found = [auc(guess, right) for guess, right in zip(estimates.T, truth.T, strict=True)]
    kept = [value for value in found if not math.isnan(value)]
    return float(np.mean(kept)) if kept else math.nan


# --- curves and tasks --------------------------------------------------------------------------


def quality_cost_area(
    curve: Sequence[tuple[float, float]], members: Sequence[tuple[float, float]]
) -> float:
    """AUC as in cascade routing (arXiv 2410.10347): the mean height of the quality-cost curve.

    Points are (cost, quality). The curve is linear between its points and runs from the cheapest
    member's cost to the dearest's: flat beyond its last point, from the worst member's quality at
    the cheapest member's cost up to its first.
    """
    costs = [cost for cost, _ in members]
    low, high = min(costs), max(costs)
    if low == high:
        raise ValueError("members that all cost the same have no quality-cost curve")
    points = sorted(set(curve))
    if points[0][0] > low:
        points.insert(0, (low, min(quality for _, quality in members)))
    xs, ys = (np.array(values) for values in zip(*points, strict=True))
    inside = (xs > low) & (xs < high)
    grid = np.concatenate([[low], xs[inside], [high]])
    heights = np.concatenate([np.interp([low], xs, ys), ys[inside], np.interp([high], xs, ys)])
    return float(np.trapezoid(heights, grid) / (high - low))


def within_task_gain(quality: Floats, grades: Floats, tasks: Sequence[Any]) -> float:
    """The gain over each task's own best member, averaged over tasks.

    Recognising the task alone earns 0. The best member of a task is the best on these very prompts
    (P x M `grades`; without an outcome: wrong).
    """
    names = np.array(tasks, dtype=object)
    gains = []
    for name in dict.fromkeys(tasks):
        here = names == name
        best = np.nan_to_num(grades[here]).mean(axis=0).max()
        gains.append(quality[here].mean() - best)
    return float(np.mean(gains))


def router_arena(accuracy: float, dollars: float, weight: float = 0.1) -> float:
    """RouterArena's S (arXiv 2510.00202): accuracy (0 to 1) and dollars per 1,000 prompts."""
    thrift = math.log2(200 / dollars) / math.log2(200 / 0.0044)
    return (1 + weight) * accuracy * thrift / (weight * accuracy + thrift)
