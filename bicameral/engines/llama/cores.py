"""Lends this machine's cores to local models, so that they do not spin against one another.

The threads of one llama.cpp model wait for each other in a spinning barrier several hundred times a
token. If another model's threads hold the core that one of them needs, all the others burn theirs.
So models take turns: one loan is all the threads of one model, the line is first come first served.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections import Counter, deque
from pathlib import Path

_QUOTA = Path("/sys/fs/cgroup/cpu.max")
_QUOTA_1 = Path("/sys/fs/cgroup/cpu/cpu.cfs_quota_us")
_PERIOD_1 = Path("/sys/fs/cgroup/cpu/cpu.cfs_period_us")


def usable() -> int:
    """How many cores this process may keep busy: its affinity, cut to the container's quota."""
    affinity = getattr(os, "sched_getaffinity", None)
    allowed = len(affinity(0)) if affinity else os.cpu_count() or 1
    return max(1, min(allowed, _quota() or allowed))


def _quota() -> int | None:
    """Whole cores the cgroup (version 2, then 1) grants; None if it sets no limit."""
    try:
        quota, period = _QUOTA.read_text().split()
    except (OSError, ValueError):
        try:
            quota, period = _QUOTA_1.read_text(), _PERIOD_1.read_text()
        except OSError:
            return None
    try:
        return max(1, int(quota) // int(period)) if int(quota) > 0 else None
    except ValueError:  # "max": no limit
        return None


class Cores:
    """`count` cores to lend; safe across threads and event loops."""

    def __init__(self, count: int) -> None:
        self.count = count
        self._free = count
        self._loans: dict[object, int] = {}
        self._runs: Counter[object] = Counter()
        self._line: deque[_Turn] = deque()
        self._lock = threading.Lock()

    async def enter(self, model: object, threads: int) -> None:
        """Wait until `model` may run a request on `threads` cores; leave() gives them back.

        Requests of a model that is running join it, as they share its batches, unless another
        model waits before them.
        """
        turn = _Turn(model, min(threads, self.count))
        with self._lock:
            self._line.append(turn)
            self._admit()
        try:
            await turn.granted
        except asyncio.CancelledError:
            self._withdraw(turn)
            raise

    def leave(self, model: object) -> None:
        """One request of `model` has ended; the last one gives its cores back."""
        with self._lock:
            self._runs[model] -= 1
            if not self._runs[model]:
                del self._runs[model]
                self._free += self._loans.pop(model)
            self._admit()

    def _withdraw(self, turn: _Turn) -> None:
        with self._lock:
            waiting = turn in self._line
            if waiting:
                self._line.remove(turn)
                self._admit()
        if not waiting:
            self.leave(turn.model)

    def _admit(self) -> None:
        while self._line:
            turn = self._line[0]
            if turn.model not in self._loans:
                if turn.threads > self._free:
                    return
                self._loans[turn.model] = turn.threads
                self._free -= turn.threads
            self._runs[turn.model] += 1
            self._line.popleft().grant()


class _Turn:
    def __init__(self, model: object, threads: int) -> None:
        self.model = model
        self.threads = threads
        self._loop = asyncio.get_running_loop()
        self.granted: asyncio.Future[None] = self._loop.create_future()

    def grant(self) -> None:
        self._loop.call_soon_threadsafe(self._set)

    def _set(self) -> None:
        if not self.granted.done():
            self.granted.set_result(None)
