"""Our error tree to OpenAI's error body and status, at this one border."""

from __future__ import annotations

import math
from collections.abc import Iterable

import msgspec
from msgspec import Struct

from bicameral.errors import (
    AllFailed,
    BicameralError,
    Broken,
    BudgetError,
    JournalError,
    LedgerError,
    LimitError,
    ModelError,
    NotFound,
    Overloaded,
    ReachError,
    Rejected,
    RequestError,
    Timeout,
    TooLong,
    Unauthorized,
    Unreachable,
)

INVALID = "invalid_request_error"
BROKEN = "server_error"
LIMIT = "rate_limit_error"
Headers = list[tuple[bytes, bytes]]


class Refused(BicameralError):
    """The server itself turns the request away, before any model sees it."""

    def __init__(
        self,
        status: int,
        message: str,
        code: str,
        *,
        param: str | None = None,
        headers: Iterable[tuple[bytes, bytes]] = (),
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.param = param
        self.headers = list(headers)


class Fault(Struct, frozen=True, kw_only=True):
    """An error as HTTP tells it."""

    status: int
    message: str
    type: str = INVALID
    param: str | None = None
    code: str | int | None = None
    headers: tuple[tuple[bytes, bytes], ...] = ()

    def body(self) -> bytes:
        """OpenAI's error object."""
        error = {
            "message": self.message,
            "type": self.type,
            "param": self.param,
            "code": self.code,
        }
        return msgspec.json.encode({"error": error})


def fault(error: BicameralError) -> Fault:
    """What the client is told about `error`."""
    match error:
        case Refused():
            kind = _kind(error.status)
            return Fault(
                status=error.status,
                message=str(error),
                type=kind,
                param=error.param,
                code=error.code,
                headers=tuple(error.headers),
            )
        case NotFound():
            return _request(error, 404)
        case RequestError():
            return _request(error, 400)
        case ReachError():
            return Fault(
                status=400, message=str(error), param="reach", code="placement_unsatisfiable"
            )
        case BudgetError():
            return Fault(status=402, message=str(error), param="budget", code="budget_exceeded")
        case LimitError():
            return _limit(error)
        case JournalError() | LedgerError():
            return _unwritten(error)
        case AllFailed():
            return _all_failed(error)
        case ModelError():
            return _model(error)
    return Fault(status=500, message="the server is set up wrongly; see its log", type=BROKEN)


def _request(error: RequestError, status: int) -> Fault:
    return Fault(status=status, message=str(error), param=error.param, code=error.code)


def _limit(error: LimitError) -> Fault:
    """As OpenAI says it: too fast may be tried again soon, what is used up may not."""
    headers = _retry_after(error.resets)
    if error.spent or error.resets is None:
        headers.append((b"x-should-retry", b"false"))
    return Fault(
        status=429,
        message=str(error),
        type="insufficient_quota" if error.spent else LIMIT,
        param=error.limit,
        code="insufficient_quota" if error.spent else "rate_limit_exceeded",
        headers=tuple(headers),
    )


def _unwritten(error: JournalError | LedgerError) -> Fault:
    """What is wrong with the book is for the log: the client need not know where it lies."""
    if isinstance(error, JournalError):
        return Fault(status=503, message=str(error), type=BROKEN, code="journal_unavailable")
    return Fault(
        status=503,
        message="the ledger cannot be written, so nothing may be spent; try again later",
        type=BROKEN,
        code="ledger_unavailable",
        headers=((b"retry-after", b"5"),),
    )


def _model(error: ModelError) -> Fault:
    match error:
        case Rejected():
            return _rejected(error)
        case TooLong():
            return Fault(
                status=400, message=str(error), param="messages", code="context_length_exceeded"
            )
        case Overloaded():
            status = error.status if error.status in (429, 503, 529) else 429
            return _upstream(error, status, "overloaded", _retry_after(error.retry_after))
        case Timeout():
            return _upstream(error, 504, "timeout")
        case Unauthorized():
            return _upstream(error, 502, "upstream_unauthorized")
        case Unreachable():
            return _upstream(error, 502, "unreachable")
        case Broken():
            return _upstream(error, 502, "broken_answer")
    return _upstream(error, 502, "upstream_error")


def _upstream(error: ModelError, status: int, code: str, headers: Headers | None = None) -> Fault:
    """`x-should-retry` keeps OpenAI's clients from repeating what cannot get better."""
    headers = headers or []
    if not error.retryable:
        headers.append((b"x-should-retry", b"false"))
    return Fault(
        status=status, message=str(error), type=_kind(status), code=code, headers=tuple(headers)
    )


def _rejected(error: Rejected) -> Fault:
    """In the upstream's own words: message, type, param, code and a 4xx status."""
    return Fault(
        status=error.status if 400 <= error.status < 500 else 502,
        message=str(error).removeprefix(f"{error.model}: "),
        type=error.kind or INVALID,
        param=error.param,
        code=error.code,
        headers=((b"x-should-retry", b"false"),),
    )


def _all_failed(error: AllFailed) -> Fault:
    """The members' common status; what only the client can mend is its error, else 503."""
    faults = [fault(failure) for failure in error.failures.values()]
    statuses = {f.status for f in faults}
    if len(faults) == 1:
        return faults[0]
    if faults and max(statuses) < 500 and 429 not in statuses:
        return faults[0]
    waits = [f for f in error.failures.values() if isinstance(f, Overloaded) and f.retry_after]
    wait = min((f.retry_after or 1.0 for f in waits), default=1.0)
    status = 429 if statuses == {429} else 503
    barred = any(isinstance(f, ReachError) for f in error.failures.values())
    code = "placement_unsatisfiable" if barred else "all_failed"
    return _upstream(error, status, code, _retry_after(wait))


def _kind(status: int) -> str:
    if status == 429:
        return LIMIT
    if status == 401:
        return "authentication_error"
    return BROKEN if status >= 500 else INVALID


def _retry_after(seconds: float | None) -> Headers:
    if seconds is None:
        return []
    return [(b"retry-after", b"%d" % max(0, math.ceil(min(seconds, 1e6))))]
