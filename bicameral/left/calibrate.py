"""Probabilities that mean what they say, and how far they do."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_EDGE = 0.02


def logit(p: Floats) -> Floats:
    """Log-odds; probabilities within 0.02 of 0 or 1 count as that far."""
    p = np.clip(p, _EDGE, 1 - _EDGE)
    return np.log(p / (1 - p))


def sigmoid(z: Floats) -> Floats:
    """The inverse of log-odds."""
    out: Floats = 1 / (1 + np.exp(-np.clip(z, -30, 30)))
    return out


def platt(predicted: Floats, score: Floats, prior: float = 20.0) -> tuple[float, float]:
    """Slope and offset of log-odds (Platt, 1999) that fit `score` best; NaN is left out.

    `prior`: how many outcomes the assumption "slope 1, offset 0" is worth, so that a few labels
    do not turn the estimates around.
    """
    keep = ~np.isnan(score)
    z, y = logit(predicted[keep]), score[keep]
    slope, offset = 1.0, 0.0
    for _ in range(25):
        p = sigmoid(slope * z + offset)
        w = np.maximum(p * (1 - p), 1e-6)
        grad = np.array([((p - y) * z).sum() + prior * (slope - 1), (p - y).sum() + offset])
        hess = np.array([[(w * z * z).sum() + prior, (w * z).sum()], [(w * z).sum(), w.sum() + 1]])
        step = np.linalg.solve(hess, grad)
        slope, offset = slope - float(step[0]), offset - float(step[1])
        if abs(step).max() < 1e-6:
            break
    return max(slope, 0.0), offset


def brier(predicted: Floats, score: Floats) -> float:
    """Mean squared distance between probability and score."""
    keep = ~np.isnan(score)
    return float(((predicted[keep] - score[keep]) ** 2).mean())


def ece(predicted: Floats, score: Floats, bins: int = 15) -> float:
    """Expected calibration error: mean gap between probability and score over equal-count bins."""
    keep = ~np.isnan(score)
    order = np.argsort(predicted[keep], kind="stable")
    gaps = [
        abs(float(predicted[keep][part].mean() - score[keep][part].mean())) * len(part)
        for part in np.array_split(order, bins)
        if len(part)
    ]
    return sum(gaps) / max(1, len(order))


def auc(predicted: Floats, score: Floats) -> float:
    """Area under the ROC curve of "score above one half"; NaN if there is one class only."""
    keep = ~np.isnan(score)
    p, right = predicted[keep], score[keep] > 0.5
    if right.all() or not right.any():
        return float("nan")
    _, place, times = np.unique(p, return_inverse=True, return_counts=True)
    rank = (np.cumsum(times) - (times - 1) / 2)[place]
    ones = int(right.sum())
    return float((rank[right].sum() - ones * (ones + 1) / 2) / (ones * (len(p) - ones)))
