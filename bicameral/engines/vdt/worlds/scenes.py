"""Scenes of balls drawn by chance, inside and outside of what a net has learned from."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np
from msgspec import Struct
from numpy.random import Generator
from numpy.typing import NDArray

from bicameral.engines.vdt.worlds.balls import BLUE, RED, SIDE, Ball, Scene, draw, fly

_APART = 0.05  # units between two balls at the start, at least
Film = NDArray[np.uint8]


class Ranges(Struct, frozen=True):
    """Speeds in units per second and radii in units, drawn evenly from one of the intervals."""

    speed: tuple[tuple[float, float], ...] = ((1.0, 4.0),)
    radius: tuple[tuple[float, float], ...] = ((0.7, 1.4),)


WITHIN = Ranges()


def box(dice: Generator, ranges: Ranges = WITHIN, *, balls: int | None = None) -> Scene:
    """One ball or two that fly any way, bounce off four walls and off one another."""
    count = balls or int(dice.integers(1, 3))
    while True:
        placed = [_thrown(dice, ranges, color) for color in (RED, BLUE)[:count]]
        if count < 2 or _clear(placed[0], placed[1]):
            return Scene(tuple(placed))


def _thrown(dice: Generator, ranges: Ranges, color: tuple[int, int, int]) -> Ball:
    radius, speed = within(dice, ranges.radius), within(dice, ranges.speed)
    angle = dice.uniform(0, 2 * math.pi)
    x, y = dice.uniform(radius, SIDE - radius, 2)
    return Ball(float(x), float(y), speed * math.cos(angle), speed * math.sin(angle), radius, color)


def _clear(one: Ball, other: Ball) -> bool:
    far = math.hypot(one.x - other.x, one.y - other.y)
    return far > one.radius + other.radius + _APART


def within(dice: Generator, intervals: tuple[tuple[float, float], ...]) -> float:
    """A number drawn evenly from an interval that is drawn evenly."""
    return float(dice.uniform(*intervals[int(dice.integers(len(intervals)))]))


def films(make: Callable[[Generator], Scene], seed: int, frames: int, size: int) -> Iterator[Film]:
    """Clips (frames, size, size, 3) without end; the n-th depends on `seed` and n alone."""
    number = 0
    while True:
        scene = make(np.random.default_rng((seed, number)))
        yield draw(scene, fly(scene, frames).states, size)
        number += 1
