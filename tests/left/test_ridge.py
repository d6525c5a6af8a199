"""The regression under the scores, against the textbook solution."""

from __future__ import annotations

import numpy as np
import pytest

from bicameral.left import ridge as module
from bicameral.left.ridge import ridge


@pytest.fixture
def made():
    """A representation, linear outcomes of four members with noise, folds."""
    rng = np.random.default_rng(0)
    a = rng.normal(size=(400, 6))
    way = rng.normal(size=(6, 4))
    return a, a @ way + 0.1 * rng.normal(size=(400, 4)) + [1, 2, 3, 4], np.arange(400) % 5


def predicted(fit, a, topics=None):
    out = fit.constant + a @ fit.weights
    return out if topics is None else out + topics @ fit.table


def test_one_strength_is_plain_ridge(made, monkeypatch):
    a, y, folds = made
    monkeypatch.setattr(module, "STRENGTHS", np.array([7.0]))
    centred = a - a.mean(axis=0)
    exact = np.linalg.solve(centred.T @ centred + 7 * np.eye(6), centred.T @ (y - y.mean(axis=0)))
    for turn in (True, False):
        fit = ridge(a, y, folds, turn=turn)
        assert fit.weights == pytest.approx(exact)
        assert predicted(fit, a).mean(axis=0) == pytest.approx(y.mean(axis=0))


def test_signal_is_kept_and_noise_is_not(made):
    a, y, folds = made
    y = np.column_stack([y, np.random.default_rng(1).normal(size=400)])
    fit = ridge(a, y, folds, turn=False)
    assert ((fit.held - y)[:, :4] ** 2).mean() < 0.02
    assert fit.held[:, 4].std() < 0.1


def test_held_out_rows_do_not_move_their_own_prediction(made, monkeypatch):
    a, y, folds = made
    monkeypatch.setattr(module, "STRENGTHS", np.array([7.0]))
    noise = 100 * np.random.default_rng(3).normal(size=(80, 4))
    changed = y.copy()
    changed[folds == 2] += noise - noise.mean(axis=0)
    moved = np.abs(ridge(a, changed, folds, turn=False).held - ridge(a, y, folds, turn=False).held)
    assert moved[folds == 2].max() < 1e-6
    assert moved[folds != 2].max() > 1


def test_gaps_are_left_out_not_taken_for_0(made):
    a, y, folds = made
    some = y.copy()
    some[np.random.default_rng(2).random(400) < 0.05, 0] = np.nan
    some[50:, 3] = np.nan
    fit = ridge(a, some, folds)
    assert predicted(fit, a)[:, 0] == pytest.approx(y[:, 0], abs=1)
    assert predicted(fit, a)[:, 3] == pytest.approx(y[:, 3], abs=1)


def test_a_topic_tells_what_nothing_else_does():
    rng = np.random.default_rng(0)
    a, kind = rng.normal(size=(300, 3)), rng.integers(0, 2, 300)
    topics = np.eye(2)[kind]
    fit = ridge(a, kind[:, None] * 1.0, np.arange(300) % 5, topics)
    assert predicted(fit, a, topics)[:, 0] == pytest.approx(kind, abs=0.1)
    assert fit.held[:, 0] == pytest.approx(kind, abs=0.1)


def test_one_fold_gives_the_mean(made):
    a, y, _ = made
    fit = ridge(a, y, np.zeros(400, dtype=np.intp))
    assert predicted(fit, a) == pytest.approx(np.tile(y.mean(axis=0), (400, 1)))
