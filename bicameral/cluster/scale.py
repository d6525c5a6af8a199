"""How many replicas a member should have: a pure function of the work and the time."""

from __future__ import annotations

from bicameral.cluster.settings import Bounds


class Scale:
    """Moves a count between bounds; it follows the work up soon and down late, one at a time."""

    def __init__(self, bounds: Bounds, most: int) -> None:
        self._bounds = bounds
        self._most = most
        self._since = 0.0
        self._way = 0

    def wanted(self, now: float, busy: int, count: int) -> int:
        """How many there should be of `count`, with `busy` requests running or waiting.

        `now` is seconds of a clock that never goes back. Too much to do: more than four fifths of
        what `count` may run at once. Too little: one fewer would be at most half busy.
        """
        bounds = self._bounds
        if not bounds.min <= count <= bounds.max:
            self._way = 0
            return max(bounds.min, min(count, bounds.max))
        way = self._pull(busy, count)
        if way != self._way:
            self._way, self._since = way, now
        if not way or now - self._since < (bounds.up_seconds if way > 0 else bounds.down_seconds):
            return count
        self._since = now
        return count + way

    def _pull(self, busy: int, count: int) -> int:
        if busy > 0.8 * count * self._most:
            return int(count < self._bounds.max)
        if count > self._bounds.min and busy <= 0.5 * (count - 1) * self._most:
            return -1
        return 0
