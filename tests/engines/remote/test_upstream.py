"""Retries, timeouts, cancelling and the breaker, seen from a server that misbehaves."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from contextlib import aclosing
from email.utils import formatdate
from typing import Any

import pytest

from bicameral.errors import (
    Broken,
    Overloaded,
    Timeout,
    Unreachable,
)
from bicameral.model import Model
from bicameral.types import Request
from tests.engines.asking import END, EVERY, PLAIN, STREAM, STREAMED, TEXT, WORDS, openai, run
from tests.engines.models import opened
from tests.upstream import (
    CLOSE,
    HANG,
    RESET,
    Reply,
    Upstream,
    Wait,
    black_hole,
    chat,
    chunked,
    error,
    event,
    reply,
    reset,
    stream,
)


@pytest.fixture
async def up() -> AsyncIterator[Upstream]:
    async with Upstream() as upstream:
        yield upstream


# --- retries -----------------------------------------------------------------------------------


HEAD_ONLY = reply(Wait(0), RESET, kind="text/event-stream", framing="none", Content_Length="9")


@EVERY
@pytest.mark.parametrize(
    "fault",
    [error(500), error(502), error(503), error(429), reset(), reply(CLOSE), HEAD_ONLY],
    ids=["500", "502", "503", "429", "reset", "close", "reset after the head"],
)
async def test_a_fault_before_the_first_byte_is_retried(
    up: Upstream, request_: Request, fault: Reply
) -> None:
    up.script(fault, fault, chat("fine"))
    async with openai(up) as model:
        text, _, failed = await run(model, request_)
    assert (text, failed) == ("fine", None)
    assert len(up.requests) == 3


@EVERY
async def test_it_gives_up_after_its_retries(up: Upstream, request_: Request) -> None:
    up.script(reset())
    async with openai(up, retries=2) as model:
        _, _, failed = await run(model, request_)
    assert isinstance(failed, Unreachable)
    assert len(up.requests) == 3


async def test_under_sustained_failure_at_most_a_tenth_is_retried(up: Upstream) -> None:
    up.script(error(500))
    async with openai(up, breaker_failures=10_000) as model:
        for _ in range(100):
            await run(model, PLAIN)
    assert len(up.requests) <= 113, "100 calls, a tenth again, and the first reserve of 2"


async def test_a_retry_after_that_fits_is_waited_for(up: Upstream) -> None:
    up.script(error(429, retry_after="1"), chat("fine"))
    async with openai(up) as model:
        began = time.monotonic()
        text, _, failed = await run(model, PLAIN)
        waited = time.monotonic() - began
    assert (text, failed) == ("fine", None)
    assert waited >= 1


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ("86400", 86400.0),
        ("7", 7.0),
        ("1e3", 1000.0),
        ("in an hour", 3600.0),
        ("soon", None),
        ("-5", None),
        ("nan", None),
        ("inf", None),
        ("", None),
        (None, None),
    ],
)
async def test_a_retry_after_that_does_not_fit_is_told_at_once(
    up: Upstream, said: str | None, kept: float | None
) -> None:
    if said == "in an hour":
        said = formatdate(time.time() + 3600, usegmt=True)
    up.script(error(429, "rate limited", retry_after=said))
    async with openai(up, max_retry_wait=5) as model:
        began = time.monotonic()
        _, _, failed = await run(model, PLAIN)
        assert time.monotonic() - began < 4
    assert isinstance(failed, Overloaded)
    assert failed.status == 429
    assert failed.retry_after == (kept if kept is None else pytest.approx(kept, abs=10))
    assert len(up.requests) == (3 if kept is None else 1)


async def test_a_retry_after_beyond_the_deadline_is_told_at_once(up: Upstream) -> None:
    up.script(error(503, retry_after="3"))
    async with openai(up) as model:
        request = Request.ask("hi", deadline=time.monotonic() + 2)
        _, _, failed = await run(model, request)
    assert isinstance(failed, Overloaded)
    assert failed.retry_after == 3
    assert len(up.requests) == 1


async def test_a_spent_quota_is_not_retried(up: Upstream) -> None:
    up.script(error(429, code="insufficient_quota"))
    async with openai(up) as model:
        assert isinstance((await run(model, PLAIN))[2], Overloaded)
    assert len(up.requests) == 1


async def test_nothing_listens(unused_tcp_port: int) -> None:
    url = f"http://127.0.0.1:{unused_tcp_port}/v1"
    async with opened("openai", url=url, model="m", retries=1, backoff=0.001) as model:
        _, _, failed = await run(model, TEXT)
    assert isinstance(failed, Unreachable)


# --- time --------------------------------------------------------------------------------------


async def phase_of(model: Model, request: Request) -> str:
    async with asyncio.timeout(5):
        _, _, failed = await run(model, request)
    assert isinstance(failed, Timeout), failed
    return failed.phase


@STREAMED
async def test_a_black_hole_times_out_at_the_first_token(up: Upstream, request_: Request) -> None:
    up.script(black_hole())
    async with openai(up, timeout_first_token=1.0) as model:
        assert await phase_of(model, request_) == "first token"
    await up.until(lambda u: u.cancelled == 1)
    assert len(up.requests) == 1, "a slow model is not asked twice"


async def test_a_head_without_a_body_times_out_at_the_first_token(up: Upstream) -> None:
    up.script(stream(Wait(0), then=(HANG,)))
    async with openai(up, timeout_first_token=0.2) as model:
        assert await phase_of(model, TEXT) == "first token"


@STREAMED
async def test_a_stream_that_stalls_times_out_between_tokens(
    up: Upstream, request_: Request
) -> None:
    up.script(stream(*WORDS, then=(HANG,)))
    async with openai(up, timeout_between_tokens=0.2) as model:
        assert await phase_of(model, request_) == "between tokens"
    await up.until(lambda u: u.cancelled == 1)


async def test_bad_chunked_coding_midway_ends_in_an_error(up: Upstream) -> None:
    """aiohttp leaves its reader waiting then; ours must not wait for ever."""
    first = event(WORDS[0])
    up.script(chunked(b"%x\r\n%b\r\n" % (len(first), first), Wait(0.05), b"zz secret\r\n"))
    async with openai(up, timeout_between_tokens=0.3) as model:
        text, _, failed = await run(model, STREAM)
    assert text == "你好"
    assert isinstance(failed, Timeout | Broken)
    assert "secret" not in str(failed)


async def test_a_plain_answer_is_bound_by_the_total(up: Upstream) -> None:
    up.script(black_hole())
    async with openai(up, timeout_total=0.2) as model:
        assert await phase_of(model, PLAIN) == "total"


async def test_a_stream_that_drips_for_ever_is_bound_by_the_total(up: Upstream) -> None:
    up.script(stream(*WORDS * 200, delay=0.05))
    async with openai(up, timeout_total=0.5, timeout_between_tokens=0.4) as model:
        assert await phase_of(model, STREAM) == "total"


async def test_the_deadline_caps_everything(up: Upstream) -> None:
    for answer in (black_hole(), stream(*WORDS, then=(HANG,)), stream(*WORDS * 200, delay=0.05)):
        up.script(answer)
        async with openai(up) as model:
            request = Request.ask("hi", deadline=time.monotonic() + 0.3)
            assert await phase_of(model, request) == "total"


async def test_a_deadline_that_has_passed_asks_nobody(up: Upstream) -> None:
    async with openai(up) as model:
        request = Request.ask("hi", deadline=time.monotonic() - 1)
        assert await phase_of(model, request) == "total"
    assert up.requests == []


async def test_a_slow_reader_is_not_taken_for_a_slow_server(up: Upstream) -> None:
    up.script(stream(*WORDS, Wait(0.3), END))
    async with openai(up, timeout_between_tokens=0.5) as model, aclosing(model.run(TEXT)) as events:
        async for _ in events:
            await asyncio.sleep(0.3)
    assert up.cancelled == 0


# --- cancelling --------------------------------------------------------------------------------


@STREAMED
async def test_ten_clients_leave_and_ten_calls_are_cancelled(
    up: Upstream, request_: Request
) -> None:
    up.script(stream(*WORDS, then=(HANG,)))
    async with openai(up) as model:

        async def leave() -> None:
            async with aclosing(model.run(request_)) as events:
                async for _ in events:
                    break

        await asyncio.gather(*[leave() for _ in range(10)])
        await up.until(lambda u: u.cancelled == 10, seconds=1)
    assert len(up.requests) == 10


@EVERY
async def test_cancelling_the_task_before_the_first_byte_cancels_the_call(
    up: Upstream, request_: Request
) -> None:
    up.script(black_hole())
    async with openai(up) as model:
        task = asyncio.create_task(run(model, request_))
        await up.until(lambda u: u.running == 1)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        await up.until(lambda u: u.cancelled == 1, seconds=1)


async def test_a_cancelled_call_says_nothing_about_the_health(up: Upstream) -> None:
    async with openai(up, breaker_failures=1) as model:
        up.script(stream(*WORDS, then=(HANG,)), chat("fine"))
        async with aclosing(model.run(TEXT)) as events:
            await anext(events)
        assert (await run(model, TEXT))[0] == "fine"


async def test_nothing_is_left_behind(up: Upstream) -> None:
    before = asyncio.all_tasks()
    async with openai(up) as model:
        up.script(stream(*WORDS, then=(HANG,)))
        async with aclosing(model.run(TEXT)) as events:
            await anext(events)
    await up.until(lambda u: u.running == 0)
    await asyncio.sleep(0)
    assert {t for t in asyncio.all_tasks() - before if not t.done()} <= up._tasks


# --- the breaker -------------------------------------------------------------------------------


async def test_the_breaker_opens_says_so_and_probes_once(up: Upstream) -> None:
    keys = {"retries": 0, "breaker_failures": 3, "breaker_seconds": 0.3}
    async with openai(up, **keys) as model:
        up.script(error(500))
        for _ in range(3):
            assert isinstance((await run(model, PLAIN))[2], Broken)
        _, _, failed = await run(model, PLAIN)
        assert isinstance(failed, Overloaded)
        assert failed.retry_after is not None
        assert 0 < failed.retry_after <= 0.3
        assert len(up.requests) == 3, "an open breaker sends nothing"

        await asyncio.sleep(0.35)
        up.script(chat("back", delay=0.1))
        results = await asyncio.gather(*[run(model, PLAIN) for _ in range(5)])
        assert len(up.requests) == 4, "exactly one probe"
        assert [text for text, _, _ in results].count("back") == 1
        assert (await run(model, PLAIN))[0] == "back"


@pytest.mark.parametrize("answer", [error(400), error(401), error(429)])
async def test_a_refusal_does_not_open_the_breaker(up: Upstream, answer: Reply) -> None:
    up.script(answer)
    async with openai(up, retries=0, breaker_failures=1) as model:
        for _ in range(3):
            await run(model, PLAIN)
    assert len(up.requests) == 3


@STREAMED
@pytest.mark.parametrize("before", [[b": wait\n\n"], WORDS], ids=["at once", "midway"])
async def test_broken_streams_open_it_too(
    up: Upstream, request_: Request, before: list[Any]
) -> None:
    up.script(stream(*before, done=False))
    async with openai(up, breaker_failures=2) as model:
        for _ in range(2):
            assert isinstance((await run(model, request_))[2], Broken)
        assert isinstance((await run(model, request_))[2], Overloaded)


@pytest.mark.parametrize("probe", [black_hole(), stream(b": wait\n\n", then=(HANG,))])
async def test_a_cancelled_probe_makes_room_for_another(up: Upstream, probe: Reply) -> None:
    keys = {"retries": 0, "breaker_failures": 1, "breaker_seconds": 0.05}
    async with openai(up, **keys) as model:
        up.script(error(500), probe, chat("fine"))
        await run(model, TEXT)
        await asyncio.sleep(0.1)
        task = asyncio.create_task(run(model, TEXT))
        await up.until(lambda u: u.running == 1)
        await asyncio.sleep(0.05)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        assert (await run(model, TEXT))[0] == "fine"


async def test_a_hurried_caller_does_not_open_it(up: Upstream) -> None:
    up.script(black_hole(), stream(*WORDS, then=(HANG,)), chat("fine"))
    async with openai(up, breaker_failures=1) as model:
        for _ in range(2):
            request = Request.ask("hi", deadline=time.monotonic() + 0.1)
            assert await phase_of(model, request) == "total"
        assert (await run(model, TEXT))[0] == "fine"
