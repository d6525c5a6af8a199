"""A mask as it is uploaded: checked before a job is made of it. 1: generate, 0: keep.

No array library is needed: a server whose members are all elsewhere has none.
"""

from __future__ import annotations

import ast
import io
import math
import sys
import zipfile
import zlib
from array import array
from typing import Any, NoReturn

from msgspec import Struct

from bicameral.engines.media.header import measure
from bicameral.errors import RequestError

MOST = 8 * 2**20
_PARAM = "video_noise_mask"
_UNPACKED = 4 * MOST
_HEAD = 4096
# numpy's type strings, and what the array module calls them.
_TYPES = {
    "|b1": "B", "|u1": "B", "|i1": "b", "<u2": "H", "<i2": "h", "<u4": "I", "<i4": "i",
    "<u8": "Q", "<i8": "q", "<f4": "f", "<f8": "d",
}  # fmt: skip


class _Head(Struct, frozen=True):
    """What a .npy file says of its array, and where that begins."""

    kind: str
    shape: tuple[int, ...]
    at: int


def check(data: bytes, *, frames: int | None, max_pixels: int) -> None:
    """RequestError if it is no mask of `frames` frames, is too large, or generates nothing.

    A picture counts for every frame; whether it is black is for the model to say, which decodes it.
    """
    if len(data) > MOST:
        _wrong(f"has {len(data)} bytes, at most {MOST} are taken")
    if (head := measure(data)) is not None:
        if head.width * head.height > max_pixels:
            _wrong(f"is a picture of more than {max_pixels} pixels")
        return
    if data[:4] == b"PK\x03\x04":
        data = _unpacked(data)
    _check_array(data, frames)


def _check_array(data: bytes, frames: int | None) -> None:
    head = _head(data)
    if len(head.shape) not in (2, 3) or not all(head.shape):
        _wrong(f"has the shape {head.shape}; write (frames, height, width), or (height, width)")
    if frames is not None and len(head.shape) == 3 and head.shape[0] != frames:
        _wrong(f"is for {head.shape[0]} frames, num_frames is {frames}")
    values = array(_TYPES[head.kind])
    if len(data) - head.at != math.prod(head.shape) * values.itemsize:
        _wrong("is cut, or longer than its header says")
    values.frombytes(data[head.at :])
    if sys.byteorder == "big":
        values.byteswap()
    _check_values(values)


def _check_values(values: array[Any]) -> None:
    low, high = min(values), max(values)
    if not (low >= 0 and high <= 1 and sum(values) >= 0):  # the sum tells whether one is NaN
        _wrong("has values outside 0 (keep) to 1 (generate)")
    if high == 0:
        _wrong("is all zero: nothing is to be generated; set what is to be made anew to 1")


def _head(data: bytes) -> _Head:
    """The header of the .npy format, versions 1 to 3."""
    if data[:6] != b"\x93NUMPY" or len(data) < 12:
        _wrong("is no .npy or .npz file, nor a picture")
    wide = 2 if data[6] == 1 else 4
    length = int.from_bytes(data[8 : 8 + wide], "little")
    at = 8 + wide + length
    if length > _HEAD or at > len(data):
        _wrong("has no whole .npy header")
    try:
        said = ast.literal_eval(data[8 + wide : at].decode().strip())
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        _wrong("has a .npy header that cannot be read")
    return _read(said, at)


def _read(said: object, at: int) -> _Head:
    if not isinstance(said, dict) or not {"descr", "shape", "fortran_order"} <= set(said):
        _wrong("has a .npy header that cannot be read")
    kind, shape = said["descr"], said["shape"]
    if not isinstance(kind, str) or kind not in _TYPES:
        _wrong("must be of bool, uint8, another integer, float32 or float64")
    if not isinstance(shape, tuple) or not all(type(n) is int and n >= 0 for n in shape):
        _wrong("has a .npy header that cannot be read")
    return _Head(kind, shape, at)


def _unpacked(data: bytes) -> bytes:
    """The array in a .npz file: the only one, or that called mask."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            entries = archive.infolist()
            if len(entries) > 1:
                entries = [entry for entry in entries if entry.filename == "mask.npy"]
            (entry,) = entries
            if entry.file_size > _UNPACKED:
                _wrong(f"unpacks to more than {_UNPACKED} bytes")
            with archive.open(entry) as file:
                return file.read(_UNPACKED + 1)
    except (zipfile.BadZipFile, ValueError, zlib.error, EOFError, NotImplementedError) as error:
        raise RequestError(
            f"{_PARAM}: is no whole .npz file of one array, or of one called mask",
            param=_PARAM,
            code="invalid_mask",
        ) from error
    except RuntimeError:  # zipfile's word for an encrypted entry
        _wrong("is an encrypted .npz file")


def _wrong(message: str) -> NoReturn:
    raise RequestError(f"{_PARAM}: {message}", param=_PARAM, code="invalid_mask")
