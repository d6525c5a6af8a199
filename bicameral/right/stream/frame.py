"""One moment of a source: a picture, a handful of events, or a piece of sound."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Events(Struct, frozen=True, eq=False):
    """Events of one frame, in order of time: four arrays of one length.

    `x` and `y` are pixels of a sensor `width` by `height`, `t` microseconds of the source's own
    clock, `p` 1 where it got brighter and 0 where it got darker.
    """

    x: NDArray[np.integer]
    y: NDArray[np.integer]
    t: NDArray[np.integer]
    p: NDArray[np.integer]
    width: int
    height: int


class Frame(Struct, frozen=True, eq=False, kw_only=True):
    """What a source gave at one moment; exactly one of the three kinds is set.

    `index` counts from 0 in one source and never repeats; `at` is when it was captured, in seconds
    of the source's clock. `pixels` is uint8 RGB of shape (height, width, 3), `samples` float32 mono
    at 16 kHz, from -1 to 1 and free of NaN. Arrays are read only: gates and evidence share them.
    """

    index: int
    at: float
    pixels: NDArray[np.uint8] | None = None
    events: Events | None = None
    samples: NDArray[np.float32] | None = None
