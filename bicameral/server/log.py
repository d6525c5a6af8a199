"""Structured logs: one JSON object a line on stderr, free of user text, secrets and line breaks.

An unexpected error is logged by its type and place only: its message could hold user text.
"""

from __future__ import annotations

import logging
import sys
import time
import traceback
from typing import Any, BinaryIO

import msgspec

from bicameral.decision import Decision
from bicameral.journal import watch

_json = msgspec.json.Encoder().encode
logger = logging.getLogger("bicameral.server")
_out: list[BinaryIO] = []


class Lines(logging.Formatter):
    """A record as one JSON line; `fields` given by `extra` become keys of their own."""

    def format(self, record: logging.LogRecord) -> str:
        """The line; JSON escapes every control character in it."""
        line: dict[str, Any] = {"time": round(record.created, 3), "level": record.levelname}
        line |= {"logger": record.name, "message": record.getMessage()}
        line |= getattr(record, "fields", {})
        if record.exc_info and record.exc_info[0]:
            line |= {"error": record.exc_info[0].__name__, "at": _places(record.exc_info[2])}
        return _json(line).decode()


def configure() -> None:
    """Send every log to stderr: the package's from INFO on, all others from WARNING on."""
    _out[:] = [sys.stderr.buffer]
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(Lines())
    logging.getLogger().handlers[:] = [handler]
    logging.getLogger().setLevel(logging.WARNING)
    logging.getLogger("bicameral").setLevel(logging.INFO)


def request(fields: dict[str, Any]) -> None:
    """One line for one request, past the logging machinery, which would cost four times as much.

    Nothing is written before `configure`, or if the level is above INFO.
    """
    if _out and logger.isEnabledFor(logging.INFO):
        _write(fields)


def decision(made: Decision) -> None:
    """One line for one decision, in the same way."""
    if _out and watch.log.isEnabledFor(logging.INFO):
        _write({"logger": watch.log.name, **watch.fields(made)})


def _write(fields: dict[str, Any]) -> None:
    line = {"time": round(time.time(), 3), "level": "INFO", **fields}
    _out[0].write(_json(line) + b"\n")
    _out[0].flush()


def _places(trace: Any) -> list[str]:
    frames = traceback.extract_tb(trace)[-4:]
    return [f"{frame.filename.rpartition('/')[2]}:{frame.lineno}" for frame in frames]
