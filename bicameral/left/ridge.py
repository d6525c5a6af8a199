"""Ridge regression of many members at once, its strength chosen by cross-validation.

Members fail together, so outcomes are first turned into their principal directions (how hard a
prompt is, then what sets members apart), each with a strength of its own: what is mostly noise is
shrunk hard (after Breiman and Friedman, "Predicting multivariate responses", 1997). One
eigendecomposition serves all strengths.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

STRENGTHS = np.geomspace(0.1, 10_000, 16)
# A member with more than this share of gaps is fitted on its own prompts alone.
_GAPS = 0.2


@dataclass(frozen=True)
class Fit:
    """`mean + (a - centre) @ weights` for a representation `a`; `held`: of rows left out."""

    mean: Floats  # M
    centre: Floats  # R x M
    weights: Floats  # R x M
    held: Floats  # P x M: predicted by a fit that had not seen the row's fold

    def __call__(self, a: Floats) -> Floats:
        """Predictions for rows of `a`."""
        out: Floats = self.mean - (self.centre * self.weights).sum(axis=0) + a @ self.weights
        return out


def ridge(a: Floats, y: Floats, folds: NDArray[np.intp], *, turn: bool = True) -> Fit:
    """Fits every column of `y` (NaN: not recorded) on `a`; `turn`: along principal directions."""
    rows, members = y.shape
    mean = np.zeros(members)
    centre, weights = np.zeros((a.shape[1], members)), np.zeros((a.shape[1], members))
    held = np.zeros((rows, members))
    for columns, seen in _groups(y):
        part = y[np.ix_(seen, columns)]
        mean[columns] = np.nanmean(part, axis=0)
        held[:, columns] = mean[columns]
        if len(np.unique(folds[seen])) < 2:
            continue
        middle = a[seen].mean(axis=0)
        rest = _filled(part - mean[columns])
        side = _directions(rest) if turn else np.eye(len(columns))
        weight, out = _fit(a - middle, rest @ side, seen, folds)
        centre[:, columns] = middle[:, None]
        weights[:, columns] = weight @ side.T
        held[:, columns] += out @ side.T
    return Fit(mean, centre, weights, held)


def _groups(y: Floats) -> Iterator[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    """Columns that can be fitted together, with the rows to fit them on."""
    known = ~np.isnan(y)
    some = known.any(axis=1)
    share = known.sum(axis=0) / max(1, some.sum())
    full = np.flatnonzero(share >= 1 - _GAPS)
    if len(full):
        yield full, np.flatnonzero(known[:, full].any(axis=1))
    alike: dict[bytes, list[int]] = {}
    for column in np.flatnonzero((share < 1 - _GAPS) & known.any(axis=0)):
        alike.setdefault(known[:, column].tobytes(), []).append(int(column))
    for columns in alike.values():
        yield np.array(columns), np.flatnonzero(known[:, columns[0]])


def _filled(rest: Floats) -> Floats:
    """Gaps filled with what the other members' outcomes on the same prompt suggest."""
    gaps = np.isnan(rest)
    if not gaps.any():
        return rest
    row = np.nan_to_num(np.nanmean(np.where(gaps.all(axis=1, keepdims=True), 0, rest), axis=1))
    own = np.where(gaps, 0, rest)
    slope = (own * row[:, None]).sum(axis=0) / np.maximum(
        1e-9, (~gaps * row[:, None] ** 2).sum(axis=0)
    )
    return np.where(gaps, row[:, None] * slope, rest)


def _directions(rest: Floats) -> Floats:
    return np.linalg.eigh(rest.T @ rest)[1]


def _fit(
    a: Floats, y: Floats, seen: NDArray[np.intp], folds: NDArray[np.intp]
) -> tuple[Floats, Floats]:
    """Weights from all `seen` rows, and for each row the prediction without its fold."""
    own = a[seen]
    parts = np.unique(folds[seen])
    grams = {k: _moments(own[folds[seen] == k], y[folds[seen] == k]) for k in parts}
    gram = sum(g for g, _ in grams.values())
    cross = sum(c for _, c in grams.values())
    tries = np.zeros((len(STRENGTHS), len(a), y.shape[1]))
    everyone = np.unique(folds)
    for k in everyone:
        out = folds == k
        g, c = grams.get(k, (0.0, 0.0))
        values, vectors = np.linalg.eigh(gram - g)
        inner, look = vectors.T @ (cross - c), a[out] @ vectors
        for i, strength in enumerate(STRENGTHS):
            tries[i, out] = look @ (inner / (np.maximum(values, 0) + strength)[:, None])
    best = ((tries[:, seen] - y) ** 2).mean(axis=1).argmin(axis=0)
    values, vectors = np.linalg.eigh(gram)
    inner = vectors.T @ cross / (np.maximum(values, 0)[:, None] + STRENGTHS[best])
    held = np.take_along_axis(tries, best[None, None, :], axis=0)[0]
    return vectors @ inner, held


def _moments(a: Floats, y: Floats) -> tuple[Floats, Floats]:
    return a.T @ a, a.T @ y
