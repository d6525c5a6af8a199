"""Calibrates the coefficients on measurements: small relative errors, none of them negative.

Wants numpy. What is fitted is shared by all chips; nothing here takes a chip's name.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from bicameral.chips.roofline import Prompt, Terms

Floats = NDArray[np.float64]

_ROUNDS = 40
_NEAR = 0.02  # relative errors below this count alike: what repeats of one measurement differ by
_SOLVED = 1e-12


def matrix(rows: Sequence[Terms] | Sequence[Prompt]) -> Floats:
    """Terms as a matrix: a row for each measurement, columns in the order of the fields."""
    return np.array([[getattr(r, n) for n in r.__struct_fields__] for r in rows], dtype=np.float64)


def calibrate(counted: Floats, measured: Floats, use: Sequence[bool] | None = None) -> Floats:
    """Coefficients >= 0 that make the mean of |forecast / measured - 1| least.

    By least squares, reweighted until it is the absolute error (Huber 1964, Lawson 1961). Columns
    where `use` is False get 0.
    """
    used = np.ones(counted.shape[1], bool) if use is None else np.asarray(use, dtype=bool)
    relative = counted[:, used] / measured[:, None]
    weight = np.ones(len(measured))
    found = np.zeros(int(used.sum()))
    for _ in range(_ROUNDS):
        found = nonnegative(relative * weight[:, None], weight)
        weight = 1 / np.sqrt(np.maximum(np.abs(relative @ found - 1), _NEAR))
    whole = np.zeros(counted.shape[1])
    whole[used] = found
    return whole


def nonnegative(rows: Floats, wanted: Floats) -> Floats:
    """The x >= 0 with the least |rows x - wanted|, by active sets (Lawson and Hanson 1974)."""
    scale = np.sqrt((rows**2).sum(axis=0))
    scale[scale == 0] = 1.0
    gram = (rows / scale).T @ (rows / scale)
    pull = (rows / scale).T @ wanted
    x, free = np.zeros(len(pull)), np.zeros(len(pull), bool)
    for _ in range(10 * len(pull) + 10):
        slope = np.where(free, -np.inf, pull - gram @ x)
        if slope.max() <= _SOLVED * max(1.0, float(np.abs(pull).max())):
            break
        free[int(slope.argmax())] = True
        x = _settled(gram, pull, x, free)
    result: Floats = x / scale
    return result


def _settled(gram: Floats, pull: Floats, x: Floats, free: NDArray[np.bool_]) -> Floats:
    """The least squares over the free columns, freeing fewer until none is negative."""
    while True:
        full = np.zeros(len(x))
        full[free] = np.linalg.lstsq(gram[np.ix_(free, free)], pull[free], rcond=None)[0]
        below = free & (full <= 0)
        if not below.any():
            return full
        step = (x[below] / (x[below] - full[below])).min()
        x = x + step * (full - x)
        free &= x > _SOLVED
        x[~free] = 0.0


def band(ratios: Floats, within: float = 0.9) -> tuple[float, float]:
    """The ratios measured / forecast that `within` of new rows lie between, half outside a side.

    Split-conformal (Vovk et al. 2005): `ratios` must be of rows that the fit had not seen; the
    quantiles are those of one row more than there are.
    """
    n = len(ratios)
    level = min(1.0, (1 - (1 - within) / 2) * (n + 1) / n)
    ordered = np.sort(ratios)
    high = float(np.quantile(ordered, level, method="higher"))
    low = float(np.quantile(ordered, 1 - level, method="lower"))
    return low, high
