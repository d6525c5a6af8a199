"""The small net gate: differences between frames, pooled, into a net of one hidden layer.

Per cell of a 16 by 12 grid the mean change since the frame before, as far as it is unusual there
(`Novelty`). The largest of these values, alone, over 3x3 cells and over time, make about twenty
features that do not depend on where in the picture they are. `bench/train_gate.py` trains it, on
five pictures a second: of a quicker source the others are left out.
"""

from __future__ import annotations

import math
from importlib import resources

import numpy as np
from numpy.typing import NDArray

from bicameral.errors import RequestError
from bicameral.right.spikes import Novelty, grey
from bicameral.right.stream.frame import Frame

Array = NDArray[np.float32]

WIDTH, HEIGHT = 80, 60
COLUMNS, ROWS = 16, 12
# Seconds between two pictures that are compared; a tenth less, as clocks of cameras are not exact.
STEP = 0.18
_LARGEST = {
    "cell": (1, 2, 3, 5, 8, 12, 20, 40),
    "area": (1, 2, 3, 5, 8, 12),
    "lasting": (1, 2, 4, 8),
}


def open() -> Small:
    """The gate with the weights of this package."""
    path = resources.files("bicameral.right.stream.gates") / "small.npz"
    with path.open("rb") as file, np.load(file) as weights:
        return Small({name: weights[name] for name in weights.files})


class Small:
    """From 0 to 1: the net's estimate that something moves that does not usually."""

    name = "small"
    threshold = 0.5

    def __init__(self, weights: dict[str, Array]) -> None:
        self._weights = weights
        self._at, self._last = -math.inf, 0.0
        self._features = Features()

    def score(self, frame: Frame) -> float:
        """0 for the first frames, until it is known what is usual; between two as before."""
        if frame.pixels is None:
            raise RequestError(
                "the gate 'small' reads pictures: use 'spiking' for events", param="gate"
            )
        if frame.at < self._at:
            self.reset()  # the source began anew
        if frame.at - self._at >= STEP:
            self._at = frame.at
            features = self._features.of(grey(frame.pixels, WIDTH, HEIGHT))
            self._last = 0.0 if features is None else self._estimate(features)
        return self._last

    def _estimate(self, features: Array) -> float:
        w = self._weights
        hidden = np.tanh((features - w["mean"]) / w["scale"] @ w["hidden"] + w["hidden_bias"])
        return float(1 / (1 + np.exp(-(hidden @ w["out"] + w["out_bias"]))))

    def reset(self) -> None:
        """Forget the frame before and what is usual."""
        self._features = Features()
        self._at = -math.inf
        self._last = 0.0


class Features:
    """What the net sees of one source, frame after frame."""

    def __init__(self) -> None:
        self._before: Array | None = None
        self._novelty = Novelty(floor=1.0)
        self._lasting: Array | float = 0.0
        self._seen = 0

    def of(self, picture: Array) -> Array | None:
        """The features, or None while too little was seen; a new size of picture starts afresh."""
        before, self._before = self._before, picture
        if before is None or before.shape != picture.shape:
            self._seen, self._lasting = 0, 0.0
            self._novelty.reset()
            return None
        change = cells(np.abs(picture - before))
        excess = self._novelty.excess(change)
        self._lasting = 0.7 * self._lasting + 0.3 * excess
        self._seen += 1
        if self._seen <= Novelty.warm_up:
            return None
        maps = {"cell": excess, "area": area(excess), "lasting": self._lasting}
        largest = [_largest(np.asarray(maps[name]), ranks) for name, ranks in _LARGEST.items()]
        whole = [np.log1p(change.mean()), np.log1p(change.max()), np.mean(excess > 1)]
        return np.concatenate([*largest, whole]).astype(np.float32)


def cells(change: Array) -> Array:
    """The mean over each cell of the grid; a smaller picture has fewer cells."""
    rows, columns = min(ROWS, change.shape[0]), min(COLUMNS, change.shape[1])
    top = np.arange(rows) * change.shape[0] // rows
    left = np.arange(columns) * change.shape[1] // columns
    total = np.add.reduceat(np.add.reduceat(change, top, axis=0), left, axis=1)
    size = np.outer(np.diff(top, append=change.shape[0]), np.diff(left, append=change.shape[1]))
    return np.asarray(total / size, np.float32)


def area(values: Array) -> Array:
    """The mean over each cell and its neighbours; outside counts as 0."""
    wide = np.pad(values, 1)
    rows = wide[:-2] + wide[1:-1] + wide[2:]
    return np.asarray((rows[:, :-2] + rows[:, 1:-1] + rows[:, 2:]) / 9, np.float32)


def _largest(values: Array, ranks: tuple[int, ...]) -> Array:
    falling = np.sort(values, axis=None)[::-1]
    picked = falling[np.minimum(ranks, len(falling)) - 1]
    return np.asarray(np.sign(picked) * np.log1p(np.abs(picked)), np.float32)
