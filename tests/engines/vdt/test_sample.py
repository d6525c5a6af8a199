"""`bicameral vdt sample` writes the clip that was asked for, or one line about what is wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="needs `make torch`: see the Makefile")

import numpy as np  # noqa: E402
import typer  # noqa: E402
from PIL import Image as pictures  # noqa: E402
from typer.testing import CliRunner  # noqa: E402

from bicameral.errors import RequestError, WeightsError  # noqa: E402
from bicameral.vdt_cli.sample import sample  # noqa: E402
from tests.engines.vdt.serving import FRAMES, SIDE, noise, packed, tiny  # noqa: E402

torch.set_num_threads(1)
app = typer.Typer()
app.command()(sample)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny(tmp_path_factory.mktemp("net"))


def run(path: Path, *words: Any) -> str:
    """What it says; its error is raised."""
    usual = ["--model", str(path), "--device", "cpu", "--threads", "1", "--steps", "2"]
    result = CliRunner().invoke(app, [*map(str, words), *usual])
    if result.exception:
        raise result.exception
    return result.stdout


def frames(path: Path) -> Any:
    with np.load(path) as found:
        return found["frames"]


def test_a_clip_from_nothing_and_again_by_its_seed(path: Path, tmp_path: Path) -> None:
    one, two, three = (tmp_path / f"{name}.npz" for name in "abc")
    said = run(path, one, "--fps", 7)
    seed = said.split()[-1]
    assert said.split()[0] == f"{one},"
    run(path, two, "--seed", seed)
    run(path, three, "--seed", int(seed) + 1)
    assert frames(one).shape == (FRAMES, SIDE, SIDE, 3)
    assert (frames(one) == frames(two)).all()
    assert (frames(one) != frames(three)).any()
    assert np.load(one)["fps"] == 7


def test_clips_pictures_and_masks_go_in(path: Path, tmp_path: Path) -> None:
    sent, out = noise(2, SIDE, SIDE, 3), tmp_path / "out.npz"
    clip = tmp_path / "in.npz"
    clip.write_bytes(packed(frames=sent))
    run(path, out, "--given", clip, "--task", "backward", "--frames", 6)
    assert (frames(out)[4:] == sent).all()
    stills = [tmp_path / f"{i}.png" for i in range(2)]
    for still, frame in zip(stills, sent, strict=True):
        pictures.fromarray(frame).save(still)
    run(path, out, "--given", stills[0], "--given", stills[1], "--keep", "3,1", "--task", "frames")
    assert (frames(out)[[3, 1]] == sent).all()
    mask = np.zeros((2, SIDE, SIDE))
    mask[1, :, 5:] = 1
    np.save(tmp_path / "mask.npy", mask)
    run(path, out, "--given", clip, "--mask", tmp_path / "mask.npy")
    assert (frames(out)[mask == 0] == sent[mask == 0]).all()
    assert (frames(out)[mask == 1] != sent[mask == 1]).any()


def test_the_suffix_says_which_file_it_is(path: Path, tmp_path: Path) -> None:
    run(path, tmp_path / "a.GIF", "--width", 12)
    with pictures.open(tmp_path / "a.GIF") as image:
        assert (image.format, image.size) == ("GIF", (12, SIDE))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["clip.avi"], r"\.mp4, \.gif, \.npz, \.png"),
        (["a.npz", "--keep", "one"], "numbers of frames"),
        (["a.npz", "--task", "dream"], "dream"),
        (["a.npz", "--given", "missing.png"], "missing.png: cannot be read"),
        (["no/such/folder/a.npz"], "cannot be written"),
        (["a.npz", "--width", "9"], "multiple of 2"),
    ],
)
def test_what_is_wrong_is_said(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: Any, said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RequestError, match=said):
        run(path, *words)
    assert list(tmp_path.iterdir()) == []


def test_a_net_that_is_not_there_is_said_to_be_missing(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="vdt train"):
        run(tmp_path / "none.safetensors", tmp_path / "a.npz")
