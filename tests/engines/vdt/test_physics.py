"""Balls are read back from pixels, and each way to move wrongly shows in its own number."""

from __future__ import annotations

import numpy as np
import pytest
from msgspec.structs import replace

from bicameral.engines.vdt.score import physics
from bicameral.engines.vdt.score.parse import parse
from bicameral.engines.vdt.score.physics import Motion, motion, pooled, summary
from bicameral.engines.vdt.worlds import scenes
from bicameral.engines.vdt.worlds.balls import BLUE, RED, SIDE, STEP, Ball, Scene, draw, fly
from bicameral.errors import ConfigError

SIZE, FRAMES = 32, 16
ONE = Scene((Ball(3.0, 5.0, 2.0, 0.5, 1.0),))
WALL = Scene((Ball(6.0, 5.0, 4.0, 1.0, 1.0),))  # hits the right wall at 0.75 s
TWO = Scene((Ball(2.0, 5.0, 3.0, 0.0, 1.0), Ball(7.9, 5.0, -3.0, 0.0, 1.2, BLUE)), walls=False)


def film(scene: Scene, states: np.ndarray | None = None) -> np.ndarray:
    return draw(scene, fly(scene, FRAMES).states if states is None else states, SIZE)


def judged(clip: np.ndarray, scene: Scene, **options) -> Motion:
    return motion(clip, scene, fly(scene, FRAMES), **options)


def drawn(make, count: int, *args, **options) -> list[Scene]:
    return [make(np.random.default_rng((9, n)), *args, **options) for n in range(count)]


@pytest.mark.parametrize(("size", "px"), [(32, 0.02), (64, 0.015)])
def test_the_parser_finds_true_balls_to_a_fiftieth_of_a_pixel(size: int, px: float) -> None:
    for level in (scenes.WITHIN, scenes.BEYOND["both"]):
        found = summary(physics.floor(drawn(scenes.box, 8, level), FRAMES, size), size)
        assert found["position_px"] < px
        assert max(found["before"], found["after"]) < 0.1 * 32 / size
        assert found["radius"] < 0.003
        assert found["wall"] < 0.005
        assert (found["pieces"], found["lost"], found["missed"], found["unseen"]) == (0, 0, 0, 0)
        assert found["right"] == found["impacts"] > 5
        assert found["timing"] < 0.05
        assert found["energy"] < 0.1


@pytest.mark.parametrize("make", [scenes.uniform, scenes.parabola, scenes.collision])
def test_balls_that_leave_are_no_fault(make) -> None:
    found = summary(physics.floor(drawn(make, 5), 32, SIZE), SIZE)
    assert found["position_px"] < 0.02
    assert (found["pieces"], found["lost"], found["wall"]) == (0, 0, None)
    assert found["right"] == found["impacts"]
    assert found["before"] < 0.1
    assert found["momentum"] < 0.05


def test_a_ball_in_pieces_is_counted_and_the_largest_taken() -> None:
    scene = Scene((Ball(3.0, 3.0, 0, 0, 1.0), Ball(7.0, 7.0, 0, 0, 0.5, RED)))
    seen = parse(film(scene)[:2])
    assert seen.pieces.tolist() == [[2, 0], [2, 0]]
    assert seen.at[0, 0] == pytest.approx([3.0, 3.0], abs=0.02)
    assert seen.radius[0, 0] == pytest.approx(1.0, abs=0.02)
    assert np.isnan(seen.at[:, 1]).all()


def test_pieces_that_meet_only_further_down_are_one() -> None:
    clip = np.full((1, 16, 16, 3), 255, np.uint8)
    clip[0, 2:10, 3], clip[0, 4:10, 12], clip[0, 9, 3:13] = RED, RED, RED
    clip[0, 13, 3:6] = RED
    assert parse(clip).pieces.tolist() == [[2, 0]]


def test_what_is_black_grey_or_faint_is_no_ball() -> None:
    clip = np.full((3, 16, 16, 3), 255, np.uint8)
    clip[0, 4:9, 4:9], clip[1, 4:9, 4:9], clip[2, 4:9, 4:9] = 0, 128, (240, 160, 160)
    assert parse(clip).pieces.sum() == 0


def test_noise_and_floats_move_a_ball_little() -> None:
    clip = film(ONE)
    noisy = np.clip(clip + np.random.default_rng(0).normal(0, 12, clip.shape), 0, 255)
    found = summary(judged(noisy.astype(np.float32) / 255, ONE), SIZE)
    assert found["position_px"] < 0.1
    assert (found["lost"], found["pieces"]) == (0, 0)


def test_a_clip_that_is_elsewhere_is_off_by_as_much() -> None:
    states = fly(ONE, FRAMES).states.copy()
    states[..., 0] += 0.5
    found = summary(judged(film(ONE, states), ONE), SIZE)
    assert found["position"] == pytest.approx(0.5, abs=0.02)
    assert found["position_px"] == pytest.approx(0.5 * SIZE / SIDE, abs=0.05)
    assert found["before"] < 0.1


