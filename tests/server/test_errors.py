"""Each of our errors as HTTP tells it."""

from __future__ import annotations

import json

import pytest

from bicameral.errors import (
    AllFailed,
    BicameralError,
    Broken,
    BudgetError,
    ChipError,
    ConfigError,
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
    Unsupported,
    WeightsError,
)
from bicameral.server.errors import Refused, fault


def tree(kind: type[BicameralError]) -> list[type[BicameralError]]:
    return [kind, *(k for child in kind.__subclasses__() for k in tree(child))]


MADE: list[tuple[BicameralError, int, str | None]] = [
    (BicameralError("x"), 500, None),
    (ConfigError("x"), 500, None),
    (ChipError("x"), 500, None),
    (JournalError("x"), 503, "journal_unavailable"),
    (LedgerError("x"), 503, "ledger_unavailable"),
    (LimitError("x", limit="day_money"), 429, "insufficient_quota"),
    (LimitError("x", limit="requests", spent=False), 429, "rate_limit_exceeded"),
    (WeightsError("x"), 500, None),
    (RequestError("x", param="p", code="c"), 400, "c"),
    (Unsupported("x", param="p", code="unsupported"), 400, "unsupported"),
    (NotFound("x", param="model", code="model_not_found"), 404, "model_not_found"),
    (BudgetError("x"), 402, "budget_exceeded"),
    (ReachError("x"), 400, "placement_unsatisfiable"),
    (ModelError("m", "x"), 502, "upstream_error"),
    (Unreachable("m", "x"), 502, "unreachable"),
    (Timeout("m", "total", 1), 504, "timeout"),
    (Overloaded("m", "x"), 429, "overloaded"),
    (Unauthorized("m", "x"), 502, "upstream_unauthorized"),
    (Rejected("m", "x", status=422, code="c"), 422, "c"),
    (TooLong("m", "x"), 400, "context_length_exceeded"),
    (Broken("m", "x"), 502, "broken_answer"),
    (AllFailed("m", {}), 503, "all_failed"),
    (Refused(403, "x", "c"), 403, "c"),
]


@pytest.mark.parametrize(("error", "status", "code"), MADE, ids=lambda v: type(v).__name__)
def test_status_and_code(error: BicameralError, status: int, code: str | None) -> None:
    told = fault(error)
    assert (told.status, told.code) == (status, code)
    body = json.loads(told.body())["error"]
    assert list(body) == ["message", "type", "param", "code"]
    assert body["message"]
    if status == 429:
        assert body["type"] in ("rate_limit_error", "insufficient_quota")
    assert (body["type"] == "server_error") == (status >= 500)


def test_every_error_of_the_tree_is_covered() -> None:
    """An engine's own subclass is told as its parent."""
    ours = {"bicameral.errors", "bicameral.server.errors"}
    known = {k for k in tree(BicameralError) if k.__module__ in ours}
    assert {type(error) for error, _, _ in MADE} == known


def test_a_refusal_keeps_the_upstreams_words() -> None:
    error = Rejected("m", "no such size", status=400, param="size", code=7, kind="odd")
    told = fault(error)
    assert (told.message, told.type, told.param, told.code) == ("no such size", "odd", "size", 7)


@pytest.mark.parametrize("status", [200, 302, 500, 503])
def test_a_refusal_of_any_other_status_is_a_502(status: int) -> None:
    assert fault(Rejected("m", "x", status=status)).status == 502


@pytest.mark.parametrize(
    ("seconds", "header"),
    [
        (7, b"7"),
        (0.2, b"1"),
        (0, b"0"),
        (-3, b"0"),
        (86400.0, b"86400"),
        (float("inf"), b"1000000"),
    ],
)
def test_retry_after_is_whole_seconds(seconds: float, header: bytes) -> None:
    told = fault(Overloaded("m", "x", retry_after=seconds))
    assert (b"retry-after", header) in told.headers


def test_what_cannot_get_better_is_not_to_be_retried() -> None:
    assert (b"x-should-retry", b"false") in fault(Unauthorized("m", "x")).headers
    assert (b"x-should-retry", b"false") not in fault(Unreachable("m", "x")).headers


@pytest.mark.parametrize(
    ("failures", "status", "wait"),
    [
        ([Overloaded("a", "x", retry_after=9)], 429, b"9"),
        ([Overloaded("a", "x", retry_after=9), Overloaded("b", "x", retry_after=4)], 429, b"4"),
        ([Overloaded("a", "x", retry_after=9), Unreachable("b", "x")], 503, b"9"),
        ([Unreachable("a", "x"), Timeout("b", "total", 1)], 503, b"1"),
        ([ReachError("x"), Unreachable("b", "x")], 503, b"1"),
        ([TooLong("a", "x"), Rejected("b", "x")], 400, None),
        ([ReachError("x"), Unsupported("y", param="p")], 400, None),
    ],
)
def test_when_all_fail(failures: list[BicameralError], status: int, wait: bytes | None) -> None:
    told = fault(AllFailed("mind", dict(zip("abc", failures, strict=False))))
    assert told.status == status
    assert dict(told.headers).get(b"retry-after") == wait
