"""The look-out for a source that lies: time runs backwards or jumps, a picture stands still.

Every fault is told as a Gap, and the frames go on with a time that never runs backwards. A fault
that repeats is told once in ten seconds, with its count.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from msgspec.structs import replace

from bicameral.right.stream.frame import Frame
from bicameral.right.stream.luma import luma
from bicameral.right.stream.notices import Gap, Trouble
from bicameral.right.stream.settings import WatchSettings

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_AGAIN = 10.0
_STEP = 0.001
_DARK, _EVEN = 16.0, 4.0


def checked(items: Iterable[Frame | Gap], settings: WatchSettings) -> Iterator[Frame | Gap]:
    """`items` with their faults told before the frame that shows them."""
    times, looks, told = _Times(settings.stall), _Looks(settings), _Told()
    for item in items:
        if isinstance(item, Gap):
            yield from told.gap(replace(item, start=times.shifted(item.start)))
            continue
        frame, found = times.read(item)
        for gap in (*found, *looks.read(frame)):
            yield from told.gap(gap)
        yield from told.due(frame.at)
        yield frame
    for gap in looks.rest(times.last or 0.0):
        yield from told.gap(gap)
    yield from told.due(float("inf"))


class _Times:
    """Makes time run forwards: what a step back took away is added to all that follows."""

    def __init__(self, longest: float) -> None:
        self._longest = longest
        self._shift = 0.0
        self.last: float | None = None

    def shifted(self, at: float) -> float:
        return max(at + self._shift, 0.0)

    def read(self, frame: Frame) -> tuple[Frame, list[Gap]]:
        at = frame.at + self._shift
        found = []
        if self.last is not None and at < self.last:
            found.append(Gap(trouble="backwards", start=self.last, end=self.last))
            self._shift += self.last + _STEP - at
            at = self.last + _STEP
        elif self.last is not None and at - self.last > self._longest:
            found.append(Gap(trouble="missing", start=self.last, end=at))
        self.last = at
        return (frame if at == frame.at else replace(frame, at=at)), found


class _Looks:
    """Watches pictures for one that stands still, is black, or has another size."""

    def __init__(self, settings: WatchSettings) -> None:
        self._still = _Lasting("frozen", settings.frozen)
        self._black = _Lasting("black", settings.black)
        self._before: NDArray[np.float32] | None = None
        self._size: tuple[int, ...] | None = None

    def read(self, frame: Frame) -> Iterator[Gap]:
        if frame.pixels is None:
            return
        size, self._size = self._size, frame.pixels.shape[1::-1]
        if size is not None and size != self._size:
            detail = f"{size[0]} x {size[1]} to {self._size[0]} x {self._size[1]}"
            yield Gap(trouble="changed", start=frame.at, end=frame.at, detail=detail)
        now = luma(frame.pixels)
        before, self._before = self._before, now
        black = bool(now.mean() < _DARK and now.std() < _EVEN)
        still = before is not None and before.shape == now.shape and bool((before == now).all())
        yield from self._black.read(frame.at, black)
        yield from self._still.read(frame.at, still and not black)

    def rest(self, at: float) -> Iterator[Gap]:
        """What goes on to the end ends there."""
        yield from self._black.read(at, False)
        yield from self._still.read(at, False)


class _Lasting:
    """Tells of what lasts longer than `seconds`: when that is so, and when it is over."""

    def __init__(self, trouble: Trouble, seconds: float) -> None:
        self._trouble: Trouble = trouble
        self._seconds = seconds
        self._since: float | None = None
        self._said = False

    def read(self, at: float, bad: bool) -> Iterator[Gap]:
        if not bad:
            if self._said and self._since is not None:
                yield Gap(trouble=self._trouble, start=self._since, end=at)
            self._since, self._said = None, False
            return
        if self._since is None:
            self._since = at
        if not self._said and at - self._since >= self._seconds:
            self._said = True
            yield Gap(trouble=self._trouble, start=self._since)


class _Told:
    """Joins gaps of one kind that come faster than once in ten seconds."""

    def __init__(self) -> None:
        self._last: dict[tuple[Trouble, bool], float] = {}
        self._held: dict[tuple[Trouble, bool], Gap] = {}

    def gap(self, gap: Gap) -> Iterator[Gap]:
        # A gap that goes on and the same one closed are two tellings.
        key = gap.trouble, gap.end is None
        last = self._last.get(key)
        if last is None or gap.start - last >= _AGAIN:
            self._last[key] = gap.start
            yield self._joined(key, gap)
        else:
            self._held[key] = self._joined(key, gap)

    def due(self, at: float) -> Iterator[Gap]:
        """What was held back for ten seconds."""
        for key in [k for k in self._held if at - self._last[k] >= _AGAIN]:
            self._last[key] = at
            yield self._held.pop(key)

    def _joined(self, key: tuple[Trouble, bool], gap: Gap) -> Gap:
        held = self._held.pop(key, None)
        if held is None:
            return gap
        return replace(gap, start=held.start, count=held.count + gap.count)
