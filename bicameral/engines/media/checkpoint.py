"""Reads the tensors of a PyTorch checkpoint without PyTorch, and without running what is in it.

The format is that of `torch.save` before 1.6: pickles that describe, then the bytes of each
storage. A pickle may call anything it names; here it may name a dictionary, two kinds of storage
and the function that makes a tensor, which is replaced by ours.
"""

from __future__ import annotations

import io
import pickle
from collections import OrderedDict
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from bicameral.engines.media.optional import library
from bicameral.errors import WeightsError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Tensors = Mapping[str, NDArray[np.float32]]

_MAGIC = 0x1950A86A20F9469CFC6C
_PROTOCOL = 1001
_DTYPES = {"FloatStorage": "<f4", "LongStorage": "<i8"}
_BROKEN = (pickle.UnpicklingError, EOFError, ValueError, TypeError, LookupError, AttributeError)


class _Storage(Struct, frozen=True):
    key: str
    dtype: str
    length: int


class _Tensor(Struct, frozen=True):
    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def read(data: bytes) -> Tensors:
    """The tensors by name, as 32-bit floats or 64-bit integers; WeightsError if it is no such."""
    file = io.BytesIO(data)
    try:
        if _Reader(file).load() != _MAGIC or _Reader(file).load() != _PROTOCOL:
            raise ValueError("it does not begin like one")
        _Reader(file).load()  # sizes of C types, which we know
        described = _Reader(file).load()
        keys = _Reader(file).load()
        storages = _storages(file, keys, described)
        return {name: _array(tensor, storages) for name, tensor in described.items()}
    except _BROKEN as error:
        raise WeightsError(f"this is no PyTorch checkpoint that can be read: {error}") from error


class _Reader(pickle.Unpickler):
    """Makes plain descriptions; whatever else a pickle asks for is refused."""

    def find_class(self, module: str, name: str) -> Any:
        match module, name:
            case "collections", "OrderedDict":
                return OrderedDict
            case "torch._utils", "_rebuild_tensor_v2":
                return _described
            case "torch", "FloatStorage" | "LongStorage":
                return name
        raise pickle.UnpicklingError(f"it asks for {module}.{name}")

    def persistent_load(self, pid: Any) -> _Storage:
        _, kind, key, _, length, view = pid
        if view is not None:
            raise pickle.UnpicklingError("it has views of storages")
        return _Storage(key, _DTYPES[kind], length)


def _described(
    storage: _Storage, offset: int, shape: tuple[int, ...], strides: tuple[int, ...], *_: Any
) -> _Tensor:
    return _Tensor(storage, offset, shape, strides)


def _storages(
    file: io.BytesIO, keys: list[str], described: Mapping[str, _Tensor]
) -> dict[str, Any]:
    """Each storage's numbers; a storage is its length and then its bytes."""
    numpy = library("numpy")
    kinds = {tensor.storage.key: tensor.storage for tensor in described.values()}
    found = {}
    for key in keys:
        if int.from_bytes(file.read(8), "little") != kinds[key].length:
            raise ValueError("the length of a storage is wrong")
        dtype = numpy.dtype(kinds[key].dtype)
        found[key] = numpy.frombuffer(file.read(kinds[key].length * dtype.itemsize), dtype)
    return found


def _array(tensor: _Tensor, storages: Mapping[str, Any]) -> Any:
    """The tensor, copied in the usual order; it must lie within its storage."""
    numpy = library("numpy")
    numbers = storages[tensor.storage.key]
    steps = list(zip(tensor.strides, tensor.shape, strict=True))
    last = tensor.offset + sum(step * (side - 1) for step, side in steps)
    if min(tensor.offset, *tensor.strides, *tensor.shape, 0) < 0 or last >= len(numbers):
        raise ValueError("a tensor lies outside its storage")
    strides = [step * numbers.itemsize for step in tensor.strides]
    view = numpy.lib.stride_tricks.as_strided(numbers[tensor.offset :], tensor.shape, strides)
    return numpy.ascontiguousarray(view).reshape(tensor.shape)
