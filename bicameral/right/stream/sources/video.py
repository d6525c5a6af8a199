"""Moving pictures by OpenCV and its FFmpeg: files as fast as they are read, cameras as they come.

A camera that falls silent or hangs up is opened again, with longer and longer waits between; what
was missed is told as a Gap. FFmpeg opens whatever a playlist names, so a file must begin like one
of the containers below, and never be a playlist.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bicameral.errors import ConfigError, RequestError
from bicameral.right.stream.clock import Clock
from bicameral.right.stream.frame import Frame
from bicameral.right.stream.notices import Gap, Kind

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MAX_PIXELS = 40_000_000
_PATIENCE_MS = 5_000
_FPS = 25.0
_HEADS = (
    b"\x1a\x45\xdf\xa3", b"FLV\x01", b"OggS", b"\x00\x00\x01\xba", b"\x00\x00\x01\xb3",
    b"\x30\x26\xb2\x75\x8e\x66\xcf\x11",
)  # fmt: skip
_WAITS = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0)


class VideoFile:
    """A recording; frames carry the times that the file gives them."""

    kind: Kind = "video"
    live = False

    def __init__(self, path: Path, label: str) -> None:
        with path.open("rb") as file:
            head = file.read(1024)
        if not _container(head):
            raise _unreadable(
                label, "it is no MP4, MOV, Matroska, WebM, AVI, MPEG, FLV or Ogg file"
            )
        self.label = label
        self._path = path

    def frames(self) -> Generator[Frame | Gap]:
        """Every frame of the file."""
        with _opened(str(self._path), self.label) as capture:
            if capture is None:
                raise _unreadable(self.label, "no video can be decoded from it")
            rate = _rate(capture)
            for index, pixels in enumerate(_pixels(capture)):
                yield Frame(index=index, at=_time(capture, index, rate), pixels=pixels)


class Camera:
    """A stream at an address; frames carry the time they arrived, from 0 at the first try."""

    kind: Kind = "video"
    live = True

    def __init__(self, address: str, clock: Clock, label: str) -> None:
        self.label = label
        self._address = address
        self._clock = clock

    def frames(self) -> Generator[Frame | Gap]:
        """Frames for ever; only a first try that finds nothing at all is an error."""
        began = self._clock.now()
        index, failed, lost = 0, 0, None
        while True:
            with _opened(self._address, self.label) as capture:
                for pixels in _pixels(capture) if capture is not None else ():
                    at = self._clock.now() - began
                    if lost is not None:
                        yield Gap(trouble="lost", start=lost, end=at)
                        lost = None
                    yield Frame(index=index, at=at, pixels=pixels)
                    index, failed = index + 1, 0
            if index == 0 and failed == 0:
                raise _unreadable(self.label, "nothing answers there, or no video that can be read")
            if lost is None:
                lost = self._clock.now() - began
                yield Gap(trouble="lost", start=lost)
            if self._clock.wait(_WAITS[min(failed, len(_WAITS) - 1)]):
                return
            failed += 1


@contextmanager
def _opened(name: str, label: str) -> Iterator[Any]:
    """A capture, its size checked before anything is decoded; None if there is nothing to read."""
    cv2 = _opencv()
    limits = [
        cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, _PATIENCE_MS,
        cv2.CAP_PROP_READ_TIMEOUT_MSEC, _PATIENCE_MS,
        cv2.CAP_PROP_N_THREADS, 1,
    ]  # fmt: skip
    capture = cv2.VideoCapture(name, cv2.CAP_FFMPEG, limits)
    try:
        width, height = (
            capture.get(p) for p in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT)
        )
        if width * height > MAX_PIXELS:
            raise _unreadable(label, f"its pictures are larger than {MAX_PIXELS} pixels")
        yield capture if capture.isOpened() else None
    finally:
        capture.release()


def _pixels(capture: Any) -> Iterator[NDArray[np.uint8]]:
    cv2 = _opencv()
    while True:
        good, picture = capture.read()
        if not good:
            return
        yield cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)


def _rate(capture: Any) -> float:
    rate = float(capture.get(_opencv().CAP_PROP_FPS))
    return rate if math.isfinite(rate) and 0.01 <= rate <= 1000 else _FPS


def _time(capture: Any, index: int, rate: float) -> float:
    """What the container says; some say nothing, so all their frames are at 0."""
    seconds = float(capture.get(_opencv().CAP_PROP_POS_MSEC)) / 1000
    told = math.isfinite(seconds) and (seconds > 0 or index == 0)
    return seconds if told else index / rate


def _container(head: bytes) -> bool:
    return (
        head.startswith(_HEADS)
        or head[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip")
        or (head[:4] == b"RIFF" and head[8:12] == b"AVI ")
        or (len(head) > 376 and head[0] == head[188] == head[376] == 0x47)
    )


def _opencv() -> Any:
    try:
        import cv2
    except ImportError as error:
        raise ConfigError(
            "video cannot be read: OpenCV is not installed; run `pip install 'bicameral[watch]'`"
        ) from error
    return cv2


def _unreadable(label: str, why: str) -> RequestError:
    return RequestError(f"source {label}: {why}", param="source", code="bad_source")
