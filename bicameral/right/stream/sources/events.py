"""Recorded events of a neuromorphic camera: npz or csv to frames of twenty milliseconds.

An npz holds the arrays x, y, t (microseconds) and p, and the numbers width and height. A csv has
a first line that names its columns x, y, t and p, in any order; lines that begin with # may give
`# width: 640` and `# height: 480`, else the sensor is as large as the events need (at most 4096).
"""

from __future__ import annotations

import csv
import re
import zipfile
from collections.abc import Generator, Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bicameral.errors import RequestError
from bicameral.right.stream.frame import Events, Frame
from bicameral.right.stream.notices import Gap, Kind

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

WINDOW_US = 20_000
_MAX_BYTES = 2 * 2**30
_MAX_SIDE = 4096
_LINES = 65_536
_LONGEST_LINE = 4096
_COLUMNS = ("x", "y", "t", "p")


class EventFile:
    """A recording in one file; a window without events is a frame without events."""

    kind: Kind = "events"
    live = False

    def __init__(self, path: Path, label: str) -> None:
        self.label = label
        self._path = path

    def frames(self) -> Generator[Frame | Gap]:
        """Windows from the first event on; events that step back in time are told and left out."""
        packed = self._path.suffix.lower() == ".npz"
        size, blocks = self._npz() if packed else self._csv()
        window = _Windows(*size)
        for block in blocks:
            yield from window.add(self._checked(block, *size))
        yield from window.rest()

    def _npz(self) -> tuple[tuple[int, int], Iterator[NDArray[np.int64]]]:
        import numpy as np

        try:
            with zipfile.ZipFile(self._path) as packed:
                if sum(item.file_size for item in packed.infolist()) > _MAX_BYTES:
                    raise self._wrong(f"it unpacks to more than {_MAX_BYTES} bytes")
            with np.load(self._path, allow_pickle=False) as arrays:
                columns = [np.asarray(arrays[name]).ravel() for name in _COLUMNS]
                if any(not np.issubdtype(c.dtype, np.number) and c.dtype != bool for c in columns):
                    raise self._wrong("its arrays are no numbers")
                block = np.stack([c.astype(np.int64) for c in columns], axis=1)
                sides = [int(arrays[name]) for name in ("width", "height") if name in arrays]
        except (OSError, KeyError, TypeError, ValueError, zipfile.BadZipFile) as error:
            raise self._wrong("it must hold the arrays x, y, t and p, of one length") from error
        return self._size(sides, block), iter(np.array_split(block, len(block) // _LINES + 1))

    def _csv(self) -> tuple[tuple[int, int], Iterator[NDArray[np.int64]]]:
        with self._path.open(encoding="utf-8", newline="") as file:
            notes, order = self._head(file)
        sides = [notes[name] for name in ("width", "height") if name in notes]
        if len(sides) == 2:
            return self._size(sides, None), self._lines(order)
        most = (0, 0)
        for block in self._lines(order):
            if len(block):
                most = max(most[0], int(block[:, 0].max())), max(most[1], int(block[:, 1].max()))
        return self._size([most[0] + 1, most[1] + 1], None), self._lines(order)

    def _head(self, file: Any) -> tuple[dict[str, int], list[int]]:
        """The sizes in the comments, and where each column is."""
        notes: dict[str, int] = {}
        try:
            while (line := file.readline(_LONGEST_LINE)).startswith("#"):
                if found := re.search(r"(width|height)\s*[:=]\s*(\d{1,6})", line):
                    notes[found[1]] = int(found[2])
            names = [name.strip().lower() for name in line.split(",")]
            return notes, [names.index(name) for name in _COLUMNS]
        except ValueError as error:
            raise self._wrong("its first line must name the columns x,y,t,p") from error

    def _lines(self, order: list[int]) -> Iterator[NDArray[np.int64]]:
        import numpy as np

        with self._path.open(encoding="utf-8", newline="") as file:
            self._head(file)
            rows = csv.reader(iter(lambda: file.readline(_LONGEST_LINE), ""))
            try:
                while chunk := list(islice(rows, _LINES)):
                    cells = [[int(float(row[at])) for at in order] for row in chunk if row]
                    yield np.array(cells, np.int64).reshape(-1, 4)
            except (ValueError, IndexError, OverflowError, csv.Error) as error:
                raise self._wrong("a line of it is not four numbers") from error

    def _size(self, sides: list[int], block: NDArray[np.int64] | None) -> tuple[int, int]:
        if len(sides) != 2:
            some = block is not None and len(block)
            sides = [
                int(block[:, i].max()) + 1 if some and block is not None else 1 for i in (0, 1)
            ]
        width, height = sides
        if not (0 < width <= _MAX_SIDE and 0 < height <= _MAX_SIDE):
            raise self._wrong(f"a sensor has from 1 to {_MAX_SIDE} pixels a side")
        return width, height

    def _checked(self, block: NDArray[np.int64], width: int, height: int) -> NDArray[np.int64]:
        x, y, t, p = block.T
        outside = (x < 0) | (x >= width) | (y < 0) | (y >= height) | (abs(p) > 1) | (t < 0)
        if outside.any():
            raise self._wrong(f"an event lies outside of {width} x {height}, or is no event")
        block[:, 3] = p > 0  # some write the darker ones as -1
        return block

    def _wrong(self, why: str) -> RequestError:
        return RequestError(f"source {self.label}: {why}", param="source", code="bad_source")


class _Windows:
    """Cuts events into windows; time 0 is the first event."""

    def __init__(self, width: int, height: int) -> None:
        self._size = width, height
        self._waiting: list[NDArray[np.int64]] = []
        self._first: int | None = None
        self._last = 0
        self._index = 0

    def add(self, block: NDArray[np.int64]) -> Iterator[Frame | Gap]:
        """The windows that `block` completes."""
        import numpy as np

        if not len(block):
            return
        if self._first is None:
            self._first = self._last = int(block[0, 2])
        newest = np.maximum.accumulate(np.maximum(block[:, 2], self._last))
        late = block[:, 2] < newest
        if late.any():
            at = (int(block[late][0, 2]) - self._first) / 1e6
            count = int(late.sum())
            yield Gap(trouble="backwards", start=max(0.0, at), end=max(0.0, at), count=count)
        block = block[~late]
        self._last = int(newest[-1])
        self._waiting.append(block)
        yield from self._cut((self._last - self._first) // WINDOW_US)

    def rest(self) -> Iterator[Frame]:
        """The last window."""
        if self._first is not None:
            yield from self._cut((self._last - self._first) // WINDOW_US + 1)

    def _cut(self, until: int) -> Iterator[Frame]:
        import numpy as np

        if until <= self._index or self._first is None:
            return
        block = np.concatenate(self._waiting)
        ends = self._first + np.arange(self._index + 1, until + 1) * WINDOW_US
        pieces = np.split(block, np.searchsorted(block[:, 2], ends))
        self._waiting = [pieces[-1]]
        for piece in pieces[:-1]:
            x, y, t, p = piece.T
            events = Events(x, y, t, p, *self._size)
            yield Frame(index=self._index, at=self._index * WINDOW_US / 1e6, events=events)
            self._index += 1
