"""Floors fill in what they are told to, look at nothing else, and leave what is given."""

from __future__ import annotations

import numpy as np
import pytest

from bicameral.engines.vdt import masks
from bicameral.engines.vdt.score.floors import FLOORS, black, copy, linear, mean


def ramp(dtype: type = np.uint8) -> np.ndarray:
    """Eight frames of 4 x 4 px: the number of the frame, ten times, and a bit by place."""
    frames = 10 * np.arange(8)[:, None, None, None]
    return (frames + np.arange(16).reshape(1, 4, 4, 1) + np.zeros((1, 1, 1, 3))).astype(dtype)


def given(*frames: int) -> np.ndarray:
    mask = np.ones((8, 4, 4), np.float32)
    mask[list(frames)] = 0
    return mask


@pytest.mark.parametrize("name", FLOORS)
@pytest.mark.parametrize("task", masks.TASKS)
def test_what_is_given_stays_and_what_is_not_is_not_looked_at(name: str, task) -> None:
    dice = np.random.default_rng(0)
    clip = dice.integers(0, 256, (8, 4, 4, 3)).astype(np.uint8)
    mask = masks.fixed(task, (8, 4, 4), dice)
    filled = FLOORS[name](clip, mask)
    hidden = np.where(mask[..., None] > 0, 255 - clip, clip)
    assert filled.dtype == np.uint8
    assert (filled[mask == 0] == clip[mask == 0]).all()
    assert (FLOORS[name](hidden, mask) == filled).all()


def test_the_last_frame_is_copied_and_of_two_the_nearest() -> None:
    clip = ramp()
    assert (copy(clip, given(0, 1, 2))[3:] == clip[2]).all()
    assert (copy(clip, given(5, 6, 7))[:5] == clip[5]).all()
    filled = copy(clip, given(0, 4))
    assert (filled[:, 0, 0, 0] == [0, 0, 0, 40, 40, 40, 40, 40]).all()


def test_between_two_frames_lies_a_line_and_beyond_them_a_copy() -> None:
    clip = ramp()
    assert (linear(clip, given(0, 7)) == clip).all()
    filled = linear(clip, given(2, 4))
    assert (filled[3] == clip[3]).all()
    assert (filled[:2] == clip[2]).all()
    assert (filled[5:] == clip[4]).all()


def test_a_place_is_filled_from_its_own_past_and_future() -> None:
    clip, mask = ramp(), np.zeros((8, 4, 4), np.float32)
    mask[2:7, :2] = 1
    filled = linear(clip, mask)
    assert (filled == clip).all()
    assert (copy(clip, mask)[2:7, 0, 0, 0] == [10, 10, 10, 70, 70]).all()


def test_the_mean_is_of_the_frames_given() -> None:
    filled = mean(ramp(), given(1, 2, 6))
    assert (filled[0] == ramp()[3]).all()
    assert (filled[1] == ramp()[1]).all()


def test_a_place_that_no_frame_gives_is_black() -> None:
    for floor in FLOORS.values():
        assert (floor(ramp(), np.ones((8, 4, 4))) == 0).all()
    assert (black(ramp(), given(0))[1:] == 0).all()


def test_floats_stay_floats_and_are_not_rounded() -> None:
    clip = ramp(np.float32) / 255
    filled = linear(clip, given(0, 3))
    assert filled.dtype == np.float32
    assert filled[1, 0, 0, 0] == pytest.approx(10 / 255)
    assert filled[2, 0, 0, 0] == pytest.approx(20 / 255)


@pytest.mark.parametrize("name", FLOORS)
def test_a_mask_of_whole_frames_needs_no_pixels(name: str) -> None:
    mask = given(0, 1, 5)
    assert (FLOORS[name](ramp(), mask[:, :1, :1]) == FLOORS[name](ramp(), mask)).all()
