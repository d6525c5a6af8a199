"""The microphone, by PortAudio: a tenth of a second a frame, as it comes."""

from __future__ import annotations

import queue
from collections.abc import Generator
from typing import Any

from bicameral.errors import RequestError
from bicameral.right.stream.frame import Frame
from bicameral.right.stream.notices import Gap, Kind
from bicameral.right.stream.sources.sound import BLOCK, RATE, library, mono

_WAITING = 100
_SILENCE = 5.0


class Microphone:
    """The system's default input, or the device of that number or name."""

    kind: Kind = "sound"
    live = True

    def __init__(self, device: str | None, label: str) -> None:
        self.label = label
        self._device = int(device) if device and device.isdigit() else device
        self._sounddevice = library("sounddevice", "the microphone cannot be opened")

    def frames(self) -> Generator[Frame | Gap]:
        """Frames until the device goes away."""
        blocks: queue.Queue[Any] = queue.Queue(_WAITING)
        lost = 0

        def take(block: Any, *_: object) -> None:
            nonlocal lost
            try:
                blocks.put_nowait(block.copy())
            except queue.Full:
                lost += 1

        try:
            with self._sounddevice.InputStream(
                samplerate=RATE, channels=1, dtype="float32", blocksize=BLOCK,
                device=self._device, callback=take,
            ):  # fmt: skip
                index = 0
                while True:
                    try:
                        block = blocks.get(timeout=_SILENCE)
                    except queue.Empty:
                        yield Gap(trouble="lost", start=index * BLOCK / RATE)
                        return
                    index, lost = index + lost, 0
                    yield Frame(index=index, at=index * BLOCK / RATE, samples=mono(block))
                    index += 1
        except (self._sounddevice.PortAudioError, ValueError) as error:
            raise RequestError(
                f"source {self.label}: the microphone cannot be opened",
                param="source", code="bad_source",
            ) from error  # fmt: skip
