"""What all sources of clips share: the shape a net wants, colours, sizes, and chance by number."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

import numpy as np
from msgspec import Struct
from numpy.random import Generator
from numpy.typing import NDArray

from bicameral.errors import ConfigError

Film = NDArray[np.uint8]
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601
_HELD = 50  # one clip in so many is kept from training, to be looked at
_LEAST, _MOST = 8, 64  # that are kept; where that would be every tenth or more, none is


class Shape(Struct, frozen=True, kw_only=True):
    """Clips as a net wants them; `stride` is how many frames of the film one step of it takes."""

    frames: int
    height: int
    width: int
    channels: int
    stride: int = 1

    @property
    def reach(self) -> int:
        """Frames of a film that one clip spans."""
        return (self.frames - 1) * self.stride + 1


class Found(Struct, frozen=True, kw_only=True):
    """What lies there: `clips` None is without end; the sizes are those of the first clip."""

    what: str
    clips: int | None
    frames: int
    height: int
    width: int
    channels: int
    natural: bool = False  # of a camera's size, not of a net's


class Pile(Protocol):
    """Films that clips of any shape can be taken from."""

    found: Found

    def within(self, shape: Shape, *, held: bool = False) -> Clips:
        """Its clips of that shape; `held`: those that training does not see. ConfigError: none."""
        ...


class Clips:
    """A source whose n-th clip of a batch depends on one number drawn from the dice alone.

    `count` is how many there are, held ones and all; None is without end.

    So several processes can each make their own part of the same batch.
    """

    def __init__(
        self,
        make: Callable[[Generator], Film],
        count: int | None,
        *,
        skipped: Mapping[str, str] | None = None,
        workers: int = 1,
    ) -> None:
        self.count, self.skipped = count, dict(skipped or {})
        self._make = make
        self._pool = ThreadPoolExecutor(workers) if workers > 1 else None

    def batch(self, count: int, dice: Generator) -> Film:
        """(count, frames, height, width, channels), decided by `dice` alone."""
        return self.part(count, dice, slice(0, count))

    def part(self, count: int, dice: Generator, rows: slice) -> Film:
        """Those rows of what `batch` would give; `dice` moves on as if it were all."""
        seeds = dice.integers(2**62, size=count)[rows].tolist()
        each = map if self._pool is None else self._pool.map
        return np.stack(list(each(lambda seed: self._make(np.random.default_rng(seed)), seeds)))


def kept(count: int) -> int:
    """How many of `count` clips are kept from training."""
    return 0 if count <= 10 * _LEAST else max(_LEAST, min(count // _HELD, _MOST))


def divided(count: int, held: bool) -> list[int]:
    """The numbers of the clips to learn from, or of those `held` back; few clips: all are both."""
    keep = kept(count)
    apart = {i * count // keep for i in range(keep)} if keep else set()
    if held and keep:
        return sorted(apart)
    return [i for i in range(count) if i not in apart]


def window(frames: int, shape: Shape, dice: Generator) -> slice:
    """Which frames of a film of `frames` are the clip; all starts are alike."""
    start = int(dice.integers(frames - shape.reach + 1))
    return slice(start, start + shape.reach, shape.stride)


def fitted(film: Film, shape: Shape) -> Film:
    """`film` (T, h, w, c), in the colours and the size of `shape`: covered, the middle kept."""
    film = _coloured(film, shape.channels)
    if film.shape[1:3] == (shape.height, shape.width):
        return np.ascontiguousarray(film)
    return np.stack([_sized(frame, shape) for frame in film])


def _coloured(film: Film, channels: int) -> Film:
    have = film.shape[-1]
    if have == channels:
        return film
    if have == 4 and channels in (1, 3):
        return _coloured(film[..., :3], channels)
    if have == 1:
        return np.repeat(film, channels, axis=-1)
    if have == 3 and channels == 1:
        return np.rint(film.astype(np.float32) @ _LUMA).astype(np.uint8)[..., None]
    raise ConfigError(f"clips of {have} channels cannot become clips of {channels}")


def _sized(frame: Film, shape: Shape) -> Film:
    cv2 = opencv()
    high, wide = frame.shape[:2]
    scale = max(shape.height / high, shape.width / wide)
    size = max(shape.width, round(wide * scale)), max(shape.height, round(high * scale))
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    large = np.asarray(cv2.resize(np.ascontiguousarray(frame), size, interpolation=how))
    top, left = (size[1] - shape.height) // 2, (size[0] - shape.width) // 2
    cut = large[top : top + shape.height, left : left + shape.width]
    return cut.reshape(shape.height, shape.width, -1)


def opencv() -> Any:
    """OpenCV; ConfigError says what to install."""
    try:
        import cv2
    except ImportError as error:
        raise ConfigError(
            "films and other sizes need OpenCV: run `pip install 'bicameral[video]'`"
        ) from error
    return cv2
