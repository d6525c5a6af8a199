"""A recording of events as an npz file: checked before it is unpacked, and cut into steps.

The file (media type application/x-events) holds flat whole-number arrays x, y (pixels), t
(microseconds, never going back) and p (1 brighter, 0 darker) of one length, and the single numbers
width and height. Whatever else it is, is a RequestError that says so.
"""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Iterator
from tokenize import TokenError
from typing import Any

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from bicameral.engines.spike.ops import Index
from bicameral.errors import RequestError

MOST_BYTES = 2**28
MOST_PIXELS = 2**24
# What zipfile and numpy's reader of headers raise on what is cut, forged or locked.
_FOREIGN = (
    *(zipfile.BadZipFile, zlib.error, TokenError),
    *(EOFError, RuntimeError, SyntaxError, TypeError, ValueError),
)
_ARRAYS = ("x", "y", "t", "p")
_NUMBERS = ("width", "height")
Whole = NDArray[np.integer[Any]]


class Recording(Struct, frozen=True, eq=False):
    """Events in order of time on a sensor of `width` by `height`; `t` starts at 0."""

    x: Whole
    y: Whole
    t: Whole
    p: Whole
    width: int
    height: int


class Grid(Struct, frozen=True):
    """The inputs of a net: one or two channels (darker, brighter) of `height` by `width`."""

    channels: int
    height: int
    width: int


def read(data: bytes, name: str) -> Recording:
    """The recording; RequestError if it is not one, or would unpack to more than MOST_BYTES."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            found = _members(archive, name)
    except _FOREIGN as error:
        raise _refusal(name, f"is not an npz file ({error})") from error
    width, height = (_number(name, key, found[key]) for key in _NUMBERS)
    if width * height > MOST_PIXELS:
        raise _refusal(name, f"has {width} x {height} pixels, at most {MOST_PIXELS} are taken")
    x, y, t, p = (_flat(name, key, found[key]) for key in _ARRAYS)
    if not x.size == y.size == t.size == p.size:
        raise _refusal(name, "has arrays x, y, t and p of different lengths")
    if x.size:
        _within(name, "x", x, width - 1)
        _within(name, "y", y, height - 1)
        _within(name, "p", p, 1)
        if (t[1:] < t[:-1]).any():
            raise _refusal(name, "has times that go back: sort its events by t")
        t = t - t[0]
    return Recording(x, y, t, p, width, height)


def _members(archive: zipfile.ZipFile, name: str) -> dict[str, NDArray[Any]]:
    """The arrays we ask for, each header read before its data."""
    wanted = {f"{key}.npy": key for key in (*_ARRAYS, *_NUMBERS)}
    infos = {info.filename: info for info in archive.infolist()}
    if missing := sorted(set(wanted) - set(infos)):
        raise _refusal(name, f"has no array '{wanted[missing[0]]}'")
    if sum(infos[file].file_size for file in wanted) > MOST_BYTES:
        raise _refusal(name, f"unpacks to more than {MOST_BYTES} bytes: send it in parts")
    return {key: _array(archive, infos[file], name, key) for file, key in wanted.items()}


def _array(archive: zipfile.ZipFile, info: zipfile.ZipInfo, name: str, key: str) -> NDArray[Any]:
    with archive.open(info) as file:
        # What a header claims is not to be believed: the size of the member is.
        content = io.BytesIO(file.read(info.file_size))
    version = np.lib.format.read_magic(content)
    if version == (1, 0):
        shape, _, dtype = np.lib.format.read_array_header_1_0(content)
    elif version == (2, 0):
        shape, _, dtype = np.lib.format.read_array_header_2_0(content)
    else:
        raise _refusal(name, f"has '{key}' in a format this numpy does not write")
    if dtype.kind not in "iub":
        raise _refusal(name, f"has '{key}' as {dtype} instead of whole numbers")
    body = content.read()
    if len(shape) > 1 or len(body) != int(np.prod(shape, dtype=object)) * dtype.itemsize:
        raise _refusal(name, f"has '{key}' in a shape of {shape}, which its data is not")
    return np.frombuffer(body, dtype=dtype).reshape(shape)


def _flat(name: str, key: str, values: NDArray[Any]) -> Whole:
    if values.ndim != 1:
        raise _refusal(name, f"has '{key}' as a single number instead of an array")
    # In 64 bits, so that no difference of two times wraps around.
    if values.dtype.kind == "u" and values.size and values.max() > 2**62:
        raise _refusal(name, f"has values of '{key}' beyond 2**62")
    return values.astype(np.int64)


def _number(name: str, key: str, values: NDArray[Any]) -> int:
    if values.size != 1 or not 1 <= int(values.reshape(-1)[0]) <= MOST_PIXELS:
        raise _refusal(name, f"has a {key} that is not one number of at least 1")
    return int(values.reshape(-1)[0])


def _within(name: str, key: str, values: Whole, most: int) -> None:
    if values.min() < 0 or values.max() > most:
        raise _refusal(name, f"has values of '{key}' outside 0 to {most}")


def _refusal(name: str, what: str) -> RequestError:
    return RequestError(f"{name} {what}", param="messages", code="invalid_events")


def indices(recording: Recording, grid: Grid) -> Index:
    """The input of each event: pixels are pooled onto the grid where the sensor is larger."""
    row = recording.y * grid.height // recording.height
    column = recording.x * grid.width // recording.width
    channel = recording.p if grid.channels == 2 else 0
    return ((channel * grid.height + row) * grid.width + column).astype(np.intp)


def steps(recording: Recording, grid: Grid, seconds: float) -> Iterator[Index]:
    """What fires in each step of so many seconds, up to the last event.

    Several events of one input in one step are one spike.
    """
    inputs = indices(recording, grid)
    when = (recording.t / (seconds * 1e6)).astype(np.int64)
    total = int(when[-1]) + 1 if when.size else 0
    for start in range(0, total, _AT_ONCE):
        bounds = np.searchsorted(when, np.arange(start, min(start + _AT_ONCE, total) + 1))
        for first, last in zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True):
            yield np.unique(inputs[first:last]) if last > first else inputs[:0]


_AT_ONCE = 4096
