"""Calibration and its measures, against values known by other means."""

from __future__ import annotations

import numpy as np
import pytest

from bicameral.left.calibrate import auc, brier, ece, logit, platt, sigmoid

NAN = float("nan")


def test_overconfident_estimates_are_pulled_in():
    rng = np.random.default_rng(0)
    truth = rng.uniform(0.2, 0.8, 5000)
    y = (rng.random(5000) < truth).astype(float)
    loud = sigmoid(2 * logit(truth) + 0.5)
    slope, offset = platt(loud, y)
    assert slope == pytest.approx(0.5, abs=0.07)
    assert offset == pytest.approx(-0.25, abs=0.07)
    assert ece(sigmoid(slope * logit(loud) + offset), y) < ece(loud, y) / 3


def test_a_few_labels_do_not_turn_estimates_around():
    slope, offset = platt(np.array([0.9, 0.1]), np.array([0.0, 1.0]))
    assert slope > 0.5
    assert abs(offset) < 0.5
    assert platt(np.array([0.5]), np.array([NAN])) == (1, 0)


def test_estimates_that_are_the_wrong_way_round_count_as_nothing():
    p = np.tile([0.9, 0.1], 500)
    assert platt(p, 1 - (p > 0.5))[0] == 0


def test_brier():
    assert brier(np.array([0.5, 1.0, 0.3]), np.array([1.0, 1.0, NAN])) == pytest.approx(0.125)


def test_ece():
    p = np.array([0.2] * 10 + [0.9] * 10)
    y = np.array([1.0] * 4 + [0.0] * 6 + [1.0] * 9 + [0.0])
    assert ece(p, y, bins=2) == pytest.approx(0.1)


def test_auc():
    y = np.array([0.0, 0.0, 1.0, 1.0])
    assert auc(np.array([0.1, 0.4, 0.35, 0.8]), y) == pytest.approx(0.75)
    assert auc(np.full(4, 0.5), y) == pytest.approx(0.5)
    assert auc(np.array([0.1, 0.4, 0.35, 0.8]), np.array([0, 0, 1, NAN])) == pytest.approx(0.5)
    assert np.isnan(auc(y, np.ones(4)))
