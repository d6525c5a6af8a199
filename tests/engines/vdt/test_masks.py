from __future__ import annotations

from typing import Any, get_args

import pytest

np = pytest.importorskip("numpy", reason="needs pip install 'bicameral[video]'")

from bicameral.engines.vdt import masks  # noqa: E402
from bicameral.errors import ConfigError  # noqa: E402
from bicameral.types import VideoTask  # noqa: E402

GRID = (16, 8, 8)
KINDS_OF_DRAW = [masks.fixed, masks.widened]
MANY = 400


def dice(seed: int = 0) -> Any:
    return np.random.default_rng(seed)


def whole(mask: Any) -> list[int]:
    """The frames that are given whole."""
    return np.flatnonzero((mask == 0).all((1, 2))).tolist()


def partly(mask: Any) -> Any:
    return ((mask == 0).any((1, 2)) & (mask == 1).any((1, 2))).any()


def test_the_seven_tasks_are_those_of_the_product() -> None:
    assert get_args(VideoTask) == masks.TASKS
    assert len(masks.TASKS) == 7


@pytest.mark.parametrize(
    ("task", "given"),
    [
        ("predict", [0, 1, 2, 3, 4, 5, 6, 7]),
        ("backward", [8, 9, 10, 11, 12, 13, 14, 15]),
        ("interpolate", [0, 4, 8, 12]),
        ("unconditional", []),
    ],
)
def test_four_tasks_give_the_papers_frames(task: Any, given: list[int]) -> None:
    mask = masks.fixed(task, GRID, dice())
    assert whole(mask) == given
    assert mask.sum() == (16 - len(given)) * 64


def test_of_an_image_one_frame_is_given_any_one() -> None:
    draw = dice()
    given = [whole(masks.fixed("image", GRID, draw)) for _ in range(MANY)]
    assert {len(frames) for frames in given} == {1}
    assert {frames[0] for frames in given} == set(range(16))


def test_of_random_frames_a_fifth_is_given() -> None:
    draw = dice()
    drawn = [masks.fixed("frames", GRID, draw) for _ in range(MANY)]
    assert not any(partly(mask) for mask in drawn)
    assert np.mean([len(whole(mask)) for mask in drawn]) == pytest.approx(0.2 * 16, abs=0.25)


def test_a_completion_is_one_still_box_of_half_a_frame_between_frames_that_are_given() -> None:
    draw = dice()
    firsts, lasts = set(), set()
    for _ in range(MANY):
        mask = masks.fixed("complete", GRID, draw)
        [there] = np.nonzero(mask.any((1, 2)))
        assert whole(mask) == [f for f in range(16) if not there[0] <= f <= there[-1]]
        assert (mask[there] == mask[there[0]]).all()
        rows, columns = (np.flatnonzero(mask[there[0]].any(axis)) for axis in (1, 0))
        assert mask[there[0]].sum() == len(rows) * len(columns)
        assert mask[there[0]].mean() == pytest.approx(0.5, abs=0.13)
        firsts.add(int(there[0]))
        lasts.add(15 - int(there[-1]))
    assert firsts == {0, 1, 2, 3}
    assert lasts == {0, 1, 2, 3}


def test_wider_predictions_are_of_any_number_of_first_frames() -> None:
    draw = dice()
    given = [whole(masks.widened("predict", GRID, draw)) for _ in range(MANY)]
    assert all(frames == list(range(len(frames))) for frames in given)
    assert {len(frames) for frames in given} == set(range(1, 16))


def test_wider_going_back_is_from_any_number_of_last_frames() -> None:
    draw = dice()
    given = [whole(masks.widened("backward", GRID, draw)) for _ in range(MANY)]
    assert all(frames == list(range(16 - len(frames), 16)) for frames in given)
    assert {len(frames) for frames in given} == set(range(1, 16))


def test_wider_interpolations_have_any_stride_and_phase() -> None:
    draw = dice()
    drawn = [tuple(whole(masks.widened("interpolate", GRID, draw))) for _ in range(MANY)]
    assert all(len(set(np.diff(frames).tolist())) <= 1 for frames in drawn)
    assert {frames[1] - frames[0] for frames in drawn if len(frames) > 1} == set(range(2, 9))
    assert {frames[0] for frames in drawn} == set(range(8))


