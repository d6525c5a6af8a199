"""A clip as a few pictures of it: what perceivers and members that know pictures can take."""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from bicameral.errors import ConfigError, RequestError
from bicameral.types import Image, Video

SHOTS = 8
_MAX_PIXELS = 40_000_000
_SIDE = 1280  # pixels of the longer side: enough to read from, little to send


async def pictures(clip: Video, count: int = SHOTS) -> list[tuple[float, Image]]:
    """(seconds, JPEG) of at most `count` moments, evenly spread; RequestError if it is no clip."""
    return await asyncio.to_thread(_pictures, clip.data or b"", count)


def _pictures(data: bytes, count: int) -> list[tuple[float, Image]]:
    try:
        import cv2
    except ImportError as error:
        raise ConfigError("clips need OpenCV: run `pip install 'bicameral[see]'`") from error
    with _as_file(data) as path:
        capture = cv2.VideoCapture(path, cv2.CAP_FFMPEG)
        try:
            return list(_shots(cv2, capture, count))
        finally:
            capture.release()


def _shots(cv2: Any, capture: Any, count: int) -> Iterator[tuple[float, Image]]:
    frames = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
    rate = capture.get(cv2.CAP_PROP_FPS)
    pixels = capture.get(cv2.CAP_PROP_FRAME_WIDTH) * capture.get(cv2.CAP_PROP_FRAME_HEIGHT)
    if not capture.isOpened() or frames <= 0 or not 0 < rate < 1000:
        raise _bad("it cannot be decoded; send MP4, WebM or AVI")
    if pixels > _MAX_PIXELS:
        raise _bad(f"a picture of it has more than {_MAX_PIXELS} pixels")
    given = 0
    for index in sorted({int((i + 0.5) * frames / count) for i in range(count)}):
        capture.set(cv2.CAP_PROP_POS_FRAMES, index)
        good, frame = capture.read()
        if good:
            given += 1
            yield index / rate, _jpeg(cv2, frame)
    if not given:
        raise _bad("no picture of it can be decoded")


def _jpeg(cv2: Any, frame: Any) -> Image:
    longer = max(frame.shape[:2])
    if longer > _SIDE:
        frame = cv2.resize(frame, None, fx=_SIDE / longer, fy=_SIDE / longer)
    _, encoded = cv2.imencode(".jpg", frame, [cv2.IMWRITE_JPEG_QUALITY, 90])
    return Image(data=encoded.tobytes(), media_type="image/jpeg")


@contextmanager
def _as_file(data: bytes) -> Iterator[str]:
    """FFmpeg opens files by name only; one without a name elsewhere leaves nothing behind."""
    if not hasattr(os, "memfd_create"):
        with tempfile.NamedTemporaryFile(suffix=".clip") as file:
            file.write(data)
            file.flush()
            yield file.name
        return
    descriptor = os.memfd_create("clip")
    try:
        with os.fdopen(os.dup(descriptor), "wb") as file:
            file.write(data)
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)


def _bad(what: str) -> RequestError:
    return RequestError(f"messages: the clip: {what}", param="messages", code="invalid_video")
