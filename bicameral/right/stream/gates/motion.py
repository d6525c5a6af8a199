"""Block motion, as a video codec finds it: how much of the picture moves against the rest of it.

Each block of 8 x 8 points of a small brightness picture is looked for in the picture before, up to
3 points away. A block counts if it is found elsewhere much better than in place, or nowhere at
all; not if it moves as most others do, which is the camera, and not if it only got brighter.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bicameral.errors import RequestError
from bicameral.right.stream.frame import Frame
from bicameral.right.stream.luma import luma

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_BLOCK = 8
_FAR = 3
_SHIFTS = tuple((y, x) for y in range(2 * _FAR + 1) for x in range(2 * _FAR + 1))
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

        blocks, fields = _cut(now, before)
        here = _apart(blocks, fields[..., _FAR:-_FAR, _FAR:-_FAR])
        changed = here > self._contrast
        if not changed.any():
            return 0.0
        best, least = _search(blocks[changed], fields[changed])
        moved = least < 0.6 * here[changed]
        new = (least > 2 * self._contrast) & ~moved
        if changed.mean() > _LIGHTNING and new.mean() > moved.mean():
            return 0.0  # another scene, or lightning
        if moved.sum() > 0.5 * changed.size:
            camera = np.bincount(best[moved], minlength=len(_SHIFTS)).argmax()
            moved &= best != camera
        return 100 * float((moved | new).sum() / changed.size)


def _cut(now: NDArray[np.float32], before: NDArray[np.float32]) -> tuple[NDArray[Any], ...]:
    """The blocks, and for each the field of the picture before in which it is looked for."""
    from numpy.lib.stride_tricks import sliding_window_view

    rows = (now.shape[0] - 2 * _FAR) // _BLOCK
    columns = (now.shape[1] - 2 * _FAR) // _BLOCK
    middle = now[_FAR : _FAR + rows * _BLOCK, _FAR : _FAR + columns * _BLOCK]
    blocks = middle.reshape(rows, _BLOCK, columns, _BLOCK).swapaxes(1, 2)
    side = _BLOCK + 2 * _FAR
    fields = sliding_window_view(before, (side, side))[::_BLOCK, ::_BLOCK]
    return blocks, fields[:rows, :columns]


def _apart(blocks: NDArray[Any], others: NDArray[Any]) -> NDArray[Any]:
    """The mean difference of each block, the difference of their means taken out."""
    plain = blocks - others
    level = plain.mean(axis=(-2, -1), keepdims=True)
    apart: NDArray[Any] = abs(plain - level).mean(axis=(-2, -1))
    return apart


def _search(blocks: NDArray[Any], fields: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Per block the shift at which it differs least from its field, and by how much."""
    import numpy as np

    found = np.stack(
        [_apart(blocks, fields[:, y : y + _BLOCK, x : x + _BLOCK]) for y, x in _SHIFTS]
    )
    return found.argmin(axis=0), found.min(axis=0)
