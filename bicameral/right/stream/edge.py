"""A bounded way from one thread to another: a stated policy, an age limit, and every drop counted.

`latest` hands over the newest and drops what waited before it; `drop_oldest` keeps the order and
makes room at the old end; `block` makes the giver wait, so nothing is lost.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Generic, Literal, TypeVar

from msgspec import Struct

Policy = Literal["latest", "drop_oldest", "block"]
T = TypeVar("T")
_AGES = 1024


class EdgeCount(Struct, frozen=True, kw_only=True):
    """What went over an edge: `put` = `out` + `dropped` + `expired` + `waiting`.

    Ages are seconds from put to get, of the last thousand.
    """

    policy: Policy
    capacity: int
    put: int
    out: int
    dropped: int
    expired: int
    waiting: int
    age_p50: float | None
    age_p95: float | None


class Over(Exception):
    """The edge is closed, or finished and empty."""


class Edge(Generic[T]):
    """A queue of at most `capacity`; what waited longer than `lifespan` seconds is not handed over.

    What `control` picks out, such as the word of a gap, is kept as long as there is anything else
    to drop, and never expires. One thread puts, one gets; either may end it.
    """

    def __init__(
        self,
        policy: Policy,
        capacity: int,
        *,
        lifespan: float | None = None,
        control: Callable[[T], bool] = lambda item: False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.policy: Policy = policy
        self.capacity = capacity
        self._lifespan = lifespan
        self._control = control
        self._clock = clock
        self._items: deque[tuple[float, T]] = deque()
        self._ages: deque[float] = deque(maxlen=_AGES)
        self._changed = threading.Condition()
        self._closed = self._finished = False
        self._put = self._out = self._dropped = self._expired = 0

    def put(self, item: T) -> bool:
        """Take `item`; False once the getter has gone. Waits for room if the policy is block."""
        with self._changed:
            while self.policy == "block" and len(self._items) >= self.capacity:
                if self._closed:
                    return False
                self._changed.wait()
            if self._closed:
                return False
            self._put += 1
            self._items.append((self._clock(), item))
            while len(self._items) > self.capacity:
                self._drop()
            self._changed.notify_all()
            return True

    def get(self, timeout: float | None = None) -> T | None:
        """The next item; None after `timeout` seconds without one. Raises Over at the end."""
        with self._changed:
            while True:
                if self._closed:
                    raise Over
                if (item := self._next()) is not None:
                    return item
                if self._finished:
                    raise Over
                if not self._changed.wait(timeout):
                    return None

    def finish(self) -> None:
        """No more will be put; what waits may still be got."""
        with self._changed:
            self._finished = True
            self._changed.notify_all()

    def close(self) -> None:
        """Nobody gets any more: what waits is dropped, and whoever waits is let go."""
        with self._changed:
            self._closed = True
            self._dropped += len(self._items)
            self._items.clear()
            self._changed.notify_all()

    def count(self) -> EdgeCount:
        """The counters as they stand."""
        with self._changed:
            ages = sorted(self._ages)
            return EdgeCount(
                policy=self.policy,
                capacity=self.capacity,
                put=self._put,
                out=self._out,
                dropped=self._dropped,
                expired=self._expired,
                waiting=len(self._items),
                age_p50=_share(ages, 0.50),
                age_p95=_share(ages, 0.95),
            )

    def _next(self) -> T | None:
        now = self._clock()
        while self._items:
            while self.policy == "latest" and self._data() > 1:
                self._drop()
            born, item = self._items.popleft()
            self._changed.notify_all()
            control = self._control(item)
            if self._lifespan is not None and now - born > self._lifespan and not control:
                self._expired += 1
                continue
            self._out += 1
            if not control:
                self._ages.append(now - born)
            return item
        return None

    def _data(self) -> int:
        return sum(not self._control(item) for _, item in self._items)

    def _drop(self) -> None:
        """The oldest that is no control, or the oldest."""
        data = (at for at, (_, item) in enumerate(self._items) if not self._control(item))
        del self._items[next(data, 0)]
        self._dropped += 1


def _share(ages: list[float], share: float) -> float | None:
    return ages[min(len(ages) - 1, int(share * len(ages)))] if ages else None
