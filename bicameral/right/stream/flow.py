"""What lies between a source and its gate: its own pace, a buffer, a limit of frames a second."""

from __future__ import annotations

from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

from bicameral.right.stream.clock import Clock
from bicameral.right.stream.edge import Edge, Over
from bicameral.right.stream.frame import Frame
from bicameral.right.stream.notices import Gap

Item = Frame | Gap


def paced(items: Generator[Item], clock: Clock) -> Generator[Item]:
    """A recording at the speed it was made: each frame waits for its time."""
    began = clock.now()
    with closing(items):
        for item in items:
            if isinstance(item, Frame) and clock.wait(began + item.at - clock.now()):
                return
            yield item


def buffered(
    items: Generator[Item], edge: Edge[Item], stall: float | None, clock: Clock
) -> Generator[Item]:
    """`items`, read on a thread of their own and handed over by `edge`.

    After `stall` seconds without one there is a Gap, and another when it is over; None: never.
    """
    reader = ThreadPoolExecutor(1, thread_name_prefix="watch-source")
    reading = reader.submit(_read, items, edge)
    began = since = clock.now()
    silent: float | None = None
    last = 0.0
    try:
        while True:
            item = edge.get(stall)
            if item is None:
                if silent is None:
                    silent = last
                    yield Gap(trouble="stalled", start=silent)
                continue
            since = clock.now()
            last = item.at if isinstance(item, Frame) else since - began
            if silent is not None:
                yield Gap(trouble="stalled", start=silent, end=last)
                silent = None
            yield item
    except Over:
        reading.result()  # raises what ended the source, if it was not its end
    finally:
        edge.close()
        reader.shutdown(wait=False)


def _read(items: Generator[Item], edge: Edge[Item]) -> None:
    """Put every item until there is no more, or nobody gets them."""
    try:
        with closing(items):
            for item in items:
                if not edge.put(item):
                    return
    finally:
        edge.finish()


class Rate:
    """Lets at most `fps` frames of a second's time through; `dropped` counts the others."""

    def __init__(self, fps: float) -> None:
        self._step = 1 / fps
        self._due: float | None = None
        self.dropped = 0

    def passes(self, frame: Frame) -> bool:
        """Whether this frame is to be looked at."""
        # A hair early is in time: 30 frames a second are never exactly a third apart.
        if self._due is None or frame.at >= self._due - self._step * 0.05:
            behind = self._due is None or frame.at - self._due > self._step
            self._due = (frame.at if behind or self._due is None else self._due) + self._step
            return True
        self.dropped += 1
        return False
