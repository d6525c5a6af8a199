"""Keeps a link going in an event loop, which then need not wait for it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from bicameral.callosum.link import Link
from bicameral.callosum.received import Received


class Drive:
    """Calls `got` for every message, which releases it, and `lost` once the peer is lost.

    `often` seconds pass at most between two turns: less than a beat.
    """

    def __init__(
        self,
        link: Link,
        got: Callable[[Received], None],
        lost: Callable[[str], None],
        *,
        often: float = 0.25,
    ) -> None:
        self._link = link
        self._got = got
        self._lost = lost
        self._often = often
        self._loop = asyncio.get_running_loop()
        self._fd = link.fileno()
        self._writing = False
        self._timer = self._loop.call_soon(self._beat)
        if self._fd >= 0:
            self._loop.add_reader(self._fd, self._turn)

    def stop(self) -> None:
        """Leave the link alone from now on."""
        self._timer.cancel()
        if self._fd >= 0:
            self._loop.remove_reader(self._fd)
            self._loop.remove_writer(self._fd)
        self._fd = -1

    def nudge(self) -> None:
        """After a send: what found no room goes when there is some."""
        writing = self._link.blocked
        if writing != self._writing and self._fd >= 0:
            self._writing = writing
            if writing:
                self._loop.add_writer(self._fd, self._turn)
            else:
                self._loop.remove_writer(self._fd)

    def _beat(self) -> None:
        self._timer = self._loop.call_later(self._often, self._beat)
        self._turn()

    def _turn(self) -> None:
        self._link.pump()
        while message := self._link.receive():
            self._got(message)
        if self._link.lost and self._fd >= 0:
            self.stop()
            self._lost(self._link.lost)
            return
        self.nudge()
