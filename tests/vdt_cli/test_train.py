"""Training by one command."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

torch = pytest.importorskip("torch")

from bicameral.engines.vdt import checkpoint  # noqa: E402
from bicameral.engines.vdt.design import Autoencoder  # noqa: E402
from bicameral.engines.vdt.learn.clips import Found  # noqa: E402
from bicameral.engines.vdt.learn.order import Wishes, planned  # noqa: E402
from bicameral.errors import BicameralError, ConfigError  # noqa: E402
from bicameral.vdt_cli.app import app  # noqa: E402

TINY = ("--set", "depth=2", "--set", "dim=32", "--set", "heads=2", "--set", "batch=2")
CAMERA = Found(what="films", clips=9, frames=300, height=720, width=1280, channels=3, natural=True)
CLIPS = Found(what="clips", clips=9, frames=20, height=64, width=64, channels=1)


@pytest.fixture
def films(tmp_path: Path) -> Path:
    clips = np.random.default_rng(0).integers(0, 256, (3, 5, 8, 8), np.uint8)
    np.savez(tmp_path / "films.npz", clips=clips)
    return tmp_path / "films.npz"


def run(films: Path, *words: str) -> Result:
    out = films.parent / "run"
    result = CliRunner().invoke(
        app, ["train", str(films), "--device", "cpu", "--out", str(out), *TINY, *words]
    )
    if isinstance(result.exception, BicameralError):
        raise result.exception
    return result


def test_one_command_and_again(films: Path) -> None:
    words = ("--config", "modern-nano", "--frames", "4", "--every", "0", "--half")
    result = run(films, *words, "--set", "steps=2")
    assert result.exit_code == 0, result.output
    path = films.parent / "run" / "model.safetensors"
    assert str(path) in result.stdout
    design, tensors, about = checkpoint.read(path)
    assert (design.frames, design.height, design.channels, design.dim) == (4, 8, 1, 32)
    assert about["steps"] == 2
    assert "3 films of 5 frames" in str(about["data"])
    assert next(iter(tensors.values())).dtype == torch.bfloat16
    result = run(films, *words, "--set", "steps=3")
    assert "going on after step 2 of 3" in result.stderr
    assert checkpoint.read(path)[2]["steps"] == 3
    held = json.loads((films.parent / "run" / "order.json").read_bytes())
    assert held["order"]["schedule"]["steps"] == 3
    assert held["versions"]["torch"] == torch.__version__


def test_minutes_end_it_and_say_so(films: Path) -> None:
    result = run(films, "--config", "modern-nano", "--every", "0", "--minutes", "0")
    assert result.exit_code == 0
    assert "the same command goes on" in result.stderr
    assert checkpoint.read(films.parent / "run" / "model.safetensors")[2]["steps"] == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--set", "rat=1"), "did you mean rate"),
        (("--set", "rate=fast"), r"schedule: Expected `float`.*rate"),
        (("--set", "rate"), "write KEY=VALUE"),
        (("--set", "codec.hidden=3"), "give --codec"),
        (("--set", "schedule.depth=3"), "no setting 'schedule.depth'"),
        (("--set", "motor.depth=3"), "there are design.KEY"),
        (("--config", "modern-xl"), "there is no design 'modern-xl'"),
        (("--config", "gone.toml"), "gone.toml cannot be read"),
        (("--size", "7"), "do not divide"),
        (("--size", "wide"), "--size wide"),
        (("--frames", "9"), "films have 5 frames and a clip spans 9"),
        (("--codec", "3"), "codec: "),
    ],
)
def test_what_is_wrong_is_said(films: Path, words: tuple[str, ...], said: str) -> None:
    with pytest.raises(BicameralError, match=said):
        run(films, *words)


def test_sizes_follow_the_data() -> None:
    design, schedule, _ = planned(Wishes(), CAMERA)
    assert (design.frames, design.height, design.width, design.channels) == (16, 64, 64, 3)
    assert (design.patch, design.dim, schedule.precision) == (8, 384, "float32")
    design, schedule, _ = planned(Wishes(config="faithful-nano"), CLIPS, "bfloat16")
    assert (design.kind, design.frames, design.channels) == ("faithful", 20, 1)
    assert schedule.precision == "bfloat16"
    design, _, _ = planned(Wishes(size=(32, 64), stride=30), CAMERA)
    assert (design.frames, design.height, design.width, design.patch) == (10, 32, 64, 8)


def test_a_codec_by_option() -> None:
    wishes = Wishes(factor=4, sets=("codec.hidden=16", "codec.steps=7", "seed=3"))
    design, schedule, codec = planned(wishes, CAMERA)
    assert design.codec == Autoencoder(factor=4, hidden=16)
    assert (design.patch, design.cell) == (2, 8)
    assert (codec.steps, codec.seed, schedule.seed) == (7, 3, 3)


def test_a_file_of_settings(tmp_path: Path) -> None:
    path = tmp_path / "net.toml"
    path.write_text(
        'name = "modern-nano"\n[design]\nattention = "factorized"\n'
        '[schedule]\nrate = 3e-4\ntasks = "predict"\n[codec]\nfactor = 2\n',
        encoding="utf-8",
    )
    design, schedule, _ = planned(Wishes(config=str(path), sets=("rate=1e-3",)), CLIPS)
    assert (design.attention, design.kind) == ("factorized", "modern")
    assert design.codec == Autoencoder(factor=2)
    assert (schedule.rate, schedule.tasks) == (1e-3, "predict")
    path.write_text('name = "modern-nano"\n[scedule]\n', encoding="utf-8")
    with pytest.raises(ConfigError, match=r"no \[scedule\]"):
        planned(Wishes(config=str(path)), CLIPS)
