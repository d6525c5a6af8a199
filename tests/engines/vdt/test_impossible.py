"""Pairs share their past, and their future can be told apart; the possible one is possible."""

from __future__ import annotations

import functools
import itertools
import math

import numpy as np
import pytest

from bicameral.engines.vdt.score.parse import parse
from bicameral.engines.vdt.worlds import impossible
from bicameral.engines.vdt.worlds.balls import SIDE, STEP
from bicameral.engines.vdt.worlds.impossible import KINDS, Pair, pairs
from bicameral.errors import ConfigError

FRAMES, SIZE, COUNT = 16, 32, 8


@functools.cache
def some(kind: str) -> list[Pair]:
    return list(itertools.islice(pairs(kind, 4, FRAMES, SIZE), COUNT))


@pytest.mark.parametrize("kind", KINDS)
def test_the_past_is_shared_and_the_future_is_not(kind: str) -> None:
    for pair in some(kind):
        assert pair.possible.shape == pair.impossible.shape == (FRAMES, SIZE, SIZE, 3)
        assert 2 <= pair.frame < FRAMES
        assert (pair.possible[: pair.frame] == pair.impossible[: pair.frame]).all()
        assert (pair.possible[pair.frame] != pair.impossible[pair.frame]).any()
        apart = np.abs(pair.possible.astype(int) - pair.impossible).max(-1) > 48
        assert apart.sum((1, 2)).max() > 0.5 * math.pi * (0.7 * SIZE / SIDE) ** 2


@pytest.mark.parametrize("kind", KINDS)
def test_the_possible_clip_has_no_leap_and_no_other_size(kind: str) -> None:
    for pair in some(kind):
        seen = parse(pair.possible)
        steps = np.linalg.norm(np.diff(seen.at, axis=0), axis=-1)
        assert np.nanmax(steps) < 12 * STEP  # a light ball that a heavy one hits
        assert np.nanmax(np.nanmax(seen.radius, 0, initial=0) - seen.radius) < 0.05
        assert len(np.unique(seen.pieces, axis=0)) == 1


def test_a_ball_that_leaps_is_far_off_at_once() -> None:
    for pair in some("teleport"):
        before, after = (parse(pair.impossible[frame : frame + 1]).at[0] for frame in _around(pair))
        assert np.nanmax(np.linalg.norm(after - before, axis=-1)) > 2.0


def test_a_ball_that_speeds_up_goes_on_where_it_was() -> None:
    for pair in some("speed"):
        one, other = parse(pair.possible), parse(pair.impossible)
        step = [np.linalg.norm(np.diff(seen.at, axis=0), axis=-1) for seen in (one, other)]
        at = pair.frame - 1
        ratio = step[1][at] / step[0][at]
        assert np.nanmax(ratio) == pytest.approx(2.5, rel=0.15)


def test_balls_that_pass_through_one_another_overlap_and_the_possible_ones_collide() -> None:
    for pair in some("through ball"):
        possible, past = parse(pair.possible), parse(pair.possible[:2])
        reach = past.radius[0].sum()
        far = np.linalg.norm(possible.at[:, 0] - possible.at[:, 1], axis=-1)
        assert (far > reach - 0.05).all()
        near = far[pair.frame - 1 : pair.frame + 1].min()
        assert near < reach + 0.8  # they do meet then, at up to 8 units/s
        hidden = parse(pair.impossible[pair.frame :]).radius[:, 0]
        shown = np.nan_to_num(hidden, nan=0.0)
        assert shown.min() < past.radius[0, 0] - 0.02  # some of the red is behind the blue


def test_a_ball_that_passes_through_a_wall_is_gone_or_cut() -> None:
    for pair in some("through wall"):
        last = parse(pair.impossible[-1:])
        whole = parse(pair.possible[-1:])
        assert np.nansum(last.radius**2) < np.nansum(whole.radius**2) - 0.05
        turned = np.diff(parse(pair.possible[pair.frame - 2 :]).at, axis=0)
        signs = np.sign(np.nan_to_num(turned[[0, -1]])).astype(int)
        assert (signs[0] != signs[1]).any()


def test_colours_change_and_nothing_else() -> None:
    for pair in some("color"):
        one, other = parse(pair.possible[pair.frame :]), parse(pair.impossible[pair.frame :])
        assert np.allclose(one.at[:, ::-1], other.at, atol=0.03, equal_nan=True)
        assert np.allclose(one.radius[:, ::-1], other.radius, atol=0.03, equal_nan=True)


def test_a_ball_that_changes_size_stays_where_it_was() -> None:
    for pair in some("size"):
        one, other = (parse(clip[pair.frame - 1 :]) for clip in (pair.possible, pair.impossible))
        ratio = other.radius[1] / one.radius[1]
        wrong = np.nanargmax(np.abs(np.log(ratio)))
        assert ratio[wrong] == pytest.approx(1.6, rel=0.03) or ratio[wrong] == pytest.approx(
            1 / 1.6, rel=0.03
        )
        assert np.linalg.norm(other.at[1] - other.at[0], axis=-1)[wrong] < 0.9


def test_a_pair_depends_on_its_seed_and_number_alone() -> None:
    again = list(itertools.islice(pairs("teleport", 4, FRAMES, SIZE), 3))[2]
    assert (some("teleport")[2].impossible == again.impossible).all()
    other = next(pairs("teleport", 5, FRAMES, SIZE))
    assert (some("teleport")[0].possible != other.possible).any()


def test_what_cannot_be_made_is_said() -> None:
    dice = np.random.default_rng(0)
    with pytest.raises(ConfigError, match="take one of teleport"):
        impossible.pair("melting", dice, 16, 32)
    with pytest.raises(ConfigError, match="6 frames"):
        impossible.pair("teleport", dice, 5, 32)


def _around(pair: Pair) -> tuple[int, int]:
    return pair.frame - 1, pair.frame
