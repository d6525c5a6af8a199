"""Pairs of clips that share the past; in one of them the future is impossible.

A net that has learned how things move is more surprised by the impossible one. Things leap, speed
up by themselves, pass through one another or through a wall, or become another thing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping

import numpy as np
from msgspec import Struct
from msgspec.structs import replace
from numpy.random import Generator
from numpy.typing import NDArray

from bicameral.engines.vdt.worlds.balls import (
    BLUE,
    RED,
    SIDE,
    STEP,
    Ball,
    Flight,
    Scene,
    draw,
    fly,
)
from bicameral.engines.vdt.worlds.scenes import WITHIN, Film, Ranges, box
from bicameral.errors import ConfigError

_LEAP = 3.0  # units that a thing leaps at least: more than any flies in half a second
_FASTER = 2.5
_RATIO = 1.6  # of a radius that changes
_SEEN = 48  # levels of 255 by which a pixel must differ to count
_SHARE = 0.5  # of the smallest ball's area that must differ in some frame
_LEAST = 6  # frames: two of a past, and two of a future to see the difference in
_TRIES = 5_000
States = NDArray[np.float64]


class Pair(Struct, frozen=True):
    """Two clips (frames, size, size, 3), equal before `frame`, which is the first that differs."""

    possible: Film
    impossible: Film
    frame: int


class _Future(Struct, frozen=True):
    """What is to be seen from frame `when` on: the balls, and states (frames - when, balls, 4)."""

    when: int
    scene: Scene
    states: States


Kind = Callable[[Generator, Scene, Flight], _Future | None]


def pairs(kind: str, seed: int, frames: int, size: int, ranges: Ranges = WITHIN) -> Iterator[Pair]:
    """Pairs of a kind of KINDS without end; the n-th depends on `seed` and n alone."""
    number = 0
    while True:
        yield pair(kind, np.random.default_rng((seed, number)), frames, size, ranges)
        number += 1


def pair(kind: str, dice: Generator, frames: int, size: int, ranges: Ranges = WITHIN) -> Pair:
    """One pair of a kind of KINDS, from box scenes, in which the violation can be seen."""
    if kind not in KINDS or frames < _LEAST:
        known = ", ".join(KINDS)
        raise ConfigError(f"{kind!r} of {frames} frames: take one of {known}, and {_LEAST} frames")
    balls = 2 if kind == "through ball" else None
    for _ in range(_TRIES):
        scene = box(dice, ranges, balls=balls)
        flight = fly(scene, frames)
        future = KINDS[kind](dice, scene, flight)
        if future and (found := _filmed(scene, flight, future, size)):
            return found
    raise ConfigError(f"no {kind!r} to be seen in {frames} frames of {size} px: take more of them")


def _teleport(dice: Generator, scene: Scene, flight: Flight) -> _Future | None:
    """A ball is elsewhere, and flies on as it flew."""
    when = _moment(dice, flight)
    balls, chosen = _before(scene, flight, when), _one(dice, scene)
    ball = balls[chosen]
    x, y = (float(v) for v in dice.uniform(ball.radius, SIDE - ball.radius, 2))
    if math.hypot(x - ball.x, y - ball.y) < _LEAP:
        return None
    balls[chosen] = replace(ball, x=x, y=y)
    return _onward(scene, balls, flight, when)


def _speed(dice: Generator, scene: Scene, flight: Flight) -> _Future | None:
    """A ball is faster, and nothing has pushed it, nor would anything have in that frame."""
    when = _moment(dice, flight)
    balls, chosen = _before(scene, flight, when), _one(dice, scene)
    ball = balls[chosen]
    balls[chosen] = replace(ball, vx=_FASTER * ball.vx, vy=_FASTER * ball.vy)
    future = _onward(scene, balls, flight, when)
    speed = np.array([ball.vx, ball.vy])
    if future is None or not np.allclose(future.states[0, chosen, 2:], _FASTER * speed):
        return None
    return future if np.allclose(flight.states[when, chosen, 2:], speed) else None


def _through_ball(dice: Generator, scene: Scene, flight: Flight) -> _Future | None:
    """Two balls that should meet pass through one another; walls hold them still."""
    hit = _impact(flight, lambda other: other >= 0)
    if hit is None:
        return None
    return _Future(hit[0], scene, _each(scene, flight, hit[0]))


def _through_wall(dice: Generator, scene: Scene, flight: Flight) -> _Future | None:
    """A ball that should bounce off a wall passes through it, and is gone."""
    hit = _impact(flight, lambda other: other < 0)
    if hit is None:
        return None
    states = _each(scene, flight, hit[0], free=hit[1])
    return _Future(hit[0], scene, states) if _clear(scene, states) else None


def _color(dice: Generator, scene: Scene, flight: Flight) -> _Future | None:
    """Two balls swap their colours, or one takes the other colour; they fly as they would."""
    when = _moment(dice, flight)
    swapped = {RED: BLUE, BLUE: RED}
    balls = tuple(replace(ball, color=swapped[ball.color]) for ball in scene.balls)
    return _Future(when, replace(scene, balls=balls), flight.states[when:])


def _size(dice: Generator, scene: Scene, flight: Flight) -> _Future | None:
    """A ball is larger or smaller from one frame to the next, and as heavy as it looks."""
    when = _moment(dice, flight)
    balls, chosen = _before(scene, flight, when), _one(dice, scene)
    ratio = _RATIO if dice.random() < 0.5 else 1 / _RATIO
    balls[chosen] = replace(balls[chosen], radius=ratio * balls[chosen].radius)
    return _onward(scene, balls, flight, when)


KINDS: Mapping[str, Kind] = {
    "teleport": _teleport,
    "speed": _speed,
    "through ball": _through_ball,
    "through wall": _through_wall,
    "color": _color,
    "size": _size,
}


def _filmed(scene: Scene, flight: Flight, future: _Future, size: int) -> Pair | None:
    """The two clips, unless a viewer could hardly tell them apart."""
    possible = draw(scene, flight.states, size)
    impossible = possible.copy()
    impossible[future.when :] = draw(future.scene, future.states, size)
    apart = np.abs(possible.astype(np.int16) - impossible).max(-1)
    seen = (apart > _SEEN).sum((1, 2)).max()
    if seen < _SHARE * math.pi * (min(b.radius for b in scene.balls) * size / SIDE) ** 2:
        return None
    return Pair(possible, impossible, int(np.argmax(apart.any((1, 2)))))


def _window(flight: Flight) -> tuple[int, int]:
    """The first and the last frame that may be wrong: a past before it, a future after it."""
    frames = len(flight.states)
    return max(2, frames // 4), frames - max(2, frames // 4)


def _moment(dice: Generator, flight: Flight) -> int:
    first, last = _window(flight)
    return int(dice.integers(first, last + 1))


def _impact(flight: Flight, kind: Callable[[int], bool]) -> tuple[int, int] | None:
    """The frame first to show a hit of that kind, and the ball, of the first such hit in time."""
    first, last = _window(flight)
    for time, one, other in flight.hits:
        if kind(other) and first <= (when := math.ceil(time / STEP)) <= last:
            return when, one
    return None


def _one(dice: Generator, scene: Scene) -> int:
    return int(dice.integers(len(scene.balls)))


def _before(scene: Scene, flight: Flight, when: int) -> list[Ball]:
    """The balls as they are a frame before `when`."""
    states = flight.states[when - 1].tolist()
    return [
        replace(ball, x=x, y=y, vx=vx, vy=vy)
        for ball, (x, y, vx, vy) in zip(scene.balls, states, strict=True)
    ]


def _each(scene: Scene, flight: Flight, when: int, free: int = -1) -> States:
    """What each ball does from `when` on if the others are not there, nor the walls for `free`."""
    left = len(flight.states) - when + 1
    paths = [
        fly(replace(scene, balls=(ball,), walls=index != free), left).states[1:]
        for index, ball in enumerate(_before(scene, flight, when))
    ]
    return np.concatenate(paths, 1)


def _onward(scene: Scene, balls: list[Ball], flight: Flight, when: int) -> _Future | None:
    """What these balls do from a frame before `when` on, if there is room for them."""
    scene = replace(scene, balls=tuple(balls))
    inside = all(
        ball.radius <= at <= SIDE - ball.radius for ball in balls for at in (ball.x, ball.y)
    )
    start = np.array([[(ball.x, ball.y, 0, 0) for ball in balls]])
    if not inside or not _clear(scene, start):
        return None
    return _Future(when, scene, fly(scene, len(flight.states) - when + 1).states[1:])


def _clear(scene: Scene, states: States) -> bool:
    """Whether no two balls ever overlap."""
    if len(scene.balls) < 2:
        return True
    far = np.hypot(*(states[:, 0, :2] - states[:, 1, :2]).T)
    return bool((far >= sum(ball.radius for ball in scene.balls)).all())
