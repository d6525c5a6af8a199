"""Arrays that somebody sent, as .npy or .npz: measured before unpacking, never unpickled."""

from __future__ import annotations

import io
import math
import zipfile
import zlib
from tokenize import TokenError
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bicameral.engines.vdt.asking import refused

NPY, NPZ = b"\x93NUMPY", b"PK\x03\x04"
# What zipfile and numpy's reader of headers raise on what is cut, forged or locked.
_FOREIGN = (
    *(zipfile.BadZipFile, zlib.error, TokenError, NotImplementedError),
    *(EOFError, RuntimeError, SyntaxError, TypeError, ValueError),
)
_WIDEST = 8  # bytes of a number
_READERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


def read(data: bytes, *, key: str, most: int, param: str) -> dict[str, NDArray[Any]]:
    """The array of a .npy file as `key`; of a .npz file its arrays of numbers by name.

    A .npz file with one array gives it as `key`, whatever it is called. RequestError naming `param`
    if the file is neither, or holds more than `most` bytes.
    """
    try:
        if data[:6] == NPY:
            return {key: _array(data, len(data), param)}
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            return _members(archive, key, most, param)
    except _FOREIGN as error:
        raise refused(param, f"is no whole .npy or .npz file ({error})") from error


def _members(archive: zipfile.ZipFile, key: str, most: int, param: str) -> dict[str, NDArray[Any]]:
    infos = [info for info in archive.infolist() if info.filename.endswith(".npy")]
    if sum(info.file_size for info in infos) > most:
        raise refused(param, f"unpacks to more than {most} bytes: send less")
    found = {}
    for info in infos:
        with archive.open(info) as file:
            # What a header claims is not to be believed: the size of the member is.
            found[info.filename[:-4]] = _array(file.read(info.file_size), info.file_size, param)
    return found if key in found or len(found) != 1 else {key: next(iter(found.values()))}


def _array(data: bytes, size: int, param: str) -> NDArray[Any]:
    content = io.BytesIO(data)
    version = np.lib.format.read_magic(content)
    if version not in _READERS:
        raise refused(param, f"is of .npy format {version[0]}.{version[1]}: save it as 1.0")
    shape, fortran, dtype = _READERS[version](content)
    if dtype.kind not in "buif" or dtype.itemsize > _WIDEST:
        raise refused(param, f"holds {dtype} instead of numbers")
    body = data[content.tell() :]
    if len(body) != math.prod(shape) * dtype.itemsize:
        raise refused(param, f"has a shape of {shape}, which its {size} bytes are not")
    return np.frombuffer(body, dtype).reshape(shape, order="F" if fortran else "C")
