"""Clips from whatever lies there: what comes out, that it is drawn by number, and what is said."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest

from bicameral.engines.vdt.learn.clips import Shape, divided
from bicameral.engines.vdt.learn.sources import opened
from bicameral.engines.vdt.learn.store import store
from bicameral.errors import ConfigError

SMALL = Shape(frames=4, height=8, width=8, channels=1)


def ramp(count: int = 3, frames: int = 6, size: int = 8) -> np.ndarray:
    """Films whose every pixel says which film and which frame it is of: 16 * film + frame."""
    number = 16 * np.arange(count)[:, None] + np.arange(frames)
    return np.broadcast_to(number[..., None, None], (count, frames, size, size)).astype(np.uint8)


def batch(what: Path | str, shape: Shape = SMALL, seed: int = 0, count: int = 8) -> np.ndarray:
    return opened(str(what)).within(shape).batch(count, np.random.default_rng(seed))


def saved(path: Path, array: np.ndarray, *, packed: bool = False, **more: np.ndarray) -> Path:
    if path.suffix == ".npy":
        np.save(path, array)
    else:
        (np.savez_compressed if packed else np.savez)(path, clips=array, **more)
    return path


@pytest.mark.parametrize("name", ["a.npy", "a.npz", "packed.npz"])
def test_windows_of_arrays(tmp_path: Path, name: str) -> None:
    path = saved(tmp_path / name, ramp(), packed=name == "packed.npz", other=np.zeros(2))
    clips = batch(path, count=40)
    assert clips.shape == (40, 4, 8, 8, 1)
    assert clips.dtype == np.uint8
    steps = np.diff(clips[:, :, 0, 0, 0].astype(int), axis=1)
    assert (steps == 1).all()  # whole windows of one film, in order
    starts = clips[:, 0, 0, 0, 0]
    assert set(starts % 16) == {0, 1, 2}
    assert set(starts // 16) == {0, 1, 2}


def test_the_dice_decide(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.npz", ramp())
    assert (batch(path, seed=1) == batch(path, seed=1)).all()
    assert (batch(path, seed=1) != batch(path, seed=2)).any()


def test_a_part_is_the_rows_of_the_batch(tmp_path: Path) -> None:
    clips = opened(str(saved(tmp_path / "a.npz", ramp()))).within(SMALL)
    dice, again = np.random.default_rng(3), np.random.default_rng(3)
    whole, part = clips.batch(6, dice), clips.part(6, again, slice(2, 5))
    assert (whole[2:5] == part).all()
    assert dice.random() == again.random()


def test_a_stride_takes_every_other_frame(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.npz", ramp())
    shape = Shape(frames=3, height=8, width=8, channels=1, stride=2)
    assert (np.diff(batch(path, shape)[:, :, 0, 0, 0].astype(int), axis=1) == 2).all()


@pytest.mark.parametrize(
    ("shape", "films"),
    [((5, 8, 8), 1), ((5, 8, 8, 3), 1), ((2, 5, 8, 8), 2), ((2, 5, 8, 8, 1), 2)],
)
def test_shapes(tmp_path: Path, shape: tuple[int, ...], films: int) -> None:
    found = opened(str(saved(tmp_path / "a.npy", np.zeros(shape, np.uint8)))).found
    assert (found.clips, found.frames, found.height, found.width) == (films, 5, 8, 8)
    assert found.channels == (3 if shape[-1] == 3 else 1)


def test_floats_become_bytes(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.npy", np.full((1, 4, 8, 8), 0.5, np.float32))
    assert (batch(path) == 128).all()


@pytest.mark.parametrize(
    ("array", "said"),
    [
        (np.full((1, 4, 8, 8), 1.5), "floats lie from 0 to 1"),
        (np.full((1, 4, 8, 8), np.nan), "floats lie from 0 to 1"),
        (np.zeros((1, 4, 8, 8), np.int64), "holds int64"),
        (np.zeros((4, 8), np.uint8), r"shape \(4, 8\)"),
        (np.zeros((1, 2, 4, 8, 5), np.uint8), r"shape \(1, 2, 4, 8, 5\)"),
    ],
)
def test_arrays_that_are_no_clips(tmp_path: Path, array: np.ndarray, said: str) -> None:
    with pytest.raises(ConfigError, match=said) as raised:
        opened(str(saved(tmp_path / "a.npy", array)))
    assert "a.npy" in str(raised.value)


def test_short_films_of_an_array(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.npy", ramp(frames=3))
    with pytest.raises(ConfigError, match=r"a\.npy: its films have 3 frames and a clip spans 4"):
        opened(str(path)).within(SMALL)


def test_an_npz_of_several_arrays_needs_clips(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", one=np.zeros(3), two=np.zeros(3))
    with pytest.raises(ConfigError, match="one, two"):
        opened(str(tmp_path / "a.npz"))
    np.savez(tmp_path / "b.npz", films=ramp())
    assert opened(str(tmp_path / "b.npz")).found.clips == 3


@pytest.mark.parametrize("name", ["a.npz", "a.npy"])
def test_broken_arrays(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"nothing of the kind")
    with pytest.raises(ConfigError, match=rf"{name} cannot be read"):
        opened(str(tmp_path / name))


@pytest.mark.parametrize("what", ["gone", "notes.txt", "empty", "balls:square"])
def test_what_cannot_be_learned_from_says_what_can(tmp_path: Path, what: str) -> None:
    (tmp_path / "notes.txt").write_text("hello")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match=r"mp4|balls:box"):
        opened(what if ":" in what else str(tmp_path / what))


def test_held_clips_are_not_learned_from() -> None:
    learned, held = set(divided(400, held=False)), set(divided(400, held=True))
    assert len(held) == 8
    assert learned | held == set(range(400))
    assert not learned & held
    assert divided(5, held=True) == divided(5, held=False) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("world", ["box", "uniform", "parabola", "collision"])
def test_balls(world: str) -> None:
    shape = Shape(frames=4, height=8, width=12, channels=3)
    clips = batch(f"balls:{world}", shape, count=3)
    assert clips.shape == (3, 4, 8, 12, 3)
    assert len({clip.tobytes() for clip in clips}) == 3
    assert (clips == batch(f"balls:{world}", shape, count=3)).all()


def test_moving_mnist_holds_digits_back(tmp_path: Path) -> None:
    digits = np.zeros((1600, 28, 28), np.uint8)
    digits[:, 8:20, 8:20] = np.arange(1600)[:, None, None] % 251 + 1
    np.savez(tmp_path / "digits.npz", x=digits)
    pile = opened(f"moving-mnist:{tmp_path / 'digits.npz'}")
    assert (pile.found.frames, pile.found.height, pile.found.channels) == (20, 64, 1)
    shape = Shape(frames=2, height=64, width=64, channels=1)
    clips = [pile.within(shape, held=h).batch(2, np.random.default_rng(0)) for h in (False, True)]
    assert clips[0].shape == (2, 2, 64, 64, 1)
    assert (clips[0] != clips[1]).any()


def test_a_store_is_read_back(tmp_path: Path) -> None:
    shape = Shape(frames=4, height=8, width=8, channels=3)
    clips = opened("balls:box").within(shape)
    for name in ("a.npz", "again.npz", "a.npy"):
        store(tmp_path / name, clips, shape, 3, seed=7)
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "again.npz").read_bytes()
    packed = np.load(tmp_path / "a.npz")["clips"]
    assert (packed == np.load(tmp_path / "a.npy")).all()
    assert packed.shape == (3, 4, 8, 8, 3)
    assert zipfile.ZipFile(tmp_path / "a.npz").namelist() == ["clips.npy"]
    assert opened(str(tmp_path / "a.npz")).found.clips == 3
