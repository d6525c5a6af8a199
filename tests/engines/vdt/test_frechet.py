"""Distances between distributions that are known, and between sets of which the answer is plain."""

from __future__ import annotations

import numpy as np
import pytest

from bicameral.engines.vdt.score.frechet import coverage, frechet, mmd
from bicameral.errors import ConfigError


def normal(count: int, size: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, size))


def exact(count: int, mean: np.ndarray, root: np.ndarray) -> np.ndarray:
    """Features whose mean is `mean` and whose covariance is root @ root.T, not just about."""
    drawn = normal(count, len(mean), 0)
    drawn -= drawn.mean(0)
    white = np.linalg.cholesky(np.linalg.inv(drawn.T @ drawn / (count - 1)))
    return drawn @ white @ root.T + mean


def test_the_distance_of_gaussians_that_differ_in_place_and_width() -> None:
    mean, deviations = np.array([1.0, -2.0, 0.5]), np.array([2.0, 0.5, 1.0])
    one = exact(200, np.zeros(3), np.eye(3))
    other = exact(200, mean, np.diag(deviations))
    due = (mean**2).sum() + ((1 - deviations) ** 2).sum()
    assert frechet(one, other) == pytest.approx(due)
    assert frechet(other, one) == pytest.approx(due)
    assert frechet(one, one) == pytest.approx(0, abs=1e-9)


def test_the_distance_of_gaussians_whose_covariances_do_not_commute() -> None:
    """In two dimensions tr(M½) is √(tr M + 2 √det M), which needs no square root of a matrix."""
    a, b = np.array([[2.0, 0.0], [1.0, 1.0]]), np.array([[1.0, -0.7], [0.0, 1.5]])
    one, other = a @ a.T, b @ b.T
    product = one @ other
    root = np.sqrt(np.trace(product) + 2 * np.sqrt(np.linalg.det(product)))
    due = np.trace(one) + np.trace(other) - 2 * root
    found = frechet(exact(99, np.zeros(2), a), exact(99, np.zeros(2), b))
    assert found == pytest.approx(due)


def test_fewer_clips_than_features_still_give_a_number() -> None:
    assert frechet(normal(10, 40, 1), normal(10, 40, 2)) > 0
    assert frechet(normal(10, 40, 1), normal(10, 40, 1)) == pytest.approx(0, abs=1e-4)


def test_the_discrepancy_is_unbiased_and_sees_a_shift() -> None:
    pairs = [(normal(40, 8, 2 * n), normal(40, 8, 2 * n + 1)) for n in range(60)]
    same = [mmd(one, other) for one, other in pairs]
    apart = [mmd(one, other + 1) for one, other in pairs]
    error = np.std(same) / len(same) ** 0.5
    assert abs(np.mean(same)) < 4 * error
    assert min(same) < 0 < max(same)
    assert np.mean(apart) > 20 * error


def test_the_discrepancy_is_the_sum_over_pairs() -> None:
    one, other = normal(5, 3, 1), normal(7, 3, 2)

    def kernel(x, y):
        return (x @ y / 3 + 1) ** 3

    within = [
        np.mean([kernel(x, y) for i, x in enumerate(s) for j, y in enumerate(s) if i != j])
        for s in (one, other)
    ]
    across = np.mean([kernel(x, y) for x in one for y in other])
    assert mmd(one, other) == pytest.approx(sum(within) - 2 * across)


def test_coverage_falls_when_a_part_is_never_made_and_density_when_it_is_far_off() -> None:
    real = np.concatenate([normal(700, 4, 1), normal(700, 4, 2) + 20])
    fair = coverage(real, np.concatenate([normal(700, 4, 3), normal(700, 4, 4) + 20]))
    half = coverage(real, normal(1400, 4, 5))
    off = coverage(real, normal(1400, 4, 6) - 50)
    assert fair.density == pytest.approx(1, abs=0.1)
    assert fair.coverage > 0.9
    assert half.coverage == pytest.approx(0.5, abs=0.02)
    assert half.density == pytest.approx(1, abs=0.1)
    assert (off.density, off.coverage) == (0, 0)


def test_coverage_on_a_line_counted_by_hand() -> None:
    real, made = np.array([[0.0], [1.0], [3.0]]), np.array([[0.5], [10.0]])
    found = coverage(real, made, nearest=1)  # radii 1, 1, 2
    assert found.density == pytest.approx(2 / (1 * 2))
    assert found.coverage == pytest.approx(2 / 3)


def test_features_that_do_not_match_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"\(n, d\)"):
        frechet(normal(5, 3, 0), normal(5, 4, 0))
    with pytest.raises(ConfigError, match="two clips"):
        mmd(normal(1, 3, 0), normal(5, 3, 0))
    with pytest.raises(ConfigError, match="lower it"):
        coverage(normal(5, 3, 0), normal(5, 3, 1))
