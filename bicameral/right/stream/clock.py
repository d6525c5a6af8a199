"""Time as streams need it: a reading, and a wait that ends early when the watch is over."""

from __future__ import annotations

import threading
import time
from typing import Protocol


class Clock(Protocol):
    """What a source paces itself and measures ages by."""

    def now(self) -> float:
        """Seconds that never run backwards."""
        ...

    def wait(self, seconds: float) -> bool:
        """Wait; True, and at once, if the watch is over."""
        ...

    def stop(self) -> None:
        """The watch is over: let go of whoever waits, now and later."""
        ...


class Wall:
    """The machine's own clock; `stop` ends every wait."""

    def __init__(self) -> None:
        self._over = threading.Event()

    def now(self) -> float:
        """time.monotonic()."""
        return time.monotonic()

    def wait(self, seconds: float) -> bool:
        """Sleep, unless stopped."""
        return self._over.wait(max(0.0, seconds))

    def stop(self) -> None:
        """End every wait."""
        self._over.set()
