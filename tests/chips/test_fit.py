from __future__ import annotations

import numpy as np
import pytest

from bicameral.chips.fit import band, calibrate, nonnegative


def columns(rows: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).lognormal(size=(rows, 4))


def test_what_made_the_numbers_is_found_again() -> None:
    true = np.array([1.2, 0.0, 0.3, 5.0])
    counted = columns(200)
    assert calibrate(counted, counted @ true) == pytest.approx(true, abs=1e-6)


def test_a_few_stalled_rows_do_not_matter() -> None:
    true = np.array([1.2, 0.5, 0.3, 5.0])
    counted = columns(200)
    measured = counted @ true
    measured[:20] *= 10
    assert calibrate(counted, measured) == pytest.approx(true, rel=0.02)


def test_none_is_negative_and_unused_ones_are_zero() -> None:
    counted = columns(200)
    measured = counted @ np.array([1.0, -0.2, 0.5, 2.0])
    found = calibrate(counted, measured, [True, True, True, False])
    assert (found >= 0).all()
    assert found[1] == found[3] == 0


@pytest.mark.parametrize("seed", range(5))
def test_active_sets_reach_the_least(seed: int) -> None:
    """At the least, what is free has no slope, and what is at zero would only grow the error."""
    rng = np.random.default_rng(seed)
    rows, wanted = rng.normal(size=(30, 6)), rng.normal(size=30)
    found = nonnegative(rows, wanted)
    slope = rows.T @ (rows @ found - wanted)
    assert (found >= 0).all()
    assert np.abs(slope[found > 0]).max(initial=0) < 1e-8
    assert (slope[found == 0] > -1e-8).all()


def test_a_band_holds_what_it_promises() -> None:
    rng = np.random.default_rng(1)
    low, high = band(rng.lognormal(sigma=0.3, size=2000))
    new = rng.lognormal(sigma=0.3, size=20_000)
    assert 0.88 < ((low <= new) & (new <= high)).mean() < 0.93


def test_a_band_from_few_rows_is_as_wide_as_they_are() -> None:
    assert band(np.array([0.5, 1.0, 2.0])) == (0.5, 2.0)
