"""The scripted model's clips: real ones of each format, made in steps that can be counted."""

from __future__ import annotations

import io
from contextlib import aclosing

import numpy as np
import pytest
from PIL import Image

from bicameral.engines.scripted import Options, open
from bicameral.errors import Broken, Unsupported
from bicameral.types import Delta, Done, Modality, Progress, Request, Video, VideoSpec

FILM = Options(engine="scripted", emits=(Modality.VIDEO,), video_steps=3)


def asked(**spec) -> Request:
    return Request.ask("a ball", output=Modality.VIDEO, video=VideoSpec(**spec))


async def filmed(options: Options = FILM, **spec) -> list:
    async with open("film", options) as model:
        return [event async for event in model.run(asked(**spec))]


async def test_it_counts_its_steps_then_gives_the_clip_and_its_length() -> None:
    *steps, clip, done = await filmed()
    assert [step.part for step in steps] == [Progress(n, 3) for n in (1, 2, 3)]
    assert isinstance(clip.part, Video)
    assert isinstance(done, Done)
    assert (done.usage.media_ms, done.usage.prompt_tokens, done.usage.completion_tokens) == (
        1000,
        2,
        0,
    )


async def clip(kind: str) -> Video:
    (made,) = [
        event.part
        for event in await filmed(format=kind)
        if isinstance(event, Delta) and isinstance(event.part, Video)
    ]
    return made


async def test_every_format_holds_the_same_eight_frames() -> None:
    array = np.load(io.BytesIO((await clip("npz")).data))["frames"]
    assert (array.shape, array.dtype) == ((8, 16, 16, 3), np.uint8)
    with Image.open(io.BytesIO((await clip("gif")).data)) as gif:
        assert (gif.n_frames, gif.size) == (8, (16, 16))
    with Image.open(io.BytesIO((await clip("png")).data)) as strip:
        rows = np.asarray(strip.convert("RGB")).reshape(16, 8, 16, 3)
    assert (rows.transpose(1, 0, 2, 3) == array).all()


async def test_its_mp4_can_be_played(tmp_path) -> None:
    cv2 = pytest.importorskip("cv2")
    made = await clip("mp4")
    (tmp_path / "clip.mp4").write_bytes(made.data)
    film = cv2.VideoCapture(str(tmp_path / "clip.mp4"))
    frames = [frame for _ in range(8) for good, frame in [film.read()] if good]
    film.release()
    assert len(frames) == 8
    assert made.media_type == "video/mp4"


async def test_it_dies_and_is_cancelled_between_steps() -> None:
    with pytest.raises(Broken, match="died after 2 pieces"):
        await filmed(Options(engine="scripted", emits=(Modality.VIDEO,), die_after=2))
    async with open("film", FILM) as model:
        async with aclosing(model.run(asked())) as events:
            await anext(events)
        assert (model.runs, model.running, model.cancelled) == (1, 0, 1)


async def test_one_that_makes_no_clips_refuses() -> None:
    with pytest.raises(Unsupported, match="video output"):
        await filmed(Options(engine="scripted"))
