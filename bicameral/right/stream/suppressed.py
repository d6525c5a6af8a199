"""The log of every frame that woke nobody: time, score, reason; so misses can be counted."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

from bicameral.errors import ConfigError

_MOST = 64 * 2**20
_encode = msgspec.json.Encoder().encode


class SuppressedLog:
    """JSON lines; at 64 MB the file becomes FILE.1 and a new one begins, so two are kept.

    `fault` says what ended it early.
    """

    def __init__(self, path: Path, *, most: int = _MOST) -> None:
        self._path = path
        self._most = most
        self.fault = ""
        try:
            self._file = path.open("ab")
        except OSError as error:
            raise ConfigError(f"{path}: cannot be written ({error.strerror})") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            self._file.close()
        except OSError as fault:
            self.fault = fault.strerror or type(fault).__name__

    def __call__(self, at: float, score: float, reason: str) -> None:
        """One frame; those that woke are not written. A disk that is full ends the log only."""
        if reason == "woken" or self._file.closed:
            return
        line = {"at": round(at, 3), "score": round(score, 4), "reason": reason}
        try:
            self._write(_encode(line) + b"\n")
        except OSError as error:
            self.fault = error.strerror or type(error).__name__
            with suppress(OSError):
                self._file.close()

    def _write(self, line: bytes) -> None:
        self._file.write(line)
        if self._file.tell() > self._most:
            self._file.close()
            os.replace(self._path, f"{self._path}.1")
            self._file = self._path.open("ab")
