"""Balls that move, bounce off walls and off one another, without friction: exact, event by event.

The world is a square of SIDE units, y pointing down; a ball's mass is the square of its radius.
Between events a ball flies in closed form, so nothing drifts, however long the clip. The setting
is that of phyworld (Kang et al., arXiv 2411.02385), written from its description.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from msgspec import Struct
from msgspec.structs import replace
from numpy.typing import NDArray

SIDE = 10.0
STEP = 0.1  # seconds between frames
RED, BLUE = (220, 40, 40), (40, 60, 220)
_SOON = 1e-9
_EVENTS = 10_000  # of one clip; two balls that fit into the world come nowhere near


class Ball(Struct, frozen=True):
    """Centre and speed in units and units a second, `radius` in units, `color` as RGB."""

    x: float
    y: float
    vx: float
    vy: float
    radius: float
    color: tuple[int, int, int] = RED


class Scene(Struct, frozen=True):
    """Balls at time 0. `gravity` pulls down, in units/s²; without `walls` they leave."""

    balls: tuple[Ball, ...]
    gravity: float = 0.0
    walls: bool = True


class Flight(Struct, frozen=True):
    """`states` (frames, balls, 4): x, y, vx, vy. `hits` are (seconds, first ball, second or -1)."""

    states: NDArray[np.float64]
    hits: tuple[tuple[float, int, int], ...]


def fly(scene: Scene, frames: int, step: float = STEP) -> Flight:
    """What happens at times 0, `step`, 2 * `step` …"""
    balls, now, hits = list(scene.balls), 0.0, []
    states = np.empty((frames, len(balls), 4))
    for frame in range(frames):
        until = frame * step
        for _ in range(_EVENTS):
            after, one, other = _next(balls, scene)
            if now + after > until:
                break
            balls = [_moved(ball, after, scene.gravity) for ball in balls]
            now += after
            balls = _bounced(balls, one, other)
            hits.append((now, one, other))
        balls = [_moved(ball, until - now, scene.gravity) for ball in balls]
        now = until
        states[frame] = [(ball.x, ball.y, ball.vx, ball.vy) for ball in balls]
    return Flight(states, tuple(hits))


def draw(scene: Scene, states: NDArray[np.float64], size: int) -> NDArray[np.uint8]:
    """(frames, size, size, 3): the balls on white, the last on top, edges a pixel soft."""
    scale = size / SIDE
    at = (np.arange(size) + 0.5) / scale
    film = np.full((len(states), size, size, 3), 255.0, np.float32)
    for index, ball in enumerate(scene.balls):
        x, y = states[:, index, 0], states[:, index, 1]
        far = np.hypot(at[None, None, :] - x[:, None, None], at[None, :, None] - y[:, None, None])
        cover = np.clip((ball.radius - far) * scale + 0.5, 0, 1)[..., None].astype(np.float32)
        film += cover * (np.array(ball.color, np.float32) - film)
    return np.rint(film).astype(np.uint8)


def _moved(ball: Ball, time: float, gravity: float) -> Ball:
    return replace(
        ball,
        x=ball.x + ball.vx * time,
        y=ball.y + ball.vy * time + 0.5 * gravity * time * time,
        vy=ball.vy + gravity * time,
    )


def _next(balls: Sequence[Ball], scene: Scene) -> tuple[float, int, int]:
    """Seconds to the next event, the ball, and the other; -1 a side wall, -2 floor or ceiling."""
    soonest = (math.inf, -1, -1)
    for one, ball in enumerate(balls):
        if scene.walls:
            soonest = min(soonest, (_wall(ball.x, ball.vx, 0.0, ball.radius), one, -1))
            soonest = min(soonest, (_wall(ball.y, ball.vy, scene.gravity, ball.radius), one, -2))
        for other in range(one):
            soonest = min(soonest, (_meet(ball, balls[other]), one, other))
    return soonest


def _wall(at: float, speed: float, pull: float, radius: float) -> float:
    """Seconds until a ball that is inside touches a wall on its way out."""
    times = [
        *_roots(pull / 2, speed, at - radius, -1),
        *_roots(pull / 2, speed, at + radius - SIDE, 1),
    ]
    return min(times, default=math.inf)


def _roots(a: float, b: float, c: float, sign: int) -> list[float]:
    """Times t >= 0 at which a t² + b t + c is 0 and moves towards `sign`."""
    if abs(a) < 1e-12:
        found = [] if b == 0 else [-c / b]
    else:
        inside = b * b - 4 * a * c
        found = [] if inside < 0 else [(-b + s * math.sqrt(inside)) / (2 * a) for s in (-1, 1)]
    return [max(t, 0.0) for t in found if t > -_SOON and sign * (2 * a * t + b) > 0]


def _meet(one: Ball, other: Ball) -> float:
    x, y = one.x - other.x, one.y - other.y
    vx, vy = one.vx - other.vx, one.vy - other.vy
    far = one.radius + other.radius
    return min(
        _roots(vx * vx + vy * vy, 2 * (x * vx + y * vy), x * x + y * y - far * far, -1),
        default=math.inf,
    )


def _bounced(balls: list[Ball], one: int, other: int) -> list[Ball]:
    balls = list(balls)
    ball = balls[one]
    if other == -1:
        balls[one] = replace(ball, vx=-ball.vx)
    elif other == -2:
        balls[one] = replace(ball, vy=-ball.vy)
    else:
        balls[one], balls[other] = _collided(ball, balls[other])
    return balls


def _collided(one: Ball, other: Ball) -> tuple[Ball, Ball]:
    """Momentum along the line of centres is exchanged so that energy is kept."""
    x, y = one.x - other.x, one.y - other.y
    far = math.hypot(x, y)
    x, y = x / far, y / far
    m, n = one.radius**2, other.radius**2
    closing = (one.vx - other.vx) * x + (one.vy - other.vy) * y
    push = 2 * closing / (m + n)
    return (
        replace(one, vx=one.vx - push * n * x, vy=one.vy - push * n * y),
        replace(other, vx=other.vx + push * m * x, vy=other.vy + push * m * y),
    )
