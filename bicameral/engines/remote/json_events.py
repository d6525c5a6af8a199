"""Server-sent events that hold JSON, which is what every dialect streams."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from typing import Generic, TypeVar

import msgspec

from bicameral.engines.remote import sse
from bicameral.errors import Broken

log = logging.getLogger(__name__)
T = TypeVar("T")


class JsonEvents(Generic[T]):
    """Decodes the events of one answer until its [DONE], if it has one, sets `complete`.

    One that is not JSON is skipped and counted, as one bad line must not end a stream; one of a
    wrong shape, or longer than `cap` bytes, is Broken.
    """

    def __init__(self, name: str, cap: int, decode: Callable[[bytes], T]) -> None:
        self.complete = False
        self._name = name
        self._reader = sse.Reader(cap)
        self._decode = decode
        self._skipped = 0

    def feed(self, chunk: bytes) -> Iterator[tuple[T, bytes]]:
        """Each event that `chunk` completes, decoded and as it came."""
        try:
            yield from self._decoded(self._reader.feed(chunk))
        except sse.TooBig as exc:
            raise Broken(self._name, str(exc)) from exc

    def end(self) -> Iterator[tuple[T, bytes]]:
        """What was left open."""
        yield from self._decoded(self._reader.end())
        if self._skipped:
            log.warning("%s sent %d events that are not JSON", self._name, self._skipped)

    def _decoded(self, events: Iterable[bytes]) -> Iterator[tuple[T, bytes]]:
        for data in events:
            if self.complete:
                return
            if data.strip() == b"[DONE]":
                self.complete = True
                return
            try:
                yield self._decode(data), data
            except msgspec.ValidationError as exc:
                raise Broken(self._name, f"sent an event of a wrong shape: {exc}") from exc
            except (msgspec.DecodeError, UnicodeDecodeError):
                self._skipped += 1
