"""Windows over a clip that is longer than what the net knows: each frame is made, and made once."""

from __future__ import annotations

import pytest

np = pytest.importorskip("numpy", reason="needs pip install 'bicameral[video]'")

from bicameral.engines.vdt.extend import windows  # noqa: E402
from bicameral.engines.vdt.masks import TASKS, given, widened  # noqa: E402

LONG = (40, 2, 2)


def starts(mask, length=16):
    return [window.start for window in windows(mask, length)]


def test_a_clip_that_fits_is_one_window_with_its_own_mask() -> None:
    mask = given((16, 2, 2), [3])
    (only,) = windows(mask, 16)
    assert only.start == 0
    assert only.mask is mask
    assert starts(given((5, 2, 2), [0])) == [0]


def test_from_nothing_it_goes_on_by_half_a_window() -> None:
    assert starts(np.ones(LONG, np.float32)) == [0, 8, 16, 24]


def test_a_prediction_begins_with_half_a_window_of_what_is_given() -> None:
    plan = windows(given(LONG, range(20)), 16)
    assert [window.start for window in plan] == [12, 20, 24]
    for window in plan[:2]:
        assert not window.mask[:8].any()
        assert window.mask[8:].all()
    assert not plan[2].mask[:12].any()  # the last is pushed back, so as not to end beyond the clip


def test_what_comes_before_is_made_backward() -> None:
    plan = windows(given(LONG, range(30, 40)), 16)
    assert [window.start for window in plan] == [22, 14, 6, 0]
    for window in plan[:3]:
        assert window.mask[:8].all()
        assert not window.mask[8:].any()


def test_from_a_picture_in_the_middle_it_goes_both_ways() -> None:
    plan = windows(given(LONG, [20]), 16)
    assert [window.start for window in plan] == [13, 21, 24, 5, 0]
    assert (plan[0].mask[:, 0, 0] == 0).nonzero()[0].tolist() == [7]


def test_windows_of_which_nothing_is_to_be_made_are_left_out() -> None:
    mask = np.zeros(LONG, np.float32)
    mask[30:32, 0, 0] = 1
    (only,) = windows(mask, 16)
    assert only.start <= 30
    assert only.start + 16 >= 32
    assert only.mask.sum() == 2


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("length", [1, 2, 5, 16])
@pytest.mark.parametrize("seed", range(5))
def test_everything_is_made_once_from_what_was_there_before(task, length, seed) -> None:
    dice = np.random.default_rng(seed)
    mask = widened(task, (int(dice.integers(length, 60)), 2, 3), dice)
    if seed == 4:
        mask = mask * 0.5  # noised in part only
    left = mask.copy()
    for window in windows(mask, length):
        assert len(window.mask) == min(length, len(mask))
        assert window.start + len(window.mask) <= len(mask)
        assert window.mask.any()
        assert (window.mask == left[window.frames]).all()
        left[window.frames] = 0
    assert not left.any()
