"""What is given and what is to be generated: the seven tasks of VDT as masks over tokens.

Everywhere here and in the API a mask is 1 where the clip is to be generated and 0 where it is
given; the paper (arXiv 2305.13311) prints the opposite. One mask belongs to one clip.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import get_args

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from bicameral.errors import ConfigError
from bicameral.types import VideoTask

TASKS: tuple[VideoTask, ...] = get_args(VideoTask)
Mask = NDArray[np.float32]
Grid = tuple[int, int, int]
_EDGE = 4  # a completed clip is given whole for fewer frames than this at either end
_COMPLETE = 0.2  # VDT's share of completion among the tasks; the rest is even


def fixed(task: VideoTask, grid: Grid, draw: Generator) -> Mask:
    """The paper's mask of a task over `grid` (frames, rows, columns); `draw` where it is random.

    Half of the frames given, of an interpolation every fourth, of image-to-video one.
    Raises ConfigError for a task of one frame that needs two.
    """
    frames = _enough(task, grid)
    half = frames // 2
    match task:
        case "predict":
            return given(grid, range(half))
        case "backward":
            return given(grid, range(frames - half, frames))
        case "interpolate":
            return given(grid, range(0, frames, 4))
        case "unconditional":
            return np.ones(grid, np.float32)
        case "image":
            return given(grid, [int(draw.integers(frames))])
        case "frames":
            kept = draw.random(frames)
            return given(grid, np.flatnonzero((kept < 0.2) & (kept < kept.max())).tolist())
        case "complete":
            return _framed(_box(grid, 0.5, draw), draw)


def widened(task: VideoTask, grid: Grid, draw: Generator) -> Mask:
    """The same task with as many frames given, and where, as chance has it."""
    frames = _enough(task, grid)
    match task:
        case "predict":
            return given(grid, range(int(draw.integers(1, frames))))
        case "backward":
            return given(grid, range(int(draw.integers(1, frames)), frames))
        case "interpolate":
            stride = int(draw.integers(2, max(3, frames // 2 + 1)))
            return given(grid, range(int(draw.integers(stride)), frames, stride))
        case "complete":
            shapes = (_box, _tube, _half)
            shape = shapes[int(draw.integers(len(shapes)))]
            return _framed(shape(grid, float(draw.uniform(0.1, 0.7)), draw), draw)
        case _:
            return fixed(task, grid, draw)


def mixed(grid: Grid, draw: Generator, *, wide: bool) -> Mask:
    """A mask of a task drawn as VDT draws it: completion a fifth of the time, the others evenly."""
    others = [task for task in TASKS if task != "complete"]
    task = "complete" if draw.random() < _COMPLETE else others[int(draw.integers(len(others)))]
    return widened(task, grid, draw) if wide else fixed(task, grid, draw)


def given(grid: Grid, frames: Iterable[int]) -> Mask:
    """Everything to be generated but whole `frames`, by number."""
    mask = np.ones(grid, np.float32)
    mask[list(frames)] = 0
    return mask


def _enough(task: VideoTask, grid: Grid) -> int:
    if grid[0] < 2 and task not in ("unconditional", "complete"):
        raise ConfigError(f"the task {task} takes clips of at least two frames, not {grid[0]}")
    return grid[0]


def _framed(mask: Mask, draw: Generator) -> Mask:
    """The same, but with up to three whole frames given at either end, and never all of them."""
    frames = len(mask)
    most = min(_EDGE, (frames + 1) // 2)
    start, end = (int(draw.integers(most)) for _ in range(2))
    mask[:start] = 0
    mask[frames - end :] = 0  # not [-end:], which is everything where end is 0
    return mask


def _box(grid: Grid, share: float, draw: Generator) -> Mask:
    """A still rectangle of about that share of a frame."""
    _, rows, columns = grid
    tall = float(draw.uniform(share, 1.0))
    sides = [max(1, round(tall * rows)), max(1, round(share / tall * columns))]
    top, left = (int(draw.integers(n - s + 1)) for n, s in zip((rows, columns), sides, strict=True))
    mask = np.zeros(grid, np.float32)
    mask[:, top : top + sides[0], left : left + sides[1]] = 1
    return mask


def _tube(grid: Grid, share: float, draw: Generator) -> Mask:
    """A rectangle that goes its way from frame to frame."""
    frames, rows, columns = grid
    side = share**0.5
    tall, broad = max(1, round(side * rows)), max(1, round(side * columns))
    mask = np.zeros(grid, np.float32)
    rooms = (rows - tall, columns - broad)
    ends = [draw.uniform(0, room, 2) for room in rooms]
    tops, lefts = (np.linspace(a, b, frames).round().astype(int) for a, b in ends)
    for frame, (top, left) in enumerate(zip(tops, lefts, strict=True)):
        mask[frame, top : top + tall, left : left + broad] = 1
    return mask


def _half(grid: Grid, share: float, draw: Generator) -> Mask:
    """One side of every frame."""
    mask = np.zeros(grid, np.float32)
    axis = int(draw.integers(1, 3))
    wide = max(1, round(share * grid[axis]))
    index: list[slice] = [slice(None)] * 3
    index[axis] = slice(0, wide) if draw.random() < 0.5 else slice(grid[axis] - wide, None)
    mask[tuple(index)] = 1
    return mask
