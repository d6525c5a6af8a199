"""What an event looked or sounded like: the last seconds of a source, small and encoded."""

from __future__ import annotations

import io
import wave
from collections import deque
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from bicameral.errors import ConfigError
from bicameral.right.stream.frame import Events, Frame
from bicameral.right.stream.notices import Kind, Phase
from bicameral.right.stream.sources.sound import RATE

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

CLIP_FPS = 5.0
_CLIP_SIDE, _SHOT_SIDE = 480, 1280
_WINDOWS = 5
_LEAST_SIDE = 320


class Shot(Struct, frozen=True):
    """An encoded moment: a JPEG, or seconds of sound as WAV."""

    at: float
    data: bytes


class Sighting(Struct, frozen=True, kw_only=True):
    """An event as reasoning is asked about it: the moment that counts, and what led to it.

    `born` is when it was seen here, on the clock of the process.
    """

    id: str
    phase: Phase
    at: float
    score: float
    kind: Kind
    shot: Shot
    clip: tuple[Shot, ...]
    born: float


class Ring:
    """The last `seconds` of a source; of sound every sample, of pictures five a second."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._shots: deque[Shot] = deque()
        self._frames: deque[Frame] = deque()
        self._windows: deque[Frame] = deque(maxlen=_WINDOWS)

    def add(self, frame: Frame) -> None:
        """Take the next frame."""
        if frame.samples is not None:
            self._frames.append(frame)
            while self._frames[0].at < frame.at - self._seconds:
                self._frames.popleft()
            return
        if frame.events is not None:
            self._windows.append(frame)
        while self._shots and self._shots[0].at < frame.at - self._seconds:
            self._shots.popleft()
        if self._seconds and self._due(frame.at):
            self._shots.append(Shot(frame.at, jpeg(self.view(frame), _CLIP_SIDE)))

    def _due(self, at: float) -> bool:
        return not self._shots or at - self._shots[-1].at >= 0.95 / CLIP_FPS

    def view(self, frame: Frame) -> NDArray[np.uint8]:
        """`frame` as a picture; of events the last tenth of a second."""
        if frame.pixels is not None:
            return frame.pixels
        return drawn([f.events for f in self._windows if f.events is not None])

    def shot(self, frame: Frame, view: NDArray[np.uint8] | None) -> Shot:
        """What reasoning is shown: `view`, or the sound so far."""
        if view is not None:
            return Shot(frame.at, jpeg(view, _SHOT_SIDE))
        return Shot(self._frames[0].at if self._frames else frame.at, self._wav())

    def clip(self) -> tuple[Shot, ...]:
        """What is kept, oldest first."""
        return tuple(self._shots)

    def _wav(self) -> bytes:
        import numpy as np

        pieces = [f.samples for f in self._frames if f.samples is not None]
        return wav(np.concatenate(pieces) if pieces else np.zeros(0, np.float32))


def jpeg(pixels: NDArray[np.uint8], side: int) -> bytes:
    """A JPEG whose longer side has at most `side` pixels."""
    cv2 = _opencv()
    longest = max(pixels.shape[:2])
    if longest > side:
        size = [max(1, round(n * side / longest)) for n in pixels.shape[1::-1]]
        pixels = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
    options = [cv2.IMWRITE_JPEG_QUALITY, 85]
    good, data = cv2.imencode(".jpg", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), options)
    if not good:
        raise ValueError(f"a picture of {pixels.shape} cannot be encoded")
    return bytes(data)


def drawn(windows: Sequence[Events]) -> NDArray[np.uint8]:
    """Events as a picture: grey where nothing changed, white where brighter, black where darker."""
    import numpy as np

    width, height = windows[0].width, windows[0].height
    picture = np.full((height, width, 3), 128, np.uint8)
    for events in windows:
        picture[events.y, events.x] = np.where(events.p > 0, 255, 0)[:, None]
    times = max(1, _LEAST_SIDE // max(width, height))
    return picture.repeat(times, axis=0).repeat(times, axis=1)


def wav(samples: NDArray[np.float32]) -> bytes:
    """16-bit WAV of mono samples at 16 kHz."""
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(RATE)
        out.writeframes((samples * 32767).astype("<i2").tobytes())
    return file.getvalue()


def save(folder: Path, name: str, sighting: Sighting) -> Path:
    """Write the clip, or the one picture or sound there is; gives the file. May raise OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    if sighting.kind == "sound" or len(sighting.clip) < 2:
        path = folder / f"{name}{'.wav' if sighting.kind == 'sound' else '.jpg'}"
        path.write_bytes(sighting.shot.data)
        return path
    path = folder / f"{name}.avi"
    _write_clip(path, sighting.clip)
    return path


def _write_clip(path: Path, clip: Sequence[Shot]) -> None:
    import numpy as np

    cv2 = _opencv()
    pictures = [cv2.imdecode(np.frombuffer(shot.data, np.uint8), 1) for shot in clip]
    height, width = pictures[-1].shape[:2]
    out = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), CLIP_FPS, (width, height))
    try:
        # Pictures from before a change of size are left out.
        for picture in islice((p for p in pictures if p.shape[:2] == (height, width)), None):
            out.write(picture)
    finally:
        out.release()


def _opencv() -> Any:
    try:
        import cv2
    except ImportError as error:
        raise ConfigError(
            "evidence cannot be encoded: OpenCV is not installed; "
            "run `pip install 'bicameral[watch]'`"
        ) from error
    return cv2
