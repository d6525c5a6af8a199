"""Digits move as the protocol says; with made-up digits, so that nothing has to be fetched."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest

from bicameral.engines.vdt.worlds import mnist
from bicameral.errors import ConfigError


@pytest.fixture
def digits() -> np.ndarray:
    """Forty even squares, each of its own brightness."""
    return np.broadcast_to(np.arange(50, 90, dtype=np.uint8)[:, None, None], (40, 28, 28)).copy()


@pytest.fixture
def file(tmp_path: Path, digits: np.ndarray) -> Path:
    np.savez(tmp_path / "digits.npz", x=digits, y=np.arange(40))
    return tmp_path / "digits.npz"


def test_a_clip_is_bytes_with_two_digits_in_every_frame(digits: np.ndarray) -> None:
    clips = mnist.batch(digits, 8, np.random.default_rng(0))
    assert clips.shape == (8, 20, 64, 64, 1)
    assert clips.dtype == np.uint8
    for clip in clips:
        assert len(np.unique(clip)) in (2, 3)
        assert ((clip > 0).sum((1, 2, 3)) >= 28 * 28).all()


def test_where_digits_overlap_the_brighter_shows(digits: np.ndarray) -> None:
    clips = mnist.batch(digits, 8, np.random.default_rng(0))
    brightest = clips.max((1, 2, 3, 4))
    assert ((clips == brightest[:, None, None, None, None]).sum((2, 3, 4)) == 28 * 28).all()


def test_a_path_steps_a_tenth_of_the_free_range_and_stays_in_it() -> None:
    paths = mnist.straight(np.random.default_rng(1), (500,), 20)
    assert paths.min() == 0
    assert paths.max() == 36
    steps = np.linalg.norm(np.diff(paths, axis=1), axis=-1)
    free = ((paths > 0) & (paths < 36)).all(-1)
    away = steps[free[:, 1:] & free[:, :-1]]
    assert abs(away.mean() - 3.6) < 0.1  # truncation moves a corner by less than a pixel
    assert away.max() < 3.6 + 2**0.5


def test_a_path_turns_at_the_wall_it_stopped_at() -> None:
    paths = mnist.straight(np.random.default_rng(2), (500,), 20)[..., 0]
    stopped = (paths[:, 1:-1] == 36) & (paths[:, :-2] < 36)
    assert stopped.sum() > 200
    assert (np.diff(paths, axis=1)[:, 1:][stopped] < 0).all()


def test_the_first_frame_is_a_step_from_the_start() -> None:
    dice = np.random.default_rng(5)
    start, angle = dice.random((1, 2)), dice.uniform(0, 2 * np.pi, (1,))
    moved = np.clip(start + 0.1 * np.stack([np.sin(angle), np.cos(angle)], -1), 0, 1)
    path = mnist.straight(np.random.default_rng(5), (1,), 1)
    assert (path[:, 0] == (36 * moved).astype(int)).all()


def test_stochastic_digits_are_wider_and_change_speed_only_at_a_wall(digits: np.ndarray) -> None:
    paths = mnist.random(np.random.default_rng(3), (300,), 20)
    assert paths.min() == 0
    assert paths.max() == 32
    speeds = np.diff(paths, axis=1)
    assert np.abs(speeds).max() == 4
    inner = ((paths > 4) & (paths < 28)).all(-1)
    calm = inner[:, :-2] & inner[:, 1:-1] & inner[:, 2:]
    assert calm.sum() > 500
    assert (speeds[:, 1:][calm] == speeds[:, :-1][calm]).all()
    turned = (paths[:, 1:-1, 0] == 0) & (speeds[:, :-1, 0] < 0) & (speeds[:, 1:, 0] != 0)
    assert len(np.unique(speeds[:, 1:, 0][turned])) == 4
    clip = mnist.batch(digits, 1, np.random.default_rng(0), stochastic=True)[0]
    assert (clip == clip.max()).sum((1, 2, 3)).tolist() == [32 * 32] * 20


def test_a_clip_depends_on_its_seed_and_number_alone(digits: np.ndarray) -> None:
    first = list(itertools.islice(mnist.films(digits, 1, 5), 3))
    later = next(mnist.films(digits, 1, 5, first=2))
    other = next(mnist.films(digits, 2, 5))
    assert (first[2] == later).all()
    assert (first[0] != first[1]).any()
    assert (first[0] != other).any()


def test_test_digits_are_not_among_those_to_train_with(file: Path, digits: np.ndarray) -> None:
    split = mnist.read(file, held=10)
    again = mnist.read(file, held=10, seed=1)
    train, test = (set(part.images[:, 0, 0].tolist()) for part in (split.train, split.test))
    assert (len(train), len(test)) == (30, 10)
    assert not train & test
    assert test != set(range(80, 90))
    assert test != set(again.test.images[:, 0, 0].tolist())
    assert split.test.labels is not None
    assert (split.test.images[:, 0, 0] == split.test.labels + 50).all()


def test_digits_without_labels_have_none(tmp_path: Path, digits: np.ndarray) -> None:
    np.savez(tmp_path / "bare.npz", x=digits)
    assert mnist.read(tmp_path / "bare.npz", held=10).train.labels is None


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"images": np.zeros((9, 28, 28), np.uint8)}, "no npz with `x`"),
        ({"x": np.zeros((9, 28, 28))}, "float64"),
        ({"x": np.zeros((9, 784), np.uint8)}, r"\(9, 784\)"),
        ({"x": np.zeros((9, 28, 28), np.uint8), "y": np.zeros(8, int)}, "`y`"),
        ({"x": np.zeros((9, 28, 28), np.uint8)}, "hold"),
    ],
)
def test_what_is_no_file_of_digits_is_said(tmp_path: Path, arrays, said: str) -> None:
    np.savez(tmp_path / "wrong.npz", **arrays)
    with pytest.raises(ConfigError, match=said):
        mnist.read(tmp_path / "wrong.npz")


def test_a_file_that_is_not_there_or_no_npz_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no digits at"):
        mnist.read(tmp_path / "none.npz")
    for number, data in enumerate((b"", b"PK\x03\x04 cut", b"text", b"\x93NUMPY")):
        (tmp_path / f"{number}.npz").write_bytes(data)
        with pytest.raises(ConfigError, match="no npz"):
            mnist.read(tmp_path / f"{number}.npz")
    np.save(tmp_path / "alone.npy", np.zeros((9, 28, 28), np.uint8))
    with pytest.raises(ConfigError, match="no npz"):
        mnist.read(tmp_path / "alone.npy")
