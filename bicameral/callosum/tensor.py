"""A handle to an array that lies in a pool: what travels in messages instead of the array."""

from __future__ import annotations

from functools import cache
from types import ModuleType
from typing import TYPE_CHECKING

from msgspec import Struct

from bicameral.errors import BicameralError, ConfigError

if TYPE_CHECKING:
    from numpy import ndarray

# A closed set: objects, strings and records of a peer are never made out of raw memory.
SIZES = {
    "bool": 1,
    "int8": 1,
    "uint8": 1,
    "int16": 2,
    "uint16": 2,
    "float16": 2,
    "int32": 4,
    "uint32": 4,
    "float32": 4,
    "int64": 8,
    "uint64": 8,
    "float64": 8,
    "complex64": 8,
    "complex128": 16,
}
AXES = 32


class TensorError(BicameralError):
    """A handle, a shape or a dtype that no array can have."""


class Tensor(Struct, frozen=True, array_like=True):
    """`nbytes` bytes at `offset` of a pool, row by row, native byte order, on `chip`.

    `lease` is who keeps them from being used again: a number that its pool knows.
    """

    dtype: str
    shape: tuple[int, ...]
    pool: int
    offset: int
    nbytes: int
    lease: int
    chip: str = "cpu"


def measure(shape: tuple[int, ...], dtype: str) -> int:
    """Bytes of such an array; TensorError if there is none."""
    size = SIZES.get(dtype)
    if size is None:
        raise TensorError(
            f"an array of {dtype} cannot be handed over; use one of {', '.join(SIZES)}"
        )
    for axis in shape:
        size *= axis
        if axis < 0:
            raise TensorError(f"no array has the shape {shape}: an axis is negative")
    if len(shape) > AXES:
        raise TensorError(f"no array has {len(shape)} axes; at most {AXES} go")
    return size


def check(tensor: Tensor, size: int) -> None:
    """Raise TensorError unless the handle lies within a segment of `size` bytes."""
    fits = tensor.offset >= 0 and tensor.offset + tensor.nbytes <= size
    if not fits or tensor.nbytes != measure(tensor.shape, tensor.dtype):
        raise TensorError(f"a handle of {tensor.nbytes} bytes at {tensor.offset} is out of place")


def lay(buffer: memoryview, tensor: Tensor) -> ndarray:
    """The array of a checked handle in the segment `buffer`, without a copy.

    It may be written to only where the buffer may. DLPack consumers take it as it is.
    """
    return numpy().ndarray(tensor.shape, tensor.dtype, buffer, tensor.offset)  # type: ignore[no-any-return]


@cache
def numpy() -> ModuleType:
    """numpy, or a ConfigError that says how to get it."""
    try:
        import numpy
    except ImportError as error:
        raise ConfigError("arrays need numpy: run `pip install 'bicameral[see]'`") from error
    return numpy
