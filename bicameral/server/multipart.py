"""multipart/form-data (RFC 7578) of a body that is here as a whole, under caps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from msgspec import Struct

from bicameral.errors import RequestError

PARTS = 64
HEADERS = 8  # in a part
HEADER = 4096  # bytes
FIELD = 64 * 1024  # bytes of a part that is no file


class Field(Struct, frozen=True):
    """One part; a `filename`, which may be empty, makes it a file."""

    name: str
    data: bytes
    filename: str | None = None

    @property
    def text(self) -> str:
        """The value of a field that is no file; RequestError if it is no text, or a long one."""
        if len(self.data) > FIELD:
            raise RequestError(f"{self.name}: is longer than {FIELD} bytes", param=self.name)
        try:
            text = self.data.decode()
        except UnicodeDecodeError as error:
            raise RequestError(f"{self.name}: is not UTF-8 text", param=self.name) from error
        if "\0" in text:
            raise RequestError(f"{self.name}: holds a NUL character; remove it", param=self.name)
        return text


def fields(body: bytes, content_type: bytes) -> list[Field]:
    """Every part in order; RequestError if the body is not what `content_type` says."""
    from python_multipart import multipart as parser
    from python_multipart.exceptions import FormParserError

    kind, options = parser.parse_options_header(content_type)
    if kind != b"multipart/form-data" or not options.get(b"boundary"):
        raise _wrong("send multipart/form-data, with its boundary in the Content-Type")
    found = _Fields(parser.parse_options_header)
    try:
        parser.MultipartParser(
            options[b"boundary"],
            found.callbacks(),
            max_header_count=HEADERS,
            max_header_size=HEADER,
        ).write(body)
    except FormParserError as error:
        raise _wrong(f"the body is no valid multipart/form-data: {error}") from error
    if not found.ended:
        raise _wrong("the body ends before its last part does")
    return found.fields


class _Fields:
    """Gathers what the parser comes across; it works on one body, so slices of it are kept."""

    def __init__(self, options: Callable[[bytes], tuple[bytes, dict[bytes, bytes]]]) -> None:
        self.fields: list[Field] = []
        self.ended = False
        self._options = options
        self._header, self._value = bytearray(), bytearray()
        self._disposition = b""
        self._data: list[memoryview] = []

    def callbacks(self) -> Any:
        return {
            "on_part_begin": self._begin,
            "on_header_field": self._on_header,
            "on_header_value": self._on_value,
            "on_header_end": self._on_header_end,
            "on_part_data": self._on_data,
            "on_part_end": self._end,
            "on_end": self._over,
        }

    def _begin(self) -> None:
        if len(self.fields) == PARTS:
            raise _wrong(f"the body has more than {PARTS} parts")
        self._disposition = b""
        self._data = []

    def _on_header(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def _on_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _on_header_end(self) -> None:
        if self._header.lower() == b"content-disposition":
            self._disposition = bytes(self._value)
        self._header.clear()
        self._value.clear()

    def _on_data(self, data: bytes, start: int, end: int) -> None:
        self._data.append(memoryview(data)[start:end])

    def _end(self) -> None:
        kind, options = self._options(self._disposition)
        name = options.get(b"name", b"").decode("utf-8", "replace")
        if kind != b"form-data" or not name:
            raise _wrong("a part has no Content-Disposition: form-data with a name")
        filename = options.get(b"filename")
        named = None if filename is None else filename.decode("utf-8", "replace")
        self.fields.append(Field(name, b"".join(self._data), named))

    def _over(self) -> None:
        self.ended = True


def _wrong(message: str) -> RequestError:
    return RequestError(message, code="invalid_multipart")
