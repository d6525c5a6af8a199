"""A net as a perceiver: what a language model is told of a clip, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="needs `make torch`: see the Makefile")

from msgspec.structs import replace  # noqa: E402

from bicameral.engines.vdt import calibration  # noqa: E402
from bicameral.engines.vdt.calibration import Calibration, Verdict  # noqa: E402
from bicameral.engines.vdt.load import load  # noqa: E402
from bicameral.engines.vdt.sceptic import worded  # noqa: E402
from bicameral.engines.vdt.surprise import Surprise  # noqa: E402
from bicameral.errors import ConfigError, RequestError, Unsupported, WeightsError  # noqa: E402
from bicameral.model import Model  # noqa: E402
from bicameral.right.senses import Found  # noqa: E402
from bicameral.right.told import told  # noqa: E402
from bicameral.types import (  # noqa: E402
    Message,
    Modality,
    Part,
    Percept,
    Request,
    Text,
    Video,
)
from tests.engines.vdt.serving import FRAMES, SIDE, clip, made, noise, served, tiny  # noqa: E402

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny(tmp_path_factory.mktemp("net"))


def usual(path: Path, **other: Any) -> Calibration:
    loaded = load(path, torch.device("cpu"), half=False)
    found = calibration.calibrated(path, loaded, clips=20, data="balls:box")
    return replace(found, **other)


def asking(*parts: Part) -> Request:
    return Request(messages=(Message("user", parts),), output=Modality.PERCEPT)


async def percepts(model: Model, *parts: Part) -> list[Percept]:
    return list((await made(model, asking(*parts))).percepts)


@pytest.mark.parametrize(
    ("scores", "pasts", "text", "start", "end"),
    [
        (1e6, 1e6, "motion as expected (p 1.00)", 0.0, (FRAMES + 3) / 5),
        (-1e6, 1e6, "motion that does not follow from what went before (p 0.0", None, None),
        (-1e6, -1e6, "looks unlike what the net was trained on", 0.0, (FRAMES + 3) / 5),
    ],
)
async def test_a_clip_is_judged_by_what_is_usual(
    path: Path, scores: float, pasts: float, text: str, start: float | None, end: float | None
) -> None:
    calibration.write(path, usual(path, scores=(scores,) * 99, pasts=(pasts,) * 99))
    async with served(path, sceptic=True) as model:
        still, *others = await percepts(
            model, Text(""), clip(noise(FRAMES + 3, SIDE + 4, SIDE, 3)), clip(noise(4, 8, 8, 3))
        )
    assert [each.source for each in others] == [1]
    assert still.kind == "event"
    assert still.text.startswith(text)
    if start is None:
        assert still.start is not None
        assert still.end == pytest.approx(still.start + 1 / 5)
        assert still.confidence == pytest.approx(1 - (1 - 0.99**3))
    else:
        assert (still.start, still.end, still.confidence) == (start, pytest.approx(end), None)


async def test_what_it_took_in_is_counted(path: Path) -> None:
    calibration.write(path, usual(path))
    async with served(path, sceptic=True) as model:
        answer = await made(model, asking(clip(noise(6, 8, 8, 3)), clip(noise(4, 8, 8, 3))))
    assert answer.usage.media_ms == 2000  # at 5 frames a second


async def test_its_card_says_that_it_perceives_clips_and_makes_none(path: Path) -> None:
    calibration.write(path, usual(path))
    async with served(path, sceptic=True) as model:
        assert model.card.accepts == {Modality.VIDEO}
        assert model.card.emits == {Modality.PERCEPT}
        with pytest.raises(Unsupported, match="video output"):
            await made(model, replace(asking(clip(noise(4, 8, 8, 3))), output=Modality.VIDEO))
    async with served(path) as model:
        assert model.card.emits == {Modality.VIDEO}


@pytest.mark.parametrize(
    ("part", "said"),
    [
        (Text("look"), "no clip to look at"),
        (Video(url="https://example.com/a.mp4"), "is a URL"),
        (Video(data=b"nonsense"), "is no clip"),
        (clip(noise(3, 8, 8, 3)), "3 frames is too short"),
    ],
)
async def test_what_it_cannot_judge_is_refused(path: Path, part: Part, said: str) -> None:
    calibration.write(path, usual(path))
    async with served(path, sceptic=True) as model:
        with pytest.raises(RequestError, match=said):
            await percepts(model, part)


async def test_it_wants_to_know_what_is_usual(tmp_path: Path) -> None:
    path = tiny(tmp_path)
    with pytest.raises(ConfigError, match=r"sceptic.* --calibrate --model"):
        async with served(path, sceptic=True):
            pass
    calibration.beside(path).write_text(json.dumps({"scores": []}))
    with pytest.raises(WeightsError, match="--calibrate"):
        async with served(path, sceptic=True):
            pass


def test_a_language_model_reads_it_with_its_time() -> None:
    found = Surprise(score=3.0, frame=7, errors=(None, 0.5), past=0.1, windows=1)
    verdict = Verdict(surprise=found, p=0.003, z=4.0, p_past=0.5, strange=False)
    text = told("Clip 1", Found(percepts=(worded(verdict, 10.0, 12),)), limit=500)
    assert "> 0.7 s: event: motion that does not follow from what went before (p 0.003)" in text
