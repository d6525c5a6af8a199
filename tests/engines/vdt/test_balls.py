"""Balls fly as they must, scenes keep to their ranges, and a seed gives what it always gave."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from bicameral.engines.vdt.worlds import scenes
from bicameral.engines.vdt.worlds.balls import SIDE, STEP, Ball, Scene, draw, fly
from bicameral.engines.vdt.worlds.scenes import BEYOND, COLLIDING, COLLISIONS, WITHIN, Ranges
from bicameral.errors import ConfigError


def drawn(make, count: int, *args, **options) -> list[Scene]:
    return [make(np.random.default_rng((3, n)), *args, **options) for n in range(count)]


def kinetic(scene: Scene, states: np.ndarray) -> np.ndarray:
    masses = np.array([ball.radius**2 for ball in scene.balls])
    return (masses * (states[..., 2:] ** 2).sum(-1)).sum(1)


def inside(value: float, intervals) -> bool:
    return any(low <= value <= high for low, high in intervals)


def test_a_lone_ball_flies_straight_and_is_thrown_back_by_a_wall() -> None:
    flight = fly(Scene((Ball(7.0, 5.0, 4.0, 1.0, 1.0),)), 11)
    assert flight.states[5, 0] == pytest.approx([9.0, 5.5, -4.0, 1.0])
    assert flight.states[10, 0] == pytest.approx([7.0, 6.0, -4.0, 1.0])
    assert flight.hits == ((pytest.approx(0.5), 0, -1),)


def test_a_thrown_ball_falls_in_a_parabola() -> None:
    scene = Scene((Ball(1.0, 2.0, 2.0, 0.0, 0.5),), gravity=2.5, walls=False)
    times = np.arange(12) * STEP
    states = fly(scene, 12).states[:, 0]
    assert states[:, 0] == pytest.approx(1 + 2 * times)
    assert states[:, 1] == pytest.approx(2 + 1.25 * times**2)


def test_a_head_on_collision_is_elastic_by_the_textbook() -> None:
    one, other = Ball(2.0, 5.0, 3.0, 0.0, 1.0), Ball(8.0, 5.0, -1.0, 0.0, 0.5)
    states = fly(Scene((one, other), walls=False), 20).states[-1]
    m, n = 1.0, 0.25
    assert states[0, 2] == pytest.approx((3 * (m - n) - 2 * n) / (m + n))
    assert states[1, 2] == pytest.approx((-(n - m) + 2 * m * 3) / (m + n))


@pytest.mark.parametrize("ranges", [WITHIN, *BEYOND.values()])
def test_energy_is_kept_and_no_ball_is_in_a_wall_or_in_another(ranges: Ranges) -> None:
    for scene in drawn(scenes.box, 20, ranges, balls=2):
        states = fly(scene, 40).states
        radii = np.array([ball.radius for ball in scene.balls])[:, None]
        assert kinetic(scene, states) == pytest.approx(np.full(40, kinetic(scene, states)[0]))
        assert (states[..., :2] >= radii - 1e-6).all()
        assert (states[..., :2] <= SIDE - radii + 1e-6).all()
        far = np.hypot(*(states[:, 0, :2] - states[:, 1, :2]).T)
        assert (far >= radii.sum() - 1e-6).all()


def test_a_ball_is_drawn_as_large_as_it_is_and_where_it_is() -> None:
    scene = Scene((Ball(4.0, 6.0, 0.0, 0.0, 1.3),))
    film = draw(scene, fly(scene, 1).states, 64)
    cover = (255.0 - film[0, ..., 1]) / (255 - scene.balls[0].color[1])
    assert cover.sum() * (SIDE / 64) ** 2 == pytest.approx(math.pi * 1.3**2, rel=0.01)
    middle = (np.arange(64) + 0.5) * SIDE / 64
    assert (cover.sum(0) @ middle) / cover.sum() == pytest.approx(4.0, abs=0.01)
    assert (cover.sum(1) @ middle) / cover.sum() == pytest.approx(6.0, abs=0.01)


def test_the_balls_of_a_seed_are_what_they_always_were() -> None:
    """Nets have been trained on these: a change makes their scores wrong without a sound."""
    red, blue = scenes.box(np.random.default_rng((5, 0))).balls
    assert (red.x, red.y, red.vx, red.vy, red.radius) == pytest.approx(
        (1.6683606533, 4.1288958287, -0.5678913282, 2.4818333365, 1.2655585528)
    )
    assert (blue.x, blue.y, blue.vx, blue.vy, blue.radius) == pytest.approx(
        (9.0074544947, 6.2232401805, 1.0829410454, 0.3425469954, 0.9859312438)
    )


def test_a_clip_depends_on_its_seed_and_number_alone() -> None:
    first = list(itertools.islice(scenes.films(scenes.box, 1, 4, 16), 3))
    again = list(itertools.islice(scenes.films(scenes.box, 1, 4, 16), 3))
    other = next(scenes.films(scenes.box, 2, 4, 16))
    assert all((a == b).all() for a, b in zip(first, again, strict=True))
    assert (first[0] != other).any()
    assert (first[0] != first[1]).any()
    assert first[0].shape == (4, 16, 16, 3)
    assert first[0].dtype == np.uint8


@pytest.mark.parametrize("ranges", [WITHIN, *BEYOND.values()])
@pytest.mark.parametrize("make", [scenes.uniform, scenes.parabola])
def test_one_ball_starts_whole_goes_right_and_keeps_to_its_ranges(make, ranges: Ranges) -> None:
    for scene in drawn(make, 30, ranges):
        (ball,) = scene.balls
        assert inside(ball.vx, ranges.speed)
        assert inside(ball.radius, ranges.radius)
        assert ball.radius <= ball.x <= SIDE - ball.radius
        assert ball.radius <= ball.y <= SIDE - ball.radius
        assert ball.vy == 0
        assert not scene.walls
        assert not fly(scene, 32).hits


def test_a_slow_ball_stays_in_view() -> None:
    for scene in drawn(scenes.uniform, 30, Ranges(speed=((1.0, 1.5),))):
        assert fly(scene, 32).states[-1, 0, 0] <= SIDE - scene.balls[0].radius + 1e-9


@pytest.mark.parametrize("level", ["within", *COLLISIONS])
@pytest.mark.parametrize("frames", [16, 32])
def test_a_collision_has_eight_frames_on_either_side(level: str, frames: int) -> None:
    first, second = COLLISIONS.get(level, (COLLIDING, COLLIDING))
    for scene in drawn(scenes.collision, 30, first, second, frames=frames):
        left, right = scene.balls
        assert inside(left.vx, first.speed)
        assert inside(-right.vx, second.speed)
        assert inside(left.radius, first.radius)
        assert inside(right.radius, second.radius)
        assert left.x >= left.radius - 1e-9
        assert right.x <= SIDE - right.radius + 1e-9
        ((time, _, _),) = fly(scene, frames).hits
        times = np.arange(frames) * STEP
        assert (times < time + 1e-9).sum() >= 8
        assert (times > time - 1e-9).sum() >= 8


def test_the_levels_are_outside_of_what_is_learned_where_they_say() -> None:
    for level, ranges in COLLISIONS.items():
        for ball, (learned, found) in enumerate(zip((COLLIDING,) * 2, ranges, strict=True), 1):
            odd = level == "all"
            assert (found.radius != learned.radius) == (odd or f"r{ball}" in level)
            assert (found.speed != learned.speed) == (odd or f"v{ball}" in level)


def test_a_collision_without_the_room_is_refused() -> None:
    dice = np.random.default_rng(0)
    with pytest.raises(ConfigError, match="lower it"):
        scenes.collision(dice, frames=12)
    with pytest.raises(ConfigError, match="narrow the ranges"):
        scenes.collision(dice, Ranges(radius=((3.0, 4.0),)), Ranges(radius=((3.0, 4.0),)))
    with pytest.raises(ConfigError, match="narrow the ranges"):
        scenes.collision(dice, Ranges(speed=((0.0, 0.0),)), Ranges(speed=((0.0, 0.0),)))
