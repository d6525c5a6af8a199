"""Scenes of balls drawn by chance, inside and outside of what a net has learned from.

`uniform`, `parabola` and `collision`, their ranges and levels are phyworld's (Kang et al., arXiv
2411.02385); `box` is ours.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping

import numpy as np
from msgspec import Struct
from numpy.random import Generator
from numpy.typing import NDArray

from bicameral.engines.vdt.worlds.balls import BLUE, RED, SIDE, STEP, Ball, Scene, draw, fly
from bicameral.errors import ConfigError

_APART = 0.05  # units between two balls at the start, at least
_EDGE = 0.5  # units between a ball that nothing holds back and the wall beside it, at least
_GRAVITY = 2.5  # units/s², phyworld's: a ball falls through the picture in about 2.5 s
_TRIES = 1_000  # of phyworld's ranges two scenes in three fit
Film = NDArray[np.uint8]


class Ranges(Struct, frozen=True):
    """Speeds in units per second and radii in units, drawn evenly from one of the intervals."""

    speed: tuple[tuple[float, float], ...] = ((1.0, 4.0),)
    radius: tuple[tuple[float, float], ...] = ((0.7, 1.4),)


_SPEEDS = ((0.0, 0.8), (4.5, 6.0))
_RADII = ((0.3, 0.6), (1.5, 2.0))
WITHIN = Ranges()
BEYOND: Mapping[str, Ranges] = {
    "speed": Ranges(speed=_SPEEDS),
    "radius": Ranges(radius=_RADII),
    "both": Ranges(speed=_SPEEDS, radius=_RADII),
}

_SIZES = ((0.5, 1.5),)
_OTHER_SIZES = ((0.3, 0.4), (1.7, 2.0))
COLLIDING = Ranges(radius=_SIZES)
_ODD_SIZE, _ODD_SPEED = Ranges(radius=_OTHER_SIZES), Ranges(speed=_SPEEDS, radius=_SIZES)
_ODD = Ranges(speed=_SPEEDS, radius=_OTHER_SIZES)
COLLISIONS: Mapping[str, tuple[Ranges, Ranges]] = {
    "r1": (_ODD_SIZE, COLLIDING),
    "v1": (_ODD_SPEED, COLLIDING),
    "r1 r2": (_ODD_SIZE, _ODD_SIZE),
    "v1 v2": (_ODD_SPEED, _ODD_SPEED),
    "v1 r1": (_ODD, COLLIDING),
    "all": (_ODD, _ODD),
}
"""What is out of distribution in phyworld's six levels: ranges of the left ball, of the right."""


def box(dice: Generator, ranges: Ranges = WITHIN, *, balls: int | None = None) -> Scene:
    """One ball or two that fly any way, bounce off four walls and off one another."""
    count = balls or int(dice.integers(1, 3))
    while True:
        placed = [_thrown(dice, ranges, color) for color in (RED, BLUE)[:count]]
        if count < 2 or _clear(placed[0], placed[1]):
            return Scene(tuple(placed))


def uniform(dice: Generator, ranges: Ranges = WITHIN, *, frames: int = 32) -> Scene:
    """One ball that crosses to the right at an even speed, in view for all `frames` if it can be.

    One too fast for that starts within half a unit of the left wall and leaves; nothing holds it.
    """
    radius, speed = within(dice, ranges.radius), within(dice, ranges.speed)
    y = float(dice.uniform(radius + _EDGE, SIDE - radius - _EDGE))
    return Scene((Ball(_start(dice, radius, speed, frames), y, speed, 0.0, radius),), walls=False)


def parabola(dice: Generator, ranges: Ranges = WITHIN, *, frames: int = 32) -> Scene:
    """One ball thrown level to the right, near the top; it falls, and leaves at the bottom."""
    radius, speed = within(dice, ranges.radius), within(dice, ranges.speed)
    y = float(dice.uniform(radius + _EDGE, radius + _EDGE + 1.0))
    ball = Ball(_start(dice, radius, speed, frames), y, speed, 0.0, radius)
    return Scene((ball,), gravity=_GRAVITY, walls=False)


def collision(
    dice: Generator,
    first: Ranges = COLLIDING,
    second: Ranges = COLLIDING,
    *,
    frames: int = 32,
    apart: int = 8,
) -> Scene:
    """A red ball from the left meets a blue one on one line; then nothing holds them.

    At least `apart` of the `frames` are before the impact and as many after it. Both balls are
    whole at the start. Raises ConfigError where the frames or the ranges leave no room for that.
    """
    if not 1 <= apart <= frames // 2:
        raise ConfigError(f"{frames} frames have no {apart} before an impact and after: lower it")
    for _ in range(_TRIES):
        scene = _facing(dice, first, second, ((apart - 1) * STEP, (frames - apart) * STEP))
        if scene:
            return scene
    raise ConfigError(f"balls of {first} and {second} do not meet in time: narrow the ranges")


def _facing(
    dice: Generator, first: Ranges, second: Ranges, when: tuple[float, float]
) -> Scene | None:
    """Two balls that meet after, and not later than, the seconds `when`, if they have the room."""
    radii = within(dice, first.radius), within(dice, second.radius)
    speeds = within(dice, first.speed), within(dice, second.speed)
    room, closing = SIDE - 2 * sum(radii), sum(speeds)
    latest = min(when[1], room / closing if closing else 0.0)
    if latest <= when[0]:
        return None
    time = latest - (latest - when[0]) * float(dice.random())  # random() may be 0, never 1
    left = radii[0] + float(dice.uniform(0, room - closing * time))
    right = left + sum(radii) + closing * time
    edge = max(radii) + _EDGE
    y = float(dice.uniform(edge, SIDE - edge))
    red = Ball(left, y, speeds[0], 0.0, radii[0], RED)
    return Scene((red, Ball(right, y, -speeds[1], 0.0, radii[1], BLUE)), walls=False)


def _start(dice: Generator, radius: float, speed: float, frames: int) -> float:
    last = SIDE - radius - speed * STEP * (frames - 1)
    return float(dice.uniform(radius, max(radius + _EDGE, last)))


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
