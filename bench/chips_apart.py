"""Decoding apart from reading: rows that nobody looked at while the form was chosen.

Decoding workers of disaggregated runs read no prompts, so those terms fall away. The coefficients
are those shipped, fitted on aggregated runs only; GB300 is in none of them.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from chips_data import Row, apart
from msgspec.structs import replace

from bicameral.chips.forecast import Coefficients, weighed
from bicameral.chips.roofline import terms
from bicameral.errors import ConfigError


def decoding(known: Coefficients) -> Iterator[str]:
    """By chip, and by whether the worker has more chips than any that was fitted on."""
    low, high = known.token_band.seen
    told = []
    for row in apart():
        try:
            told.append((row, _forecast(row, known)))
        except ConfigError:
            continue
    yield f"\ndecoding workers of disaggregated runs: {len(told)} rows; MAPE, median, bias, in band"
    for large in (False, True):
        for chip in ("all", *sorted({row.chip for row, _ in told})):
            some = [
                (row.token, said)
                for row, said in told
                if chip in ("all", row.chip) and (row.layout.chips > 8) == large
            ]
            if some:
                measured, forecast = np.array(some).T
                off, ratio = forecast / measured - 1, measured / forecast
                inside = ((low <= ratio) & (ratio <= high)).mean()
                where = "over 8 chips" if large else "up to 8 chips"
                yield (
                    f"  {where:14} {chip:10} {len(some):4} rows {np.abs(off).mean():6.1%} "
                    f"{np.median(np.abs(off)):6.1%} {off.mean():+7.1%} {inside:6.1%}"
                )


def _forecast(row: Row, known: Coefficients) -> float:
    counted, _ = terms(row.network, row.chip_, row.precision, row.layout, row.load)
    return weighed(known.token, replace(counted, reading=0, reading_layers=0, moved_reading=0))
