"""Block motion, as a video codec finds it: how much of the picture moves against the rest of it.

Each block of 8 x 8 points of a small brightness picture is looked for in the picture before, up to
3 points away. A block counts if it is found elsewhere much better than in place, or nowhere at
all; not if it moves as most others do, which is the camera, and not if it only got brighter.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bicameral.errors import RequestError
from bicameral.right.frame import Frame
from bicameral.right.luma import luma

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_BLOCK = 8
_FAR = 3
_SHIFTS = tuple((y, x) for y in range(-_FAR, _FAR + 1) for x in range(-_FAR, _FAR + 1))
_HERE = _SHIFTS.index((0, 0))
_LIGHTNING = 0.8


def open(*, contrast: float = 3.0) -> Motion:
    """`contrast`: mean difference in steps of 255 from which a block is another one."""
    return Motion(contrast)


class Motion:
    """Compares each frame with the one before."""

    name = "motion"
    threshold = 1.0

    def __init__(self, contrast: float) -> None:
        self._contrast = contrast
        self._before: NDArray[np.float32] | None = None

    def reset(self) -> None:
        """The next frame has none before it."""
        self._before = None

    def score(self, frame: Frame) -> float:
        """Percent of the blocks; 0 for the first frame."""
        if frame.pixels is None:
            raise RequestError(
                "gate: 'motion' reads pictures only; take 'difference'", param="gate"
            )
        now = luma(frame.pixels)
        before, self._before = self._before, now
        if before is None or before.shape != now.shape or min(now.shape) < _BLOCK + 2 * _FAR:
            return 0.0
        return self._moving(now, before)

    def _moving(self, now: NDArray[np.float32], before: NDArray[np.float32]) -> float:
        import numpy as np

        apart = _search(now, before)
        best = apart.argmin(axis=0)
        least = apart.min(axis=0)
        here = apart[_HERE]
        changed = here > self._contrast
        moved = changed & (least < 0.6 * here)
        new = changed & (least > 2 * self._contrast) & ~moved
        if changed.mean() > _LIGHTNING and new.mean() > moved.mean():
            return 0.0  # another scene, or lightning
        if moved.mean() > 0.5:
            camera = np.bincount(best[moved], minlength=len(_SHIFTS)).argmax()
            moved &= best != camera
        return 100 * float((moved | new).mean())


def _search(now: NDArray[np.float32], before: NDArray[np.float32]) -> NDArray[Any]:
    """Per shift and block, the mean difference of the two, each block's own mean taken out."""
    import numpy as np

    rows = (now.shape[0] - 2 * _FAR) // _BLOCK
    columns = (now.shape[1] - 2 * _FAR) // _BLOCK
    height, width = rows * _BLOCK, columns * _BLOCK
    middle = now[_FAR : _FAR + height, _FAR : _FAR + width]
    found = np.empty((len(_SHIFTS), rows, columns), np.float32)
    for index, (y, x) in enumerate(_SHIFTS):
        there = before[_FAR + y : _FAR + y + height, _FAR + x : _FAR + x + width]
        blocks = (middle - there).reshape(rows, _BLOCK, columns, _BLOCK)
        level = blocks.mean(axis=(1, 3), keepdims=True)
        found[index] = abs(blocks - level).mean(axis=(1, 3))
    return found
