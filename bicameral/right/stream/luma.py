"""A small brightness picture of a frame: what the cheap gates and the look-out for faults see."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

WIDTH, HEIGHT = 160, 90
_WEIGHTS = (0.299, 0.587, 0.114)


def luma(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Brightness, 0 to 255, of about 160 x 90 points; each the mean of four pixels of its field.

    The fields have whole pixels a side, so the result is a little larger than that; a picture
    smaller than it is taken as it is.
    """
    import numpy as np

    height, width = pixels.shape[:2]
    step = max(1, min(height // HEIGHT, width // WIDTH))
    far = step // 2
    rows, columns = height // step * step, width // step * step
    total = np.zeros((height // step, width // step, 3), np.uint16)
    for y, x in ((0, 0), (0, far), (far, 0), (far, far)):
        total += pixels[y:rows:step, x:columns:step]
    return np.asarray(total @ (np.array(_WEIGHTS, np.float32) / 4), np.float32)
