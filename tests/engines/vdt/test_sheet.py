"""The sheet of samples: truth, what was given, what was made, one under another."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

Image = pytest.importorskip("PIL.Image")

from bicameral.engines.vdt.learn.sheet import Strip, drawn, write  # noqa: E402

LEFT = 108


def strip(frames: int = 4, channels: int = 3) -> Strip:
    """True is 200, made is 90; the last half of the frames is made."""
    shape = (frames, 8, 8, channels)
    mask = np.zeros(shape[:3], np.float32)
    mask[frames // 2 :] = 1
    return Strip("predict", np.full(shape, 200, np.uint8), mask, np.full(shape, 90, np.uint8))


@pytest.mark.parametrize("channels", [1, 3])
def test_rows(channels: int) -> None:
    picture = np.asarray(drawn([strip(channels=channels)]))
    middle = [17, 51, 85]  # of rows and columns of 34 pixels
    seen = picture[np.ix_(middle, [LEFT + 17 + 34 * n for n in range(4)])]
    assert (seen[0] == 200).all()
    assert (seen[1, :2] == 200).all()
    assert (seen[1, 2:] == (170, 170, 190)).all()
    assert (seen[2] == 90).all()


def test_names_are_written() -> None:
    picture = np.asarray(drawn([strip(), strip()]))
    blocks = picture[: len(picture) // 2, :LEFT], picture[len(picture) // 2 :, :LEFT]
    assert (blocks[0] == blocks[1]).all()
    assert (blocks[0] < 100).any()


def test_long_clips_are_shown_in_part() -> None:
    assert drawn([strip(frames=90)]).width == drawn([strip(frames=20)]).width


def test_a_file(tmp_path: Path) -> None:
    write(tmp_path / "a.png", [strip()])
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]
    with Image.open(tmp_path / "a.png") as picture:
        assert picture.format == "PNG"
