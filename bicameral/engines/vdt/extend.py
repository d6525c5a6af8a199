"""Clips longer than what the net learned from, made by windows of the length that it knows.

A window takes over the last half of what was made before it. Going on from the first frames given,
the windows come to the end; what lies before those frames is then made backward from them.
"""

from __future__ import annotations

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from bicameral.engines.vdt.masks import Mask


class Window(Struct, frozen=True, eq=False):
    """Frames from `start` on, one for each of `mask` (frames, rows, columns): 1 is made, 0 given.

    Given is also what windows before it have made.
    """

    start: int
    mask: Mask

    @property
    def frames(self) -> slice:
        """Where in the clip it is."""
        return slice(self.start, self.start + len(self.mask))


def windows(mask: Mask, length: int) -> list[Window]:
    """In the order in which to make them: together they make every frame of which any is masked.

    One window if the clip has no more than `length` frames; else each has just so many.
    """
    frames, overlap = len(mask), length // 2
    if frames <= length:
        return [Window(0, mask)]
    left, found = mask.copy(), []

    def make(start: int) -> None:
        start = min(max(0, start), frames - length)
        found.append(Window(start, left[start : start + length].copy()))
        left[start : start + length] = 0

    first = _first_given(mask)
    anchor = first if first >= length else 0
    while (todo := _unmade(left)).size:
        ahead = todo[todo >= anchor]
        make(int(ahead[0]) - overlap if ahead.size else int(todo[-1]) + 1 + overlap - length)
    return found


def _unmade(mask: Mask) -> NDArray[np.intp]:
    """Numbers of the frames of which something is still to be made."""
    return np.flatnonzero(mask.any(axis=(1, 2)))


def _first_given(mask: Mask) -> int:
    """The first frame of which anything is given; 0 if none is."""
    given = np.flatnonzero((mask < 1).any(axis=(1, 2)))
    return int(given[0]) if given.size else 0
