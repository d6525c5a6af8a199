"""The anthropic engine against a Messages API that refuses, breaks and stalls."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import pytest

from bicameral.errors import (
    Broken,
    ModelError,
    Overloaded,
    Rejected,
    Timeout,
    TooLong,
    Unauthorized,
)
from bicameral.model import Model, collect
from bicameral.types import (
    Request,
)
from tests.engines.models import opened
from tests.messages_api import delta, message, refused, start, words
from tests.upstream import HANG, RESET, Reply, Upstream, Wait, reply, reset, stream

HI = Request.ask("hi")


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-ant-1")


@pytest.fixture
async def up() -> AsyncIterator[Upstream]:
    async with Upstream() as upstream:
        yield upstream


@pytest.fixture
async def model(up: Upstream) -> AsyncIterator[Model]:
    keys = {"backoff": 0.001, "breaker_failures": 100}
    async with opened("anthropic", url=up.url, model="claude", **keys) as m:
        yield m


async def failure(model: Model, request: Request = HI) -> ModelError:
    answer = await collect(model, request)
    assert isinstance(answer.error, ModelError), answer
    return answer.error


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (refused(400, "invalid_request_error"), Rejected),
        (refused(400, "invalid_request_error", "prompt is too long: 210000 tokens > 1"), TooLong),
        (refused(413, "request_too_large"), TooLong),
        (refused(401, "authentication_error"), Unauthorized),
        (refused(403, "permission_error"), Unauthorized),
        (refused(404, "not_found_error"), Rejected),
        (refused(429, "rate_limit_error"), Overloaded),
        (refused(529, "overloaded_error"), Overloaded),
        (refused(500, "api_error"), Broken),
        (reply(b"<html>", status=502, kind="text/html"), Broken),
        (reply(b"{}", status=400), Rejected),
    ],
)
async def test_every_refusal_has_its_type(
    up: Upstream, model: Model, answer: Reply, kind: type[ModelError]
) -> None:
    up.script(answer)
    assert isinstance(await failure(model), kind)


async def test_retry_after_is_kept(up: Upstream, model: Model) -> None:
    up.script(refused(429, "rate_limit_error", Retry_After="60"))
    failed = await failure(model)
    assert isinstance(failed, Overloaded)
    assert failed.retry_after == 60
    assert len(up.requests) == 1


@pytest.mark.parametrize(
    "fault", [refused(529, "overloaded_error"), refused(500, "api_error"), reset()]
)
async def test_a_fault_before_the_first_byte_is_retried(
    up: Upstream, model: Model, fault: Reply
) -> None:
    up.script(fault, fault, message(start(input_tokens=1), *words("fine")))
    assert (await collect(model, HI)).text == "fine"


@pytest.mark.parametrize(
    ("said", "kind"),
    [("overloaded_error", Overloaded), ("api_error", Broken), ("new_error", Broken)],
)
async def test_an_error_event_mid_stream_is_typed_and_not_retried(
    up: Upstream, model: Model, said: str, kind: type[ModelError]
) -> None:
    wrong = {"type": "error", "error": {"type": said, "message": "no"}}
    up.script(message(start(input_tokens=1), *words("so far")[:2], wrong))
    answer = await collect(model, HI)
    assert isinstance(answer.error, kind)
    assert answer.text == "so far"
    assert len(up.requests) == 1


@pytest.mark.parametrize("then", [(), (Wait(0.05), RESET)])
async def test_a_cut_message_is_broken(up: Upstream, model: Model, then: tuple[Any, ...]) -> None:
    up.script(message(start(input_tokens=1), *words("so far")[:2], then=then))
    answer = await collect(model, HI)
    assert isinstance(answer.error, Broken)
    assert answer.text == "so far"
    assert len(up.requests) == 1


async def test_a_bad_line_is_skipped(up: Upstream, model: Model) -> None:
    events = [start(input_tokens=1), *words("a", "b")]
    framed = [f"data: {json.dumps(e)}\n\n".encode() for e in events]
    up.script(stream(*framed[:3], b"data: {oops\n\n", *framed[3:], done=False))
    assert (await collect(model, HI)).text == "ab"


async def test_a_wrong_shape_is_broken(up: Upstream, model: Model) -> None:
    up.script(message(start(input_tokens=1), delta(0, type="text_delta", text=7)))
    assert isinstance(await failure(model), Broken)


async def test_a_stalled_stream_times_out_and_is_cancelled(up: Upstream) -> None:
    up.script(message(start(input_tokens=1), *words("x")[:2], then=(HANG,)))
    async with opened("anthropic", url=up.url, model="c", timeout_between_tokens=0.2) as model:
        failed = await failure(model, Request.ask("hi", deadline=time.monotonic() + 5))
    assert isinstance(failed, Timeout)
    assert failed.phase == "between tokens"
    await up.until(lambda u: u.cancelled == 1)


async def test_leaving_cancels_the_call(up: Upstream, model: Model) -> None:
    up.script(message(start(input_tokens=1), *words("x")[:2], then=(HANG,)))
    async with aclosing(model.run(HI)) as events:
        await anext(events)
    await up.until(lambda u: u.cancelled == 1, seconds=1)


async def test_our_key_is_cut_out_of_what_the_server_echoes(up: Upstream, model: Model) -> None:
    up.script(refused(401, "authentication_error", "bad key sk-ant-1"))
    assert "sk-ant-1" not in str(await failure(model))
