"""Raw films, written here by OpenCV and Pillow and read back."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from bicameral.engines.vdt.learn.clips import Shape
from bicameral.engines.vdt.learn.films import Films
from bicameral.engines.vdt.learn.sources import opened
from bicameral.errors import ConfigError

cv2 = pytest.importorskip("cv2")
SHAPE = Shape(frames=4, height=16, width=16, channels=3)
CODES = {".mp4": "mp4v", ".mov": "mp4v", ".avi": "MJPG", ".webm": "VP80"}


def film(path: Path, frames: int = 8, size: tuple[int, int] = (32, 32)) -> Path:
    """Frame n is grey of 20 + 24 * n, its left edge blue."""
    pictures = [np.full((*size, 3), 20 + 24 * n, np.uint8) for n in range(frames)]
    for picture in pictures:
        picture[:, : size[1] // 4] = (0, 0, 255)
    if path.suffix == ".gif":
        from PIL import Image

        first, *rest = (Image.fromarray(p) for p in pictures)
        first.save(path, save_all=True, append_images=rest, duration=100)
        return path
    if not path.suffix:
        path.mkdir(parents=True)
        for number, picture in enumerate(pictures):
            cv2.imwrite(str(path / f"{number:03}.png"), picture[..., ::-1])
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    code = cv2.VideoWriter_fourcc(*CODES[path.suffix])
    writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, code, 10.0, size[::-1])
    for picture in pictures:
        writer.write(picture[..., ::-1])
    writer.release()
    return path


def batch(path: Path, shape: Shape = SHAPE, count: int = 12) -> np.ndarray:
    return opened(str(path)).within(shape).batch(count, np.random.default_rng(0))


def check(clips: np.ndarray) -> None:
    """Windows of `film`: frames in order, blue at the left."""
    assert clips.shape[1:] == (4, 16, 16, 3)
    levels = clips[:, :, 8:, 10:, :].mean((2, 3, 4))
    assert np.abs(np.diff(levels, axis=1) - 24).max() < 8
    assert len(np.unique(levels[:, 0].round(-1))) > 1
    red, _, blue = clips[:, :, :, :3].mean((0, 1, 2, 3))
    assert blue > red + 100


@pytest.mark.parametrize("name", ["a.mp4", "a.mov", "a.avi", "a.webm", "a.gif", "a"])
def test_one_film(tmp_path: Path, name: str) -> None:
    check(batch(film(tmp_path / name)))


def test_a_folder_of_all_kinds(tmp_path: Path) -> None:
    for name in ("a.mp4", "deep/er/b.avi", "frames/c", "frames/d"):
        film(tmp_path / name)
    pile = opened(str(tmp_path))
    assert pile.found.clips == 4
    assert pile.found.natural
    check(pile.within(SHAPE).batch(12, np.random.default_rng(0)))


def test_sizes_are_covered_and_the_middle_kept(tmp_path: Path) -> None:
    clips = batch(film(tmp_path / "a.avi", size=(32, 64)))
    assert np.abs(clips[:, :, :, :2].mean((1, 2, 3)).std(-1)).max() < 20  # the blue edge is cut off


def test_grey(tmp_path: Path) -> None:
    shape = Shape(frames=4, height=16, width=16, channels=1)
    assert batch(film(tmp_path / "a"), shape).shape == (12, 4, 16, 16, 1)


def test_bad_films_are_left_out_with_reasons(tmp_path: Path) -> None:
    film(tmp_path / "good.avi")
    film(tmp_path / "short.avi", frames=2)
    (tmp_path / "torn.mp4").write_bytes(b"not a film at all" * 9)
    film(tmp_path / "mixed")
    cv2.imwrite(str(tmp_path / "mixed" / "999.png"), np.zeros((4, 4, 3), np.uint8))
    film(tmp_path / "odd")
    (tmp_path / "odd" / "003.png").write_bytes(b"no picture")
    clips = opened(str(tmp_path)).within(SHAPE)
    assert clips.count == 1
    assert sorted(clips.skipped) == ["mixed", "odd", "short.avi", "torn.mp4"]
    assert clips.skipped["short.avi"] == "2 frames; a clip spans 4"
    assert "000.png is 32 x 32, 999.png is 4 x 4" in clips.skipped["mixed"]
    assert "003.png is no picture" in clips.skipped["odd"]
    check(clips.batch(8, np.random.default_rng(0)))


def test_all_bad_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "torn.mp4").write_bytes(b"not a film at all" * 9)
    with pytest.raises(ConfigError, match=r"none of the 1 films .* torn\.mp4: it cannot be opened"):
        opened(str(tmp_path))
    film(tmp_path / "short.avi", frames=2)
    with pytest.raises(ConfigError, match=r"all 2 films .* are left out; "):
        opened(str(tmp_path)).within(SHAPE)


def test_pictures_that_cannot_be_decoded_later(tmp_path: Path) -> None:
    film(tmp_path / "a")
    film(tmp_path / "b")
    head = (tmp_path / "b" / "000.png").read_bytes()[:40]
    clips, fresh = (opened(str(tmp_path)).within(SHAPE) for _ in range(2))
    for path in (tmp_path / "b").iterdir():
        path.write_bytes(head)
    check(clips.batch(12, np.random.default_rng(0)))  # all of film a
    for path in (tmp_path / "a").iterdir():
        path.write_bytes(head)
    with pytest.raises(ConfigError, match="in a row cannot be decoded"):
        fresh.batch(2, np.random.default_rng(0))


def test_an_index_spares_opening_the_films_again(tmp_path: Path) -> None:
    path, index = film(tmp_path / "films" / "a.avi"), tmp_path / "run" / "index.json"
    first = Films(tmp_path / "films", index).found
    stamp = path.stat().st_mtime_ns
    path.write_bytes(b"no longer a film")
    os.utime(path, ns=(stamp, stamp))
    assert Films(tmp_path / "films", index).found == first
    index.write_bytes(b"lost")
    with pytest.raises(ConfigError, match="none of the 1 films"):
        Films(tmp_path / "films", index)


def test_a_long_film_is_read_in_parts(tmp_path: Path) -> None:
    path = tmp_path / "long.avi"
    code = cv2.VideoWriter_fourcc(*"MJPG")
    writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, code, 10.0, (16, 16))
    for number in range(1100):
        writer.write(np.full((16, 16, 3), number // 5, np.uint8))
    writer.release()
    clips = opened(str(path)).within(SHAPE)
    assert clips.count == 2
    starts = clips.batch(24, np.random.default_rng(0))[:, 0].mean((1, 2, 3))
    assert starts.min() < 90
    assert starts.max() > 130
