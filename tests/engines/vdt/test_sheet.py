"""Pictures of a training: the sheet of samples, and the curves."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

Image = pytest.importorskip("PIL.Image")

from bicameral.engines.vdt.learn.curves import draw  # noqa: E402
from bicameral.engines.vdt.learn.pieces import Row  # noqa: E402
from bicameral.engines.vdt.learn.sheet import Strip, drawn, write  # noqa: E402
from bicameral.errors import ConfigError  # noqa: E402

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
    middle = [33, 99, 165]  # of rows and columns of 66 pixels
    seen = picture[np.ix_(middle, [LEFT + 33 + 66 * n for n in range(4)])]
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


ROWS = [
    Row(step=10, seconds=1.0, loss=2.0, rate=1e-3, clips_per_s=40.0),
    Row(step=10, seconds=1.5, tasks={"predict": 1.0, "complete": 0.5}),
    Row(step=20, seconds=2.0, loss=1.0, rate=5e-4, clips_per_s=40.0),
]


@pytest.mark.parametrize("rows", [[], ROWS[:1], ROWS])
def test_curves(tmp_path: Path, rows: list[Row]) -> None:
    pytest.importorskip("matplotlib")
    draw(rows, tmp_path / "curves.png", "balls.npz, run")
    with Image.open(tmp_path / "curves.png") as picture:
        assert picture.width > 800


def test_curves_without_matplotlib_say_what_to_install(tmp_path: Path) -> None:
    if find_spec("matplotlib"):
        pytest.skip("matplotlib is installed")
    with pytest.raises(ConfigError, match=r"bicameral\[learn\]"):
        draw(ROWS, tmp_path / "curves.png", "")
