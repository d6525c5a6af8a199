"""Balls read back from pixels: where each colour is, how large, and in how many pieces.

On the white ground a pixel is white less a share of each ball's colour, so the shares follow
exactly from its three channels; weighted by them a centre is found to far less than a pixel.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from bicameral.engines.vdt.worlds.balls import BLUE, RED, SIDE

_CORE = 0.5  # share of a colour from which on a pixel is of a ball
_LEAD = 0.25  # by which it leads over the other colours there: black is of all of them
_LEAST = 1.0  # px, of the shares of a piece that counts
_SOFT = 1 / 12  # px²: what an edge one pixel soft adds to the area, by pi
Real = NDArray[np.float64]


class Seen(Struct, frozen=True):
    """Per frame and colour: `at` (T, colours, 2) and `radius` (T, colours) of the largest piece.

    In units of the world, NaN where there is none. `pieces` (T, colours) counts them.
    """

    at: Real
    radius: Real
    pieces: NDArray[np.int64]


def parse(
    clip: NDArray[np.uint8] | NDArray[np.floating],
    colors: Sequence[tuple[int, int, int]] = (RED, BLUE),
) -> Seen:
    """The balls of a square clip (T, size, size, 3), of bytes or of floats from 0 to 1.

    A ball half behind another, or cut by the edge of the picture, is found where what shows is.
    """
    shares = _shares(clip, colors)
    frames, count, size, _ = shares.shape
    rest = shares.sum(1, keepdims=True) - shares if count > 1 else np.zeros_like(shares)
    marks = _pieces((shares > _CORE) & (shares > rest + _LEAD))
    at, radius = np.full((frames, count, 2), np.nan), np.full((frames, count), np.nan)
    pieces = np.zeros((frames, count), np.int64)
    for frame, color in zip(*np.nonzero(marks.any((2, 3))), strict=True):
        found = _largest(shares[frame, color], marks[frame, color])
        pieces[frame, color] = found[0]
        if found[0]:
            at[frame, color], radius[frame, color] = found[1:3], found[3]
    return Seen(at * SIDE / size, radius * SIDE / size, pieces)


def _shares(
    clip: NDArray[np.uint8] | NDArray[np.floating], colors: Sequence[tuple[int, int, int]]
) -> Real:
    """(T, colours, size, size): how much of a pixel each colour covers, by least squares."""
    whole = 255.0 if clip.dtype == np.uint8 else 1.0
    missing = 1.0 - clip.astype(np.float64) / whole
    inks = 1.0 - np.array(colors, np.float64) / 255.0
    return np.moveaxis((missing @ np.linalg.pinv(inks)).clip(0, 1), -1, 1)


def _pieces(core: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Every pixel of `core` (..., size, size) marked by its piece, 0 outside; edges connect.

    Each row falls into runs; runs that touch one of the row above are of one piece.
    """
    size = core.shape[-1]
    flat = np.pad(core, [(0, 0)] * (core.ndim - 1) + [(0, 1)]).ravel().astype(np.int8)
    edges = np.flatnonzero(np.diff(flat, prepend=0, append=0))
    rows, starts = np.divmod(edges[::2], size + 1)
    lengths = edges[1::2] - edges[::2]
    runs = list(zip(rows.tolist(), starts.tolist(), (starts + lengths).tolist(), strict=True))
    marks = np.zeros(core.shape, np.int64)
    marks[core] = np.repeat(np.array(_joined(runs, size), np.int64) + 1, lengths)
    return marks


def _joined(runs: list[tuple[int, int, int]], size: int) -> list[int]:
    """The first run of the piece that each run (row, start, stop) is of; images are `size` rows."""
    first = list(range(len(runs)))
    above = 0
    for this, (row, start, stop) in enumerate(runs):
        while runs[above][0] < row - 1 or (runs[above][0] == row - 1 and runs[above][2] <= start):
            above += 1
        other = above
        while row % size and runs[other][0] == row - 1 and runs[other][1] < stop:
            one, two = sorted((_first(first, other), _first(first, this)))
            first[two] = one
            other += 1
    return [_first(first, run) for run in range(len(runs))]


def _first(first: list[int], run: int) -> int:
    while first[run] != run:
        first[run] = first[first[run]]
        run = first[run]
    return run


def _largest(share: Real, marks: NDArray[np.int64]) -> tuple[int, float, float, float]:
    """Pieces of an image that count, and x, y and radius in px of the largest with its soft edge.

    The soft edge is what lies a pixel around the piece, so that faint stains far off move nothing.
    """
    sizes = np.bincount(marks.ravel(), share.ravel())[1:]
    pieces = int((sizes >= _LEAST).sum())
    if not pieces:
        return 0, math.nan, math.nan, math.nan
    around = np.pad(marks == 1 + int(sizes.argmax()), 1)
    size = share.shape[0]
    near = np.zeros(share.shape, bool)
    for down in range(3):
        for right in range(3):
            near |= around[down : down + size, right : right + size]
    weights = share * near
    area = float(weights.sum())
    middle = np.arange(size) + 0.5
    x, y = float(weights.sum(0) @ middle) / area, float(weights.sum(1) @ middle) / area
    return pieces, x, y, math.sqrt(max(area / math.pi - _SOFT, 0.0))
