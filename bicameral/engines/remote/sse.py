"""Reads server-sent events: bytes in any chunking go in, the data of each event comes out.

Follows the event-stream grammar of the HTML standard (section 9.2.6) with one difference: an event
that is still open when the stream ends is given too, since some servers forget the last blank line.
Comments and the fields `event`, `id` and `retry` are dropped: every JSON dialect we speak repeats
in its data what they say.
"""

from __future__ import annotations

from collections.abc import Iterator

CAP = 8 * 2**20
_BOM = b"\xef\xbb\xbf"


class TooBig(ValueError):
    """A line or an event grew past the cap; the stream cannot be read any further."""


class Reader:
    """Splits a stream of bytes into events of at most `cap` bytes; never raises but TooBig."""

    def __init__(self, cap: int = CAP) -> None:
        self._cap = cap
        self._line = bytearray()  # a line whose end has not come yet
        self._data: list[bytes] = []  # the data lines of the event being read
        self._size = 0
        self._after_cr = False
        self._first = True

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        """The data of each event that `chunk` completes."""
        whole = self._plain(chunk)
        if whole:
            for block in chunk[:whole].split(b"\n\n"):
                if block.startswith(b"data: ") and b"\n" not in block:
                    yield block[6:]
                elif block:
                    yield from self._lines(block + b"\n\n")
        if whole < len(chunk):
            yield from self._lines(chunk[whole:])

    def end(self) -> Iterator[bytes]:
        """The event that the end of the stream left open, if any."""
        if self._line:
            yield from self._take(self._finish_line())
        yield from self._take(b"")

    def _plain(self, chunk: bytes) -> int:
        """How many bytes of `chunk` are whole events with LF endings: the short way is theirs."""
        if self._line or self._data or self._after_cr or b"\r" in chunk or len(chunk) > self._cap:
            return 0
        if self._first and chunk.startswith(_BOM[:1]):
            return 0
        whole = chunk.rfind(b"\n\n") + 2
        if whole < 2:
            return 0
        self._first = False
        return whole

    def _lines(self, chunk: bytes) -> Iterator[bytes]:
        for line in chunk.splitlines(keepends=True):  # bytes split at CR, LF and CRLF only
            if self._after_cr and line == b"\n":
                self._after_cr = False
                continue
            body = line.rstrip(b"\r\n")
            if len(self._line) + len(body) > self._cap:
                raise TooBig(f"a line is longer than {self._cap} bytes")
            self._line += body
            self._after_cr = line.endswith(b"\r")
            if len(body) < len(line):
                yield from self._take(self._finish_line())

    def _finish_line(self) -> bytes:
        line = bytes(self._line)
        self._line.clear()
        if self._first:
            self._first = False
            line = line.removeprefix(_BOM)
        return line

    def _take(self, line: bytes) -> Iterator[bytes]:
        if line:
            self._field(line)
        elif self._data:
            data = b"\n".join(self._data)
            self._data, self._size = [], 0
            yield data

    def _field(self, line: bytes) -> None:
        name, _, value = line.partition(b":")
        if name != b"data":
            return
        value = value.removeprefix(b" ")
        self._size += len(value) + 1
        if self._size > self._cap:
            raise TooBig(f"an event is longer than {self._cap} bytes")
        self._data.append(value)
