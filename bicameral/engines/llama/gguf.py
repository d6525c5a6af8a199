"""Reads the header of a GGUF weights file: pure Python, bounded, the weights are not touched.

The layout is github.com/ggml-org/ggml/blob/master/docs/gguf.md, versions 2 and 3.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from msgspec import Struct

from bicameral.errors import WeightsError

_SCALARS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q"}
_SCALARS |= {11: "<q", 12: "<d"}
_STRING, _ARRAY = 8, 9
_CONTROL = 3  # the kind of vocabulary entry that only a chat template may write
_VOCABULARY = ("tokenizer.ggml.tokens", "tokenizer.ggml.token_type")


class Header(Struct, frozen=True, kw_only=True):
    """What a weights file says of itself.

    `context` is the length in tokens it was trained for, None if unsaid; `template` the Jinja chat
    template, '' for a base model; `control` the texts of its control tokens.
    """

    name: str
    architecture: str
    context: int | None
    template: str
    control: tuple[str, ...]


def header(path: Path) -> Header:
    """The header of the file at `path`; WeightsError if it is no GGUF file or a damaged one."""
    return _header(metadata(path), path)


def metadata(path: Path) -> Mapping[str, Any]:
    """All that the header says, by its keys; raises WeightsError as `header` does."""
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return _fields(_Reader(data))
    except (struct.error, UnicodeDecodeError, OverflowError) as error:
        raise WeightsError(f"{path}: the GGUF header is damaged or cut off") from error
    except ValueError as error:
        raise WeightsError(f"{path}: is not a GGUF file ({error})") from error
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read ({error.strerror})") from error


class _Reader:
    """A cursor over the file; reading past its end is a struct.error."""

    def __init__(self, data: mmap.mmap) -> None:
        self._data = data
        self._at = 0

    def number(self, layout: str) -> Any:
        (value,) = struct.unpack_from(layout, self._data, self._at)
        self._at += struct.calcsize(layout)
        return value

    def bytes(self) -> bytes:
        size = self.number("<Q")
        if size > len(self._data) - self._at:
            raise struct.error("a string runs past the end of the file")
        self._at += size
        return self._data[self._at - size : self._at]

    def value(self, kind: int) -> Any:
        if kind == _STRING:
            return self.bytes().decode()
        if kind != _ARRAY:
            return self.number(_layout(kind))
        inner, size = self.number("<I"), self.number("<Q")
        if inner == _STRING:
            return [self.bytes() for _ in range(size)]
        return self._row(_layout(inner), size)

    def _row(self, layout: str, size: int) -> tuple[Any, ...]:
        whole = f"<{size}{layout[1]}"
        if struct.calcsize(whole) > len(self._data) - self._at:
            raise struct.error("an array runs past the end of the file")
        row = struct.unpack_from(whole, self._data, self._at)
        self._at += struct.calcsize(whole)
        return row


def _layout(kind: int) -> str:
    if kind not in _SCALARS:
        raise struct.error(f"there is no value type {kind}")
    return _SCALARS[kind]


def _fields(reader: _Reader) -> Mapping[str, Any]:
    if reader.number("<4s") != b"GGUF":
        raise ValueError("it does not begin with GGUF")
    version = reader.number("<I")
    if version not in (2, 3):
        raise ValueError(f"version {version}; versions 2 and 3 are known")
    reader.number("<Q")  # the number of tensors
    fields: dict[str, Any] = {}
    for _ in range(reader.number("<Q")):
        key = reader.bytes().decode()
        fields[key] = reader.value(reader.number("<I"))
    return fields


def _header(fields: Mapping[str, Any], path: Path) -> Header:
    architecture = str(fields.get("general.architecture", ""))
    context = fields.get(f"{architecture}.context_length")
    tokens, kinds = (fields.get(key, ()) for key in _VOCABULARY)
    control = (t.decode() for t, kind in zip(tokens, kinds, strict=False) if kind == _CONTROL)
    return Header(
        name=str(fields.get("general.name", path.stem)),
        architecture=architecture,
        context=context if isinstance(context, int) else None,
        template=str(fields.get("tokenizer.chat_template", "")),
        control=tuple(control),
    )
