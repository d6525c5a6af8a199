"""Scoring by one command."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

torch = pytest.importorskip("torch")

from bicameral.engines.vdt import checkpoint, masks  # noqa: E402
from bicameral.engines.vdt.design import Design  # noqa: E402
from bicameral.engines.vdt.network import build  # noqa: E402
from bicameral.errors import BicameralError  # noqa: E402
from bicameral.vdt_cli.app import app  # noqa: E402

FEW = ("--clips", "2", "--samples", "2", "--steps", "2", "--device", "cpu")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    design = Design(kind="modern", frames=4, height=16, width=16, patch=8, depth=1, dim=24, heads=2)
    torch.manual_seed(0)
    weights = dict(build(design).named_parameters())
    checkpoint.save(
        tmp_path / "net.safetensors", design, weights, data="balls:box", steps=3, guidance=2.0
    )
    return tmp_path / "net.safetensors"


def run(*words: str) -> Result:
    result = CliRunner().invoke(app, ["eval", *words])
    if isinstance(result.exception, BicameralError):
        raise result.exception
    return result


def test_all_tasks_in_numbers_a_file_and_a_picture(model: Path) -> None:
    out = model.parent / "scores"
    result = run(str(model), *FEW, "--out", str(out))
    assert result.exit_code == 0, result.output
    assert "loses to a floor" in result.stdout
    assert (out / "sheet.png").read_bytes().startswith(b"\x89PNG")
    told = json.loads((out / "scores.json").read_bytes())
    assert told["trained"]["steps"] == 3
    assert told["wanted"]["data"] == "balls:box"
    assert (told["way"]["samples"], told["way"]["guidance"]) == (2, 2.0)  # as the weights say
    scores = told["scores"]
    found = {each["task"] for each in scores["results"]}
    assert found | {"unconditional"} == set(masks.TASKS)
    assert {each["kept_error"] for each in scores["results"]} == {0.0}
    assert all(task in result.stdout for task in masks.TASKS)


def test_some_tasks_of_other_clips(model: Path) -> None:
    clips = np.random.default_rng(0).integers(0, 256, (3, 4, 16, 16, 3), np.uint8)
    np.savez(model.parent / "films.npz", clips=clips)
    out = model.parent / "scores"
    words = ("--data", str(model.parent / "films.npz"), "--tasks", "predict,image")
    words += ("--guidance", "1")
    result = run(str(model), *words, *FEW, "--out", str(out))
    told = json.loads((out / "scores.json").read_bytes())
    assert told["way"]["guidance"] == 1.0
    scores = told["scores"]
    assert [each["task"] for each in scores["results"]] == ["predict", "image"]
    assert scores["unled"] is None
    assert scores["rolled"] is None  # these films end where a clip does
    assert scores["results"][0]["motion"] == {}
    assert "how balls move" not in result.stdout


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--tasks", "predict,guess"), "there is no guess; there are predict"),
        (("--data", "balls:cube"), "there are no balls:cube"),
        (("--data", "nowhere"), "there is no nowhere"),
        (("--precision", "float8"), "--precision float8"),
    ],
)
def test_what_is_wrong_is_said(model: Path, words: tuple[str, ...], said: str) -> None:
    with pytest.raises(BicameralError, match=said):
        run(str(model), *FEW, *words)


def test_a_net_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(BicameralError, match="is not there"):
        run(str(tmp_path / "gone.safetensors"), *FEW)


def test_a_net_of_films_says_that_it_wants_clips(model: Path) -> None:
    design, weights, about = checkpoint.read(model)
    checkpoint.save(model, design, weights, **{**about, "data": "9 films of 5 frames"})
    with pytest.raises(BicameralError, match="say which clips to score it on by --data"):
        run(str(model), *FEW)
