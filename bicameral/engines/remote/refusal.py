"""What a remote server's refusal means: HTTP statuses and headers to our errors."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from email.utils import parsedate_to_datetime

from bicameral.errors import (
    Broken,
    ModelError,
    Overloaded,
    Rejected,
    Unauthorized,
    Unreachable,
)

Refusal = Callable[[int, bytes], ModelError]
"""(status, body) -> the error, as Upstream.refusal gives it."""


class ServerError(Broken):
    """The server failed with a 5xx before it began to answer."""


class GaveUp(ServerError):
    """A server in between gave up on the model, which may have gone on, at a price."""


class Lost(Unreachable):
    """The connection broke after the request had gone out: it may have been taken up."""


UNSURE = (GaveUp, Lost)
_GAVE_UP = frozenset({408, 502, 504, *range(520, 528)})  # the last are Cloudflare's


def status_error(
    name: str,
    status: int,
    message: str,
    *,
    retry: float | None,
    param: str | None = None,
    code: str | int | None = None,
    kind: str | None = None,
) -> ModelError:
    """The error of our tree for an HTTP status; dialects handle what needs the body first."""
    if status in (401, 403):
        return Unauthorized(name, f"{message} (HTTP {status})")
    if status in (429, 503, 529):
        return Overloaded(name, message, retry_after=retry, status=status)
    if status >= 500 or status == 408:
        kind_of = GaveUp if status in _GAVE_UP else ServerError
        return kind_of(name, f"{message} (HTTP {status})")
    if status == 200:
        return Broken(name, message)
    return Rejected(name, message, status=status, param=param, code=code, kind=kind)


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds said by retry-after-ms or Retry-After (seconds or a date); None for garbage."""
    try:
        if "retry-after-ms" in headers:
            seconds = float(headers["retry-after-ms"]) / 1000
        else:
            seconds = float(headers["Retry-After"])
    except KeyError:
        return None
    except ValueError:
        seconds = _until(headers.get("Retry-After", ""))
    return seconds if 0 <= seconds < 10**9 else None


def _until(date: str) -> float:
    try:
        return max(0.0, parsedate_to_datetime(date).timestamp() - time.time())
    except (ValueError, OverflowError):
        return -1.0