def test_a_ball_half_as_fast_has_a_quarter_of_the_energy() -> None:
    slow = replace(ONE, balls=(replace(ONE.balls[0], vx=1.0, vy=0.25),))
    found = summary(judged(film(slow), ONE), SIZE)
    assert found["before"] == pytest.approx(np.hypot(1.0, 0.25), abs=0.05)
    assert found["energy"] == pytest.approx(0.75, abs=0.03)
    assert found["momentum"] == pytest.approx(0.5, abs=0.03)
    assert found["after"] is None


def test_a_ball_that_grows_drifts() -> None:
    clip = film(ONE)
    large = replace(ONE, balls=(replace(ONE.balls[0], radius=1.4),))
    clip[8:] = film(large)[8:]
    found = summary(judged(clip, ONE), SIZE)
    assert found["radius"] == pytest.approx(0.2, abs=0.01)
    assert found["drift"] == pytest.approx(0.4, abs=0.02)


def test_a_lost_ball_is_counted_and_the_rest_is_of_what_is_seen() -> None:
    clip = film(TWO)
    clip[4:6] = 255
    found = judged(clip, TWO)
    assert (found.due, found.lost) == (30, 4)  # in the last frame neither is whole any more
    assert found.position.size == 26
    assert found.pieces.sum() == 4
    assert found.position.max() < 0.05


def test_a_ball_lost_at_its_impact_is_unseen_and_not_missed() -> None:
    clip = film(WALL)
    clip[8] = 255
    found = judged(clip, WALL)
    assert (found.impacts, found.right, found.missed, found.unseen) == (1, 0, 0, 1)


def test_a_ball_of_a_colour_that_is_not_there_is_one_too_many() -> None:
    more = Scene((*ONE.balls, Ball(8.0, 2.0, 0, 0, 0.7, BLUE)))
    found = judged(film(more), ONE)
    assert (found.pieces.sum(), found.lost) == (FRAMES, 0)


def test_a_wall_that_does_not_hold_is_seen_three_ways() -> None:
    gone = film(replace(WALL, walls=False))
    found = judged(gone, WALL)
    assert (found.impacts, found.right, found.missed) == (1, 0, 1)
    assert found.wall.max() > 0.5
    assert np.median(found.after) > 4.0
    assert np.median(found.before) < 0.1


def test_balls_that_pass_through_one_another_miss_both_impacts() -> None:
    alone = [fly(replace(TWO, balls=(ball,)), FRAMES).states for ball in TWO.balls]
    found = judged(film(TWO, np.concatenate(alone, 1)), TWO)
    assert (found.impacts, found.right) == (2, 0)
    assert found.missed + found.unseen == 2


def test_a_bounce_that_comes_late_is_late_by_as_much() -> None:
    """The true ball turns in frame 7.5; this one flies on, and turns in frame 9."""
    states, free = fly(WALL, FRAMES).states, fly(replace(WALL, walls=False), FRAMES).states
    late = np.concatenate([free[:10], free[8:2:-1]])
    late[10:, :, 1] = states[10:, :, 1]
    late[..., 0] -= 2.0  # to be whole in view all the time
    found = judged(film(WALL, late), WALL)
    assert found.right == 1
    assert found.timing == pytest.approx([1.5], abs=0.1)


def test_a_bounce_into_the_wrong_direction_is_not_right() -> None:
    states = fly(WALL, FRAMES).states.copy()
    count = np.arange(FRAMES - 8)
    states[8:, 0, 0] = states[8, 0, 0] - 1.0 * count * STEP
    states[8:, 0, 1] = states[8, 0, 1] - 4.0 * count * STEP
    found = judged(film(WALL, states), WALL)
    assert (found.impacts, found.right, found.missed) == (1, 0, 0)


def test_only_the_frames_that_were_made_count() -> None:
    clip = film(ONE)
    clip[:8] = 255
    found = judged(clip, ONE, made=range(8, FRAMES))
    assert (found.due, found.lost) == (8, 0)
    assert found.before.size == 7
    assert judged(film(ONE), ONE, made=range(8, FRAMES)).before.size == 8


def test_many_clips_are_pooled_error_by_error() -> None:
    one, other = judged(film(ONE), ONE), judged(film(TWO), TWO)
    both = pooled([one, other])
    assert both.due == one.due + other.due
    assert both.impacts == other.impacts == 2
    assert both.position.tolist() == [*one.position, *other.position]
    with pytest.raises(ConfigError, match="no clips"):
        pooled([])


def test_what_cannot_be_told_apart_or_does_not_match_is_refused() -> None:
    twins = Scene((ONE.balls[0], replace(ONE.balls[0], x=7.0)))
    with pytest.raises(ConfigError, match="told apart"):
        judged(film(twins), twins)
    with pytest.raises(ConfigError, match="a flight of 16"):
        judged(film(ONE)[:8], ONE)
