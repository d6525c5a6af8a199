"""Predictions that know nothing of motion: what any model has to beat.

Each takes a clip (T, H, W, C) and a mask of its pixels (T, H, W), or (T, 1, 1) of whole frames,
above 0 where a pixel is to be generated, and gives the clip with those pixels filled in, of the
same type. None looks at what it fills. A place that no frame gives is black, whichever it is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

Clip = NDArray[Any]  # of bytes or of floats
Mask = NDArray[Any]


def black(clip: Clip, mask: Mask) -> Clip:
    """Nothing."""
    return _filled(clip, mask, np.zeros(clip.shape))


def copy(clip: Clip, mask: Mask) -> Clip:
    """At each place what the nearest frame gives there, of two as near the earlier.

    In prediction that is the last frame given, again and again.
    """
    before, after, steps, left = _around(mask)
    times = np.where((steps <= left)[..., None], _taken(clip, before), _taken(clip, after))
    return _filled(clip, mask, times * np.isfinite(np.minimum(steps, left))[..., None])


def linear(clip: Clip, mask: Mask) -> Clip:
    """At each place what lies between the frames that give it before and after; else a copy."""
    before, after, steps, left = _around(mask)
    both = np.isfinite(steps) & np.isfinite(left)
    share = np.divide(steps, steps + left, out=np.zeros(steps.shape), where=both & (left > 0))
    mixed = (1 - share[..., None]) * _taken(clip, before) + share[..., None] * _taken(clip, after)
    return np.where(both[..., None], _filled(clip, mask, mixed), copy(clip, mask))


def mean(clip: Clip, mask: Mask) -> Clip:
    """At each place the mean of all frames that give it."""
    given = (mask <= 0)[..., None]
    total = (clip * given).sum(0, dtype=np.float64)
    values = total / np.maximum(given.sum(0), 1)
    return _filled(clip, mask, np.broadcast_to(values, clip.shape))


FLOORS: Mapping[str, Callable[[Clip, Mask], Clip]] = {
    "black": black,
    "copy": copy,
    "linear": linear,
    "mean": mean,
}


def _filled(clip: Clip, mask: Mask, values: NDArray[Any]) -> Clip:
    if np.issubdtype(clip.dtype, np.integer):
        values = np.rint(values)
    return np.where((mask > 0)[..., None], values.astype(clip.dtype), clip)


def _around(mask: Mask) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any], NDArray[Any]]:
    """(T, H, W) each: the last frame up to here that gives the place and the next, and how far.

    Where there is none the frame is 0 or the last, and how far infinite.
    """
    frames = len(mask)
    numbers = np.arange(frames)[:, None, None]
    given = mask <= 0
    before = np.maximum.accumulate(np.where(given, numbers, -1))
    after = np.minimum.accumulate(np.where(given, numbers, frames)[::-1])[::-1]
    steps = np.where(before >= 0, numbers - before, np.inf)
    left = np.where(after < frames, after - numbers, np.inf)
    return before.clip(0), after.clip(None, frames - 1), steps, left


def _taken(clip: Clip, frames: NDArray[Any]) -> Clip:
    return np.take_along_axis(clip, frames[..., None], 0)
