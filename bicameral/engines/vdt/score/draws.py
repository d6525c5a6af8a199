"""Many samples of one future: which of the three usual numbers a table may hold.

Exact samples of what may come have twice the squared error of their mean, so a sampler is not to
be read beside a regressor. The mean of its samples is; the best of them is not.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from msgspec import Struct

from bicameral.engines.vdt.score import openstl
from bicameral.engines.vdt.score.openstl import Clips, Curves, Score
from bicameral.errors import ConfigError


class Draws(Struct, frozen=True):
    """`single` is the first sample, `average` the mean of all `count` samples of a truth.

    `best_not_comparable` takes for each truth the sample nearest to it in MSE, which needs the
    truth: never print it in one table with the others.
    """

    count: int
    single: Score
    average: Score
    best_not_comparable: Score


def draws(sampled: Iterable[tuple[Clips, Clips]], *, span: float = 1.0) -> Draws:
    """The numbers of (samples (K, T, H, W, C), truth (T, H, W, C)), the same K for every truth."""
    counts: set[int] = set()
    rows: list[tuple[Curves, Curves, Curves]] = []
    for samples, truth in sampled:
        counts.add(len(samples))
        rows.append(_of_one(samples, truth, span))
    if len(counts) != 1:
        raise ConfigError(f"as many samples are needed of every truth: there are {sorted(counts)}")
    return Draws(counts.pop(), *(_pooled(column) for column in zip(*rows, strict=True)))


def _of_one(samples: Clips, truth: Clips, span: float) -> tuple[Curves, Curves, Curves]:
    every = openstl.curves(samples, np.repeat(truth[None], len(samples), axis=0), span=span)
    average = openstl.curves(_mean(samples)[None], truth[None], span=span)
    best = int(every.mse.mean(1).argmin())
    return _picked(every, 0), average, _picked(every, best)


def _mean(samples: Clips) -> Clips:
    """The mean of the samples, from 0 to 1 whatever they were."""
    whole = 255.0 if samples.dtype == np.uint8 else 1.0
    return np.asarray(samples.mean(0, dtype=np.float64) / whole)


def _picked(found: Curves, index: int) -> Curves:
    return Curves(*(v[index : index + 1] for v in (found.mse, found.mae, found.ssim, found.psnr)))


def _pooled(rows: tuple[Curves, ...]) -> Score:
    fields = ("mse", "mae", "ssim", "psnr")
    joined = (np.concatenate([getattr(row, field) for row in rows]) for field in fields)
    return openstl.mean(Curves(*joined))
