"""A clip that is as the net knows it surprises nowhere, another where it differs; p-values hold."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="needs `make torch`: see the Makefile")

import numpy as np  # noqa: E402
import typer  # noqa: E402
from typer.testing import CliRunner  # noqa: E402

from bicameral.engines.vdt import calibration  # noqa: E402
from bicameral.engines.vdt.calibration import STRANGE, Calibration, judged  # noqa: E402
from bicameral.engines.vdt.load import load  # noqa: E402
from bicameral.engines.vdt.surprise import (  # noqa: E402
    WAY,
    Scale,
    Surprise,
    foreseen,
    surprise,
    windows,
)
from bicameral.errors import ConfigError, RequestError, WeightsError  # noqa: E402
from bicameral.vdt_cli import surprise as command  # noqa: E402
from tests.engines.vdt.nets import awake, clips, knowing  # noqa: E402
from tests.engines.vdt.nets import tiny as designed  # noqa: E402
from tests.engines.vdt.serving import FRAMES, SIDE, noise, packed, tiny  # noqa: E402

torch.set_num_threads(1)
DESIGNS = {
    "faithful": designed("faithful"),
    "velocity": designed("modern"),
    "clean": designed("modern", predicts="clean"),
}
app = typer.Typer()
app.command()(command.surprise)


# --- the score -----------------------------------------------------------------------------------


@pytest.mark.parametrize("design", DESIGNS.values(), ids=DESIGNS)
def test_who_knows_the_clip_is_surprised_by_another_where_it_differs(design: Any) -> None:
    truth = clips(design, 1)
    other = truth.clone()
    other[0, 3] = -other[0, 3]
    net = knowing(design, truth)
    calm, startled = (surprise(net, design, clip[0]) for clip in (truth, other))
    assert calm.errors[:2] == startled.errors[:2] == (None, None)
    assert calm.errors[2:] == pytest.approx((0, 0), abs=1e-8)
    assert startled.errors[2] == pytest.approx(0, abs=1e-8)
    assert startled.errors[3] == pytest.approx(float(((2 * truth[0, 3]) ** 2).mean()), rel=1e-3)
    assert startled.score > calm.score + 1
    assert (startled.frame, startled.windows) == (3, 1)
    assert calm.past == pytest.approx(0, abs=1e-8)


@pytest.mark.parametrize("design", DESIGNS.values(), ids=DESIGNS)
def test_equal_clips_surprise_equally_alone_or_among_others(design: Any) -> None:
    net, batch = awake(design), clips(design, 3)
    together = list(windows(net, design, batch))
    alone = [surprise(net, design, clip) for clip in batch]
    assert surprise(net, design, batch[1]) == alone[1]
    for one, other in zip(together, alone, strict=True):
        assert one.errors[2:] == pytest.approx(other.errors[2:], rel=1e-4)
        assert one.past == pytest.approx(other.past, rel=1e-4)
    assert alone[0].score != alone[1].score


def test_a_frame_is_guessed_from_those_before_it() -> None:
    design = DESIGNS["velocity"]
    net, one = awake(design), clips(design, 1)
    later, sooner = one.clone(), one.clone()
    later[:, 3] = -later[:, 3]
    sooner[:, 0] = -sooner[:, 0]
    base, after, before = (foreseen(net, design, c, 1.0, WAY)[0] for c in (one, later, sooner))
    assert np.isnan(base[:2]).all()
    assert base[2] == after[2]
    assert base[3] != after[3]
    assert (base[2:] != before[2:]).all()


def test_looks_count_as_much_as_motion() -> None:
    design = DESIGNS["clean"]
    truth = clips(design, 1)
    other = truth.clone()
    other[0, 1, :, :2, :2] *= -1  # a frame that is only given, so no motion is judged there
    found = surprise(knowing(design, truth), design, other[0])
    assert found.errors[2:] == pytest.approx((0, 0), abs=1e-8)
    assert found.frame == 1
    blind = Scale(motion=(-100.0, 1.0), looks=(0.0, 1.0))
    assert surprise(knowing(design, truth), design, other[0], scale=blind).frame != 1


def test_a_long_clip_is_judged_window_by_window() -> None:
    design = DESIGNS["clean"]
    still = clips(design, 1)[0, :1]
    clip = still.repeat(9, 1, 1, 1)
    clip[7] = -clip[7]
    net = knowing(design, still.repeat(4, 1, 1, 1)[None])
    found = surprise(net, design, clip)
    assert (found.frame, found.windows, len(found.errors)) == (7, 4, 9)
    assert [index for index, error in enumerate(found.errors) if error and error > 1e-6] == [7]
    assert None not in found.errors[2:]


def test_a_clip_too_short_is_refused() -> None:
    design = DESIGNS["clean"]
    clip = clips(design, 1)[0]
    with pytest.raises(RequestError, match=r"3 frames is too short.* 4 or more"):
        surprise(knowing(design, clip[None]), design, clip[:3])
    two = designed("modern", frames=2)
    with pytest.raises(RequestError, match="more than 2"):
        surprise(awake(two), two, clips(two, 1)[0])


# --- what is usual -------------------------------------------------------------------------------

USUAL = Calibration(
    weights="",
    data="balls:box",
    way=WAY,
    scale=Scale(),
    scores=tuple(np.linspace(-1, 1, 199).tolist()),
    pasts=tuple(np.linspace(1, 2, 199).tolist()),
)


def found(score: float, past: float = 1.5, windows: int = 1) -> Surprise:
    return Surprise(score=score, frame=3, errors=(None, 0.1), past=past, windows=windows)


def test_p_falls_as_the_score_rises_and_is_never_0() -> None:
    verdicts = [judged(found(score), USUAL) for score in np.linspace(-2, 2, 41)]
    shares = [verdict.p for verdict in verdicts]
    assert shares == sorted(shares, reverse=True)
    assert shares[0] == 1.0
    assert shares[-1] == pytest.approx(1 / 200)
    assert shares[20] == pytest.approx(0.5, abs=0.01)
    assert [v.z for v in verdicts] == sorted(v.z for v in verdicts)
    assert judged(found(0), USUAL).z == pytest.approx(0, abs=1e-9)


def test_of_the_clips_it_was_measured_by_a_share_of_p_comes_out_at_p() -> None:
    shares = np.array([judged(found(score), USUAL).p for score in USUAL.scores])
    for limit in (0.01, 0.05, 0.5):
        assert (shares <= limit).mean() <= limit + 1 / 199


def test_more_windows_have_more_chances() -> None:
    once, often = judged(found(0.9), USUAL), judged(found(0.9, windows=5), USUAL)
    assert often.p == pytest.approx(1 - (1 - once.p) ** 5)
    assert judged(found(-2, windows=5), USUAL).p == 1.0


def test_a_past_beyond_the_usual_is_strange() -> None:
    assert not judged(found(0, past=1.5), USUAL).strange
    odd = judged(found(0, past=2.1), USUAL)
    assert odd.strange
    assert odd.p_past <= STRANGE


def test_it_is_measured_again_alike_and_kept_beside_the_net(tmp_path: Path) -> None:
    path = tiny(tmp_path)
    loaded = load(path, torch.device("cpu"), half=False)
    told: list[int] = []
    with pytest.raises(ConfigError, match="--data"):
        calibration.calibrated(path, loaded, clips=20)
    usual = calibration.calibrated(path, loaded, clips=40, data="balls:box", told=told.append)
    assert usual == calibration.calibrated(path, loaded, clips=40, data="balls:box")
    assert told[-1] == len(usual.scores) == len(usual.pasts) == 40
    assert list(usual.scores) == sorted(usual.scores)
    assert calibration.read(path) is None
    kept = calibration.write(path, usual)
    assert kept == tmp_path / "model.surprise.json"
    assert calibration.read(path) == usual
    path.write_bytes(path.read_bytes() + b" ")
    with pytest.raises(WeightsError, match="other weights"):
        calibration.read(path)
    kept.write_text("{}")
    with pytest.raises(WeightsError, match="--calibrate"):
        calibration.read(path)


# --- the command ---------------------------------------------------------------------------------


def run(*words: Any) -> str:
    """What it says; its error is raised."""
    result = CliRunner().invoke(app, [*map(str, words), "--device", "cpu"])
    if result.exception:
        raise result.exception
    return result.stdout


def test_the_command_calibrates_and_judges(tmp_path: Path) -> None:
    path, clip = tiny(tmp_path), tmp_path / "clip.npz"
    clip.write_bytes(packed(frames=noise(FRAMES + 2, SIDE, SIDE, 3), fps=5.0))
    usual = ("--calibrate", "--data", "balls:box", "--clips", 20)
    with pytest.raises(ConfigError, match="vdt surprise --calibrate"):
        run(clip, "--model", path)
    assert run(*usual, "--model", path) == ""
    said = json.loads(run(clip, "--model", path, "--json"))
    assert said["of"] == 20
    assert 0 < said["p"] <= 1
    assert said["strange"] is (said["p_past"] <= STRANGE)
    assert said["seconds"] == said["surprise"]["frame"] / 5
    assert len(said["surprise"]["errors"]) == FRAMES + 2
    assert f"frame {said['surprise']['frame']}" in run(clip, "--model", path)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "name a clip"),
        (["missing.mp4"], r"missing.mp4: cannot be read"),
        (["--calibrate", "--precision", "half"], "half"),
    ],
)
def test_what_is_wrong_is_said(tmp_path: Path, words: list[str], said: str) -> None:
    with pytest.raises(RequestError, match=said):
        run(*words, "--model", tiny(tmp_path))