def test_wider_completions_are_boxes_moving_boxes_and_sides() -> None:
    draw = dice()
    drawn = [masks.widened("complete", GRID, draw) for _ in range(MANY)]
    moving = [m for m in drawn if len({f.tobytes() for f in m if f.any()}) > 1]
    sides = [m for m in drawn if m.any(0).all(0).any() or m.any(0).all(1).any()]
    shares = [m[m.any((1, 2))].mean() for m in drawn]
    assert MANY * 0.15 < len(moving) < MANY * 0.4
    assert len(sides) > MANY * 0.3
    assert min(shares) < 0.15
    assert max(shares) > 0.65


@pytest.mark.parametrize("draws", KINDS_OF_DRAW)
@pytest.mark.parametrize("task", masks.TASKS)
def test_a_mask_is_nought_or_one_over_the_grid(task: Any, draws: Any) -> None:
    mask = draws(task, (6, 3, 5), dice())
    assert mask.shape == (6, 3, 5)
    assert mask.dtype == np.float32
    assert set(np.unique(mask)) <= {0, 1}


@pytest.mark.parametrize("draws", KINDS_OF_DRAW)
@pytest.mark.parametrize("task", masks.TASKS)
@pytest.mark.parametrize(
    "grid", [(2, 1, 1), (2, 4, 4), (3, 2, 5), (4, 1, 3), (5, 3, 1), (20, 8, 8)]
)
def test_something_is_always_to_be_generated(grid: Any, task: Any, draws: Any) -> None:
    draw = dice()
    assert all(draws(task, grid, draw).any() for _ in range(60))


@pytest.mark.parametrize("draws", KINDS_OF_DRAW)
@pytest.mark.parametrize("task", sorted(set(masks.TASKS) - {"unconditional", "frames", "complete"}))
def test_something_is_always_given(task: Any, draws: Any) -> None:
    draw = dice()
    for grid in ((2, 1, 1), (3, 2, 2), (16, 8, 8)):
        assert all((draws(task, grid, draw) == 0).any() for _ in range(60))


@pytest.mark.parametrize("draws", KINDS_OF_DRAW)
@pytest.mark.parametrize("task", sorted(set(masks.TASKS) - {"unconditional", "complete"}))
def test_one_frame_alone_is_refused_where_the_task_takes_two(task: Any, draws: Any) -> None:
    with pytest.raises(ConfigError, match="at least two frames"):
        draws(task, (1, 4, 4), dice())


@pytest.mark.parametrize("draws", KINDS_OF_DRAW)
@pytest.mark.parametrize("task", ["unconditional", "complete"])
def test_a_picture_can_be_completed_or_made(task: Any, draws: Any) -> None:
    draw = dice()
    assert all(draws(task, (1, 4, 4), draw).any() for _ in range(60))


@pytest.mark.parametrize("wide", [False, True])
def test_a_fifth_of_the_mix_is_completion_and_the_rest_even(wide: bool) -> None:
    draw = dice()
    drawn = [masks.mixed(GRID, draw, wide=wide) for _ in range(3000)]
    nothing = np.mean([not whole(m) and not partly(m) for m in drawn])
    parts = np.mean([partly(m) for m in drawn])
    assert parts == pytest.approx(0.2, abs=0.03)
    assert nothing == pytest.approx(0.8 / 6, abs=0.03)


@pytest.mark.parametrize("wide", [False, True])
def test_equal_seeds_draw_equal_masks(wide: bool) -> None:
    one, two = ([masks.mixed(GRID, d, wide=wide) for _ in range(20)] for d in (dice(3), dice(3)))
    assert np.array_equal(one, two)
    assert not np.array_equal(one, [masks.mixed(GRID, dice(4), wide=wide) for _ in range(20)])


def test_frames_are_given_by_number() -> None:
    mask = masks.given((4, 2, 2), [1, 3])
    assert mask[:, 0, 0].tolist() == [1, 0, 1, 0]
    assert masks.given((4, 2, 2), []).all()
