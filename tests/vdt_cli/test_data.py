"""Clips written by command."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from bicameral.errors import BicameralError
from bicameral.vdt_cli.app import app


def run(*words: str | Path) -> None:
    result = CliRunner().invoke(app, ["data", *map(str, words)])
    if isinstance(result.exception, BicameralError):
        raise result.exception
    assert result.exit_code == 0, result.output


def test_balls(tmp_path: Path) -> None:
    small = ("--count", "3", "--frames", "4", "--size", "8", "--seed", "5")
    run("balls", *small, "--out", tmp_path / "a.npz")
    run("balls", *small, "--out", tmp_path / "b.npy")
    run("balls", *small, "--world", "collision", "--out", tmp_path / "c.npy")
    clips = np.load(tmp_path / "a.npz")["clips"]
    assert clips.shape == (3, 4, 8, 8, 3)
    assert clips.dtype == np.uint8
    assert (clips == np.load(tmp_path / "b.npy")).all()
    assert (clips != np.load(tmp_path / "c.npy")).any()


def test_more_clips_begin_with_the_same(tmp_path: Path) -> None:
    small = ("balls", "--frames", "2", "--size", "8")
    run(*small, "--count", "2", "--out", tmp_path / "a.npy")
    run(*small, "--count", "4", "--out", tmp_path / "b.npy")
    assert (np.load(tmp_path / "a.npy") == np.load(tmp_path / "b.npy")[:2]).all()


def test_moving_mnist_and_its_unseen_digits(tmp_path: Path) -> None:
    images = np.zeros((1600, 28, 28), np.uint8)
    images[:, 8:20, 8:20] = np.arange(1600)[:, None, None] % 251 + 1
    np.savez(tmp_path / "digits.npz", x=images)
    words = ("moving-mnist", tmp_path / "digits.npz", "--count", "2", "--frames", "3")
    run(*words, "--out", tmp_path / "a.npy")
    run(*words, "--out", tmp_path / "b.npy", "--test")
    seen, unseen = np.load(tmp_path / "a.npy"), np.load(tmp_path / "b.npy")
    assert seen.shape == (2, 3, 64, 64, 1)
    assert (seen != unseen).any()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("balls", "--out", "a.mp4"), r"name a \.npz or a \.npy"),
        (("balls", "--world", "square", "--out", "a.npy"), "there are balls:box"),
        (("moving-mnist", "gone.npz", "--out", "a.npy"), "no digits at gone.npz"),
        (("balls", "--count", "1", "--out", "gone/a.npy"), "--out gone/a.npy"),
    ],
)
def test_what_is_wrong_is_said(words: tuple[str, ...], said: str) -> None:
    with pytest.raises(BicameralError, match=said):
        run(*words)
