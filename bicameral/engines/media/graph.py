"""Writes a net as ONNX bytes: just what a feed-forward net of one input and one output takes.

The encoding is protobuf's (tag, then varint or length and bytes); the field numbers are those of
onnx.proto3. A library that can do this would be larger than every net that is written here.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_IR_VERSION, _OPSET = 8, 13
_FLOAT = 1  # TensorProto.DataType
_IS_FLOAT, _IS_INT, _IS_INTS, _IS_STRING = 1, 2, 7, 3  # AttributeProto.AttributeType


class Graph:
    """A net in the making: `node` and `weight` give the names of what they add."""

    def __init__(self, inputs: Sequence[int | str]) -> None:
        """`inputs` is the input's shape; a word stands for a size that may vary."""
        self.input = "input"
        self._shape = inputs
        self._nodes: list[bytes] = []
        self._weights: list[bytes] = []

    def weight(self, values: NDArray[np.float32]) -> str:
        """Add constant numbers."""
        name = f"w{len(self._weights)}"
        dims = b"".join(_number(1, side) for side in values.shape)
        raw = values.astype("<f4").tobytes()
        self._weights.append(dims + _number(2, _FLOAT) + _text(8, name) + _bytes(9, raw))
        return name

    def node(self, kind: str, *inputs: str, **attributes: Any) -> str:
        """Add an operator of ONNX opset 13 with one output."""
        output = f"n{len(self._nodes)}"
        given = b"".join(_text(1, each) for each in inputs)
        told = b"".join(_bytes(5, _attribute(*each)) for each in attributes.items())
        self._nodes.append(given + _text(2, output) + _text(4, kind) + told)
        return output

    def model(self, output: str, outputs: Sequence[int | str]) -> bytes:
        """The whole net, whose result is what `output` names, of shape `outputs`."""
        graph = (
            b"".join(_bytes(1, node) for node in self._nodes)
            + _text(2, "net")
            + b"".join(_bytes(5, weight) for weight in self._weights)
            + _bytes(11, _value(self.input, self._shape))
            + _bytes(12, _value(output, outputs))
        )
        opset = _number(2, _OPSET)
        return _number(1, _IR_VERSION) + _bytes(7, graph) + _bytes(8, opset)


def _value(name: str, shape: Sequence[int | str]) -> bytes:
    """A ValueInfoProto of floats."""
    dims = b"".join(
        _bytes(1, _text(2, side) if isinstance(side, str) else _number(1, side)) for side in shape
    )
    tensor = _number(1, _FLOAT) + _bytes(2, dims)
    return _text(1, name) + _bytes(2, _bytes(1, tensor))


def _attribute(name: str, value: Any) -> bytes:
    match value:
        case float():
            kind, told = _IS_FLOAT, _tag(2, 5) + struct.pack("<f", value)
        case int():
            kind, told = _IS_INT, _number(3, value)
        case str():
            kind, told = _IS_STRING, _text(4, value)
        case _:
            kind, told = _IS_INTS, b"".join(_number(8, each) for each in value)
    return _text(1, name) + told + _number(20, kind)


def _number(field: int, value: int) -> bytes:
    return _tag(field, 0) + _varint(value)


def _text(field: int, value: str) -> bytes:
    return _bytes(field, value.encode())


def _bytes(field: int, value: bytes) -> bytes:
    return _tag(field, 2) + _varint(len(value)) + value


def _tag(field: int, wire: int) -> bytes:
    return _varint(field << 3 | wire)


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes((*out, value))
