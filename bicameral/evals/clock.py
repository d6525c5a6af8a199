"""An event loop on which sleeping takes no time, so that recorded seconds can be lived through.

Whatever runs on it - minds in minds, members asked together, one cancelled for another - takes
exactly the time it would have taken, on the loop's own clock.
"""

from __future__ import annotations

import asyncio
import selectors


class Virtual(asyncio.SelectorEventLoop):
    """`time()` starts at 0 and passes only when everything on the loop waits for it."""

    def __init__(self) -> None:
        self._skipping = _Skipping()
        super().__init__(self._skipping)

    def time(self) -> float:
        """Virtual seconds."""
        return self._skipping.now

    def restart(self) -> None:
        """Back to 0, so that sums of small times stay exact; nothing may be waiting."""
        self._skipping.now = 0.0


class _Skipping(selectors.DefaultSelector):
    """Jumps over the time it is told to wait."""

    now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout:
            self.now += timeout
        return super().select(0 if timeout else timeout)
