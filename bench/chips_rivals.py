"""What other planners would say: the plain rooflines, and a fit of six coefficients."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from chips_data import Row
from numpy.typing import NDArray

from bicameral.chips.fit import nonnegative
from bicameral.chips.roofline import BYTES

Floats = NDArray[np.float64]
_REDUCTION = 1e-5


def parts(row: Row) -> tuple[float, ...]:
    """Memory, arithmetic, reading, reductions' bytes and count of them, layers; as labelled.

    One roofline for the whole replica: weights and cache over all chips, and no cap by memory.
    """
    n, chip, ways = row.network, row.chip_, row.layout.chips
    load, stated = row.load, row.precision
    all_, each = load.concurrency, BYTES[stated.weights]
    read = n.always * each + 2 * n.head
    read += n.covered(all_) * n.expert * n.experts * BYTES[stated.experts]
    cache = all_ * n.kept(load.read + load.written / 2, 2.0)
    bandwidth = chip.fact("bandwidth_gbs").value * 1e9
    peak = chip.rate(stated.experts if n.experts else stated.weights).value * 1e12
    square = 2 * n.layers * n.reach_prefill * load.read**2
    prompt = (2 * n.active * load.read + square) / ways / peak
    link = chip.fact("link_gbs").value * 1e9
    moved = 2 * n.layers * all_ * n.hidden * 2 * 2 * (ways - 1) / ways / link
    return (
        (read + cache) / ways / bandwidth,
        2 * n.active * all_ / ways / peak,
        prompt * all_ / load.written,
        moved,
        2 * n.layers * _REDUCTION * (ways > 1),
        n.layers * 1e-6,
    )


def light(rows: Sequence[Row]) -> Floats:
    """Speed of light: the roofline and the share of reading."""
    found = np.array([parts(r) for r in rows])
    total: Floats = np.maximum(found[:, 0], found[:, 1]) + found[:, 2]
    return total


def fixed(rows: Sequence[Row]) -> Floats:
    """Usual fixed efficiencies: 80 % of bandwidth, 60 % and 50 % of peaks, 5 us a reduction."""
    found = np.array([parts(r) for r in rows])
    step = np.maximum(found[:, 0] / 0.8, found[:, 1] / 0.6)
    total: Floats = step + found[:, 2] / 0.5 + found[:, 3] + found[:, 4] * 0.5
    return total


def six(rows: Sequence[Row]) -> Floats:
    """The columns of the fit of six coefficients."""
    found = np.array([parts(r) for r in rows])
    step = np.maximum(found[:, 0], found[:, 1])
    once = np.full(len(rows), 1e-3)
    return np.stack([step, *found[:, 2:].T, once], axis=1)


def fit_six(columns: Floats, measured: Floats) -> Floats:
    """Least squares of relative errors, none negative."""
    return nonnegative(columns / measured[:, None], np.ones(len(measured)))
