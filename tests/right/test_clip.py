"""A clip becomes a few pictures at their times; what is no clip is the caller's error."""

from __future__ import annotations

from pathlib import Path

import pytest

from bicameral.errors import RequestError
from bicameral.model import collect
from bicameral.right.clip import pictures
from bicameral.right.perceiving import Perceiving
from bicameral.right.senses import Senses
from bicameral.types import Image, Message, Modality, Request, Text, Video
from tests.right.finders import Finder, Reader, says

cv2 = pytest.importorskip("cv2", reason="needs pip install 'bicameral[see]'")
np = pytest.importorskip("numpy")


def clip(tmp_path: Path, *, frames: int = 40, side: int = 64, rate: int = 10) -> Video:
    """Frames that get brighter, so that a test can tell which moment it got."""
    path = tmp_path / "clip.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), rate, (side, side))
    for i in range(frames):
        writer.write(np.full((side, side, 3), i * 6, np.uint8))
    writer.release()
    return Video(data=path.read_bytes(), media_type="video/x-msvideo")


def brightness(image: Image) -> float:
    return float(cv2.imdecode(np.frombuffer(image.data, np.uint8), cv2.IMREAD_COLOR).mean())


async def test_moments_are_spread_evenly_and_are_those_of_their_times(tmp_path: Path) -> None:
    shots = await pictures(clip(tmp_path), 4)
    assert [at for at, _ in shots] == [0.5, 1.5, 2.5, 3.5]
    for at, image in shots:
        assert image.media_type == "image/jpeg"
        assert brightness(image) == pytest.approx(at * 10 * 6, abs=4)


async def test_a_short_clip_gives_each_frame_once(tmp_path: Path) -> None:
    assert len(await pictures(clip(tmp_path, frames=3), 8)) == 3


@pytest.mark.parametrize(
    "data", [b"", b"not a clip", b"RIFF\x00\x00\x00\x00AVI LIST" + b"\0" * 100]
)
async def test_what_is_no_clip_is_refused(data: bytes) -> None:
    with pytest.raises(RequestError) as caught:
        await pictures(Video(data=data))
    assert caught.value.param == "messages"


async def test_of_a_truncated_clip_comes_what_there_is(tmp_path: Path) -> None:
    whole = clip(tmp_path).data or b""
    shots = await pictures(Video(data=whole[: len(whole) // 2]))
    assert 0 < len(shots) <= 8


async def test_a_member_that_knows_pictures_gets_the_clip_as_pictures(tmp_path: Path) -> None:
    reader = Reader(Modality.IMAGE)
    model = Perceiving(reader, Senses([]))
    assert Modality.VIDEO in model.card.accepts
    request = Request(messages=(Message("user", (Text("What happens?"), clip(tmp_path))),))
    answer = await collect(model, request)
    assert answer.error is None
    assert len(reader.requests[0].media) == 8
    assert "Clip 1" in reader.read


async def test_a_text_only_member_reads_what_was_seen_and_when(tmp_path: Path) -> None:
    class Same(Finder):
        """Sees the same words in every picture."""

        def __init__(self) -> None:
            super().__init__()
            self._finds = _Always()

    reader, finder = Reader(), Same()
    request = Request(messages=(Message("user", (Text("What happens?"), clip(tmp_path))),))
    await collect(Perceiving(reader, Senses([finder])), request)
    assert reader.read.count("GATE 4") == 1, "the same words are said once, when first seen"
    assert "0.2 s: GATE 4" in reader.read
    assert finder.looked == 8


class _Always(dict):
    def get(self, key: object, default: object = None) -> object:
        return (says("GATE 4"),)


async def test_what_is_found_in_a_clip_as_a_whole_is_told_beside_its_pictures(
    tmp_path: Path,
) -> None:
    film = clip(tmp_path)
    finds = {film.data or b"": (says("motion as expected"),)}
    for kind in (Modality.TEXT, Modality.IMAGE):
        reader = Reader(*(() if kind is Modality.TEXT else (kind,)))
        sceptic = Finder("sceptic", finds, accepts=Modality.VIDEO)
        request = Request(messages=(Message("user", (Text("Is this reasonable?"), film)),))
        answer = await collect(Perceiving(reader, Senses([sceptic, Finder()])), request)
        assert answer.error is None
        assert "motion as expected" in reader.read
        assert sceptic.looked == 1


async def test_a_clip_that_is_not_for_a_perceiver_of_clips_is_told_of_without_it(
    tmp_path: Path,
) -> None:
    reader = Reader()
    short = Finder("sceptic", accepts=Modality.VIDEO, error=RequestError("too short"))
    request = Request(messages=(Message("user", (Text("What happens?"), clip(tmp_path))),))
    answer = await collect(Perceiving(reader, Senses([short, Finder()])), request)
    assert answer.error is None
    assert "Clip 1" in reader.read
