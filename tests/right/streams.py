"""What tests of streams share: a clock that is told the time, sources made on the spot, answers."""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterable
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from bicameral.right.stream.clock import Wall
from bicameral.right.stream.frame import Events, Frame
from bicameral.right.stream.gates import open_gate
from bicameral.right.stream.notices import Gap, Notice
from bicameral.right.stream.settings import WatchSettings
from bicameral.right.stream.watch import Watch, Wish
from bicameral.types import Answer, Request

SIZE = (96, 160)


class Told:
    """A clock that moves only when it is told to, or waited on; several threads may read it."""

    def __init__(self) -> None:
        self._at = 0.0
        self._over = threading.Event()
        self.waits: list[float] = []

    def now(self) -> float:
        return self._at

    def wait(self, seconds: float) -> bool:
        self.waits.append(seconds)
        self._at += max(0.0, seconds)
        return self._over.is_set()

    def stop(self) -> None:
        self._over.set()

    def move(self, seconds: float) -> None:
        self._at += seconds


class Listed:
    """A source of given frames and gaps."""

    label = "listed"

    def __init__(self, items: Iterable[Frame | Gap], kind: Any = "video", *, live: bool = False):
        self.items = items
        self.kind = kind
        self.live = live
        self.closed = threading.Event()

    def frames(self) -> Generator[Frame | Gap]:
        try:
            yield from self.items
        finally:
            self.closed.set()


class Reasoner:
    """Answers yes or no; `down` makes it fail. It counts the calls, and keeps the requests."""

    def __init__(self, text: str = "yes", down: Exception | None = None) -> None:
        self.text = text
        self.down = down
        self.requests: list[Request] = []

    async def __call__(self, request: Request) -> Answer:
        self.requests.append(request)
        if self.down is not None:
            raise self.down
        return Answer(model="reasoner", text=self.text)


@cache
def _noise(seed: int) -> Any:
    return np.random.default_rng(seed).integers(0, 6, (*SIZE, 3), dtype=np.uint8)


def scene(*, light: int = 90, box: tuple[int, int] | None = None, seed: int = 0) -> Any:
    """A grey picture with a little noise, and a white box at (x, y) if one is given."""
    picture = _noise(seed % 8) + np.uint8(light)
    if box is not None:
        x, y = box
        picture[y : y + 30, x : x + 20] = 230
    return picture


def movie(seconds: float, moving: Iterable[tuple[float, float]], fps: float = 10.0) -> list[Frame]:
    """Frames of a scene through which a box moves between the given times."""
    spans = list(moving)
    frames = []
    for index in range(round(seconds * fps)):
        at = index / fps
        box = next(((int(130 * (at - a) / (b - a)), 30) for a, b in spans if a <= at < b), None)
        frames.append(Frame(index=index, at=at, pixels=scene(box=box, seed=index)))
    return frames


def save_video(path: Path, frames: Iterable[Frame], fps: float = 10.0) -> Path:
    """An MJPEG AVI."""
    out = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), fps, SIZE[::-1])
    assert out.isOpened()
    for frame in frames:
        out.write(cv2.cvtColor(frame.pixels, cv2.COLOR_RGB2BGR))
    out.release()
    return path


def events(index: int, count: int, seed: int = 0) -> Frame:
    """A window of twenty milliseconds with `count` events."""
    rng = np.random.default_rng(seed + index)
    x, y = rng.integers(0, 64, count), rng.integers(0, 48, count)
    t = np.sort(rng.integers(index * 20_000, (index + 1) * 20_000, count))
    found = Events(x, y, t, rng.integers(0, 2, count), 64, 48)
    return Frame(index=index, at=index * 0.02, events=found)


def watching(source: Any, ask: Any, *, gate: Any = "difference", **options: Any) -> Watch:
    """A watch; settings and the watch's own options by keyword."""
    own = {k: options.pop(k) for k in ("clock", "observe", "pause", "realtime") if k in options}
    wish = options.pop("wish", Wish(ask="a box moves"))
    own.setdefault("clock", Wall())
    settings = WatchSettings(**{"fps": 1000.0, **options})
    made = open_gate(gate) if isinstance(gate, str) else gate
    return Watch(source, made, wish, ask, settings, **own)


async def told(watch: Watch) -> list[Notice]:
    """Everything a watch tells."""
    return [notice async for notice in watch.run()]


def of(notices: Iterable[Notice], kind: type) -> list[Any]:
    """Those of one kind."""
    return [notice for notice in notices if isinstance(notice, kind)]


def adds_up(stats: Any) -> None:
    """The two sums that Stats promises."""
    suppressed, dropped = sum(stats.suppressed.values()), sum(stats.dropped.values())
    assert stats.frames == stats.woken + suppressed + dropped
    assert stats.woken == stats.yes + stats.no + stats.unclear + stats.undescribed
