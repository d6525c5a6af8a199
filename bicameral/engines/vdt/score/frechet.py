"""How far apart two sets of clips are as distributions, in features that the caller computes.

The features are the caller's own, so no number from here may be called FVD or FID: those are of
one certain net. Say which net it was, how many clips, and what real clips score against others.
"""

from __future__ import annotations

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from bicameral.errors import ConfigError

_ROWS = 512  # of a table of distances that is held at once
Features = NDArray[np.floating]
Real = NDArray[np.float64]


class Coverage(Struct, frozen=True):
    """`density`: how many real neighbourhoods hold a generated clip, 1 for equal sets, can be more.

    `coverage`: the share of real neighbourhoods that hold any, at most 1.
    """

    density: float
    coverage: float


def frechet(real: Features, made: Features) -> float:
    """The Fréchet distance of the Gaussians fitted to features (n, d) and (m, d), squared units.

    It is biased upwards for few clips: compare only at one n, well above d.
    """
    real, made = _checked(real, made)
    apart = real.mean(0) - made.mean(0)
    one, other = _covariance(real), _covariance(made)
    root = _root(one)
    product = np.linalg.eigvalsh(root @ other @ root)  # as the eigenvalues of one @ other
    mixed = np.sqrt(product.clip(0)).sum()
    found = apart @ apart + np.trace(one) + np.trace(other) - 2 * mixed
    return max(float(found), 0.0)  # of equal sets it is rounding, of either sign


def mmd(real: Features, made: Features) -> float:
    """The unbiased squared maximum mean discrepancy under the kernel (x·y / d + 1)³.

    About 0 for equal distributions, and as often below it as above. Under the name KID it is used
    on images (Bińkowski et al., 2018).
    """
    real, made = _checked(real, made)
    return _within(real) + _within(made) - 2 * _kernel_sum(real, made) / (len(real) * len(made))


def coverage(real: Features, made: Features, *, nearest: int = 5) -> Coverage:
    """Density and coverage (Naeem et al., 2020), with spheres to the `nearest` real neighbour."""
    real, made = _checked(real, made)
    if not 1 <= nearest < len(real):
        raise ConfigError(f"{len(real)} real clips have no neighbour number {nearest}: lower it")
    inside, held = 0, 0
    for start in range(0, len(real), _ROWS):
        rows = real[start : start + _ROWS]
        reach = np.partition(_distances(rows, real), nearest, axis=1)[:, nearest]
        within = _distances(rows, made) <= reach[:, None]
        inside += int(within.sum())
        held += int(within.any(1).sum())
    return Coverage(inside / (nearest * len(made)), held / len(real))


def _checked(real: Features, made: Features) -> tuple[Real, Real]:
    if real.ndim != 2 or made.ndim != 2 or real.shape[1] != made.shape[1]:
        raise ConfigError(f"features {real.shape} and {made.shape}: they must be (n, d) and (m, d)")
    if min(len(real), len(made)) < 2:
        raise ConfigError("a distribution needs the features of at least two clips")
    return real.astype(np.float64), made.astype(np.float64)


def _covariance(features: Real) -> Real:
    off = features - features.mean(0)
    return np.asarray(off.T @ off / (len(off) - 1))


def _root(matrix: Real) -> Real:
    """The symmetric square root of a covariance."""
    values, vectors = np.linalg.eigh(matrix)
    return np.asarray((vectors * np.sqrt(values.clip(0))) @ vectors.T)


def _within(features: Real) -> float:
    """The mean kernel of two different rows."""
    count, size = features.shape
    alone = float(((np.einsum("ij,ij->i", features, features) / size + 1) ** 3).sum())
    return (_kernel_sum(features, features) - alone) / (count * (count - 1))


def _kernel_sum(one: Real, other: Real) -> float:
    size = one.shape[1]
    starts = range(0, len(one), _ROWS)
    return sum(float(((one[s : s + _ROWS] @ other.T / size + 1) ** 3).sum()) for s in starts)


def _distances(one: Real, other: Real) -> Real:
    """Squared; a row's distance to itself is the smallest of its row, not quite 0 maybe."""
    squares = (one * one).sum(1)[:, None] + (other * other).sum(1) - 2 * one @ other.T
    return np.asarray(squares.clip(0))
