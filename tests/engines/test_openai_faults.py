"""The openai engine against a server that misbehaves, in both ways out: relayed and translated."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import time
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, aclosing
from email.utils import formatdate
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
    Unreachable,
)
from bicameral.model import Model, collect
from bicameral.types import Delta, Done, Event, Relay, Request, Text, Usage, Wire
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
    chunk,
    completion,
    error,
    event,
    html,
    reply,
    reset,
    stream,
)

TEXT = Request.ask("hi")
BODY = b'{"model":"x","messages":[{"role":"user","content":"my secret prompt"}]'
STREAM = Request.ask("hi", wire=Wire(BODY + b',"stream":true}', True, False))
PLAIN = Request.ask("hi", wire=Wire(BODY + b"}", False, False))
EVERY = pytest.mark.parametrize("request_", [TEXT, STREAM, PLAIN], ids=["text", "stream", "plain"])
STREAMED = pytest.mark.parametrize("request_", [TEXT, STREAM], ids=["text", "stream"])


@pytest.fixture
async def up() -> AsyncIterator[Upstream]:
    async with Upstream() as upstream:
        yield upstream


def openai(up: Upstream, **keys: Any) -> AbstractAsyncContextManager[Model]:
    """A member that fails fast: no waits between tries."""
    keys = {"retries": 2, "backoff": 0.001, "breaker_failures": 100, **keys}
    return opened("openai", url=up.url, model="fake", **keys)


async def run(model: Model, request: Request) -> tuple[str, list[Event], ModelError | None]:
    """The text, the events and how it ended."""
    events: list[Event] = []
    failed: ModelError | None = None
    try:
        async with aclosing(model.run(request)) as stream:
            async for each in stream:
                events.append(each)  # noqa: PERF401 - what came before an error counts
    except ModelError as exc:
        failed = exc
    return said(events), events, failed


def said(events: list[Event]) -> str:
    text = "".join(e.part.text for e in events if isinstance(e, Delta) and isinstance(e.part, Text))
    data = b"".join(e.data for e in events if isinstance(e, Relay))
    bodies = data.removesuffix(b"\n\n").split(b"\n\n") if data.startswith(b"data: ") else [data]
    for body in filter(None, bodies):
        for choice in json.loads(body.replace(b"data: ", b""))["choices"]:
            text += (choice.get("delta") or choice.get("message") or {}).get("content") or ""
    return text


# --- odd but whole streams ---------------------------------------------------------------------

WORDS = [chunk({"content": w}) for w in ("你好", ", ", "世界", " 🌍")]
END = chunk({}, finish="stop")
SPLIT = json.dumps(WORDS[0], ensure_ascii=False).replace('", "', '",\n "')

ODD: dict[str, Reply] = {
    "one byte packets": stream(*WORDS, END, packet=1),
    "split in the middle of a character": stream(*WORDS, END, packet=7),
    "CRLF": stream(*WORDS, END, eol="\r\n", packet=5),
    "CR": stream(*WORDS, END, eol="\r", packet=5),
    "comments": stream(b": wait\n\n", *WORDS, b": keep-alive\n\n", END),
    "fields we do not know": stream(b"event: x\nid: 7\nretry: 1\n", *WORDS, END),
    "no DONE": stream(*WORDS, END, done=False),
    "no DONE, closed": stream(*WORDS, END, done=False, framing="close"),
    "no DONE, no last blank line": stream(*WORDS, event(END).rstrip(), done=False, framing="close"),
    "DONE but no finish": stream(*WORDS),
    "DONE and then silence": stream(*WORDS, END, "[DONE]", then=(HANG,)),
    "no space after data:": stream(*[event(c).replace(b"data: ", b"data:") for c in WORDS], END),
    "a bad line": stream(*WORDS[:2], b'data: {"choices": [{\n\n', *WORDS[2:], END),
    "a line that is not UTF-8": stream(*WORDS[:2], b"data: \xff\xfe\n\n", *WORDS[2:], END),
    "choices empty": stream({"choices": [], "prompt_filter": []}, *WORDS, END),
    "null content": stream(chunk({"content": None}), *WORDS, END),
    "odd finish": stream(*WORDS, chunk({}, finish="eos")),
    "JSON over several data lines": stream(
        *["".join(f"data: {line}\n" for line in SPLIT.split("\n")).encode() + b"\n"],
        *WORDS[1:],
        END,
    ),
}


@STREAMED
@pytest.mark.parametrize("odd", ODD)
async def test_odd_streams_give_the_same_text(up: Upstream, request_: Request, odd: str) -> None:
    up.script(ODD[odd])
    async with openai(up) as model:
        text, events, failed = await run(model, request_)
    assert failed is None
    assert text == "你好, 世界 🌍"
    assert isinstance(events[-1], Done)
    assert events[-1].reason == "stop"
    assert len(up.requests) == 1


async def test_skipped_lines_are_told_to_the_log_without_their_text(
    up: Upstream, caplog: pytest.LogCaptureFixture
) -> None:
    up.script(stream(b"data: {secret words\n\n", *WORDS, END))
    async with openai(up) as model:
        with caplog.at_level(logging.WARNING):
            await run(model, TEXT)
    assert "not JSON" in caplog.text
    assert "secret" not in caplog.text


# --- answers that are no answers ---------------------------------------------------------------

NONSENSE: dict[str, tuple[Reply, str]] = {
    "HTML": (html(), "HTML"),
    "empty body": (reply(kind="text/event-stream"), "empty"),
    "a redirect": (reply(status=302, Location="https://evil.test/"), "redirect"),
    "gzip unasked": (reply(b"\x1f\x8b..", Content_Encoding="gzip"), "Content-Encoding"),
}
NONSENSE_STREAMED: dict[str, tuple[Reply, str]] = {
    "JSON instead of a stream": (reply(json.dumps(completion("hi")).encode()), ""),
    "only DONE": (stream(), "before the answer"),
    "no finish and no DONE": (stream(*WORDS, done=False), "before the answer"),
    "cut midway": (stream(*WORDS, then=(CLOSE,)), "cut off"),
    "reset midway": (stream(*WORDS, Wait(0.05), then=(RESET,)), "cut off"),
    "not SSE at all": (reply(b"hello", kind="text/event-stream"), "before the answer"),
    "wrong schema": (stream({"choices": "none"}), "wrong shape"),
    "content of a wrong type": (stream({"choices": [7]}), "wrong shape"),
    "finished by an error": (stream(*WORDS, chunk({}, finish="error")), "'error'"),
    "an endless line": (stream(b"data: " + b"x" * 70_000, *[b"x" * 70_000] * 50), "longer"),
}


def chunked(*steps: Any) -> Reply:
    """Bytes that claim to be in chunked coding."""
    return reply(*steps, kind="text/event-stream", framing="none", Transfer_Encoding="chunked")


NONSENSE_STREAMED["no chunked coding"] = (chunked(event(WORDS[0])), "not HTTP")
NONSENSE_PLAIN: dict[str, tuple[Reply, str]] = {
    "truncated JSON": (reply(json.dumps(completion("hi")).encode()[:40]), "cannot be read"),
    "cut body": (
        reply(b'{"choices"', CLOSE, framing="none", Content_Length="99"),
        "cut off",
    ),
    "not an object": (reply(b"[1]"), "cannot be read"),
    "choices empty": (reply(json.dumps({**completion(""), "choices": []}).encode()), ""),
    "null content": (reply(json.dumps(completion(None)).encode()), "empty"),
    "an endless body": (reply(*[b" " * 70_000] * 50), "longer"),
    "not UTF-8": (reply(b'{"choices": [{"message": {"content": "\xff"}}]}'), ""),
}


@EVERY
@pytest.mark.parametrize("fault", NONSENSE)
async def test_nonsense_is_broken(up: Upstream, request_: Request, fault: str) -> None:
    await _nonsense(up, request_, *NONSENSE[fault])


@STREAMED
@pytest.mark.parametrize("fault", NONSENSE_STREAMED)
async def test_nonsense_in_a_stream_is_broken(up: Upstream, request_: Request, fault: str) -> None:
    await _nonsense(up, request_, *NONSENSE_STREAMED[fault])


@pytest.mark.parametrize("fault", NONSENSE_PLAIN)
async def test_nonsense_in_a_plain_answer_is_broken(up: Upstream, fault: str) -> None:
    await _nonsense(up, PLAIN, *NONSENSE_PLAIN[fault])


async def _nonsense(up: Upstream, request: Request, answer: Reply, why: str) -> None:
    up.script(answer)
    async with openai(up, max_event=64 * 1024, max_body=1024 * 1024) as model:
        _, events, failed = await run(model, request)
    assert isinstance(failed, Broken), failed
    assert why in str(failed)
    assert "世界" not in str(failed)
    assert "secret" not in str(failed)
    assert not any(isinstance(e, Done) for e in events)
    assert len(up.requests) == 1, "what was answered is not asked again"


async def test_null_content_to_the_end_is_broken_when_translated(up: Upstream) -> None:
    up.script(stream(chunk({"content": None}), END))
    async with openai(up) as model:
        assert isinstance((await run(model, TEXT))[2], Broken)


async def test_an_empty_string_is_an_answer(up: Upstream) -> None:
    up.script(chat(""))
    async with openai(up) as model:
        for request in (TEXT, STREAM, PLAIN):
            assert (await run(model, request))[2] is None


@STREAMED
async def test_what_came_before_the_cut_is_delivered_once(up: Upstream, request_: Request) -> None:
    up.script(stream(*WORDS, Wait(0.05), then=(RESET,)), chat("again"))
    async with openai(up) as model:
        text, _, failed = await run(model, request_)
    assert text == "你好, 世界 🌍"
    assert isinstance(failed, Broken)
    assert len(up.requests) == 1, "never retried after a byte"


@STREAMED
@pytest.mark.parametrize(
    ("told", "kind"),
    [
        ({"message": "slow down", "code": 429}, Overloaded),
        ({"message": "bad", "type": "x", "code": 400, "param": "p"}, Rejected),
        ({"message": "boom", "type": "server_error"}, Broken),
        ("just words", Broken),
    ],
)
async def test_an_error_inside_the_stream_is_typed_and_what_came_before_it_kept(
    up: Upstream, request_: Request, told: Any, kind: type[ModelError]
) -> None:
    up.script(stream(*WORDS, {"error": told}))
    async with openai(up) as model:
        text, _, failed = await run(model, request_)
    assert text == "你好, 世界 🌍"
    assert type(failed) is kind or isinstance(failed, kind)


# --- refusals ----------------------------------------------------------------------------------


@EVERY
async def test_a_400_keeps_param_code_type_and_message(up: Upstream, request_: Request) -> None:
    up.script(error(400, "no such size", kind="invalid_request_error", param="size", code="bad"))
    async with openai(up) as model:
        _, _, failed = await run(model, request_)
    assert isinstance(failed, Rejected)
    assert (failed.status, failed.param, failed.code) == (400, "size", "bad")
    assert failed.kind == "invalid_request_error"
    assert "no such size" in str(failed)
    assert len(up.requests) == 1


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (error(401), Unauthorized),
        (error(403), Unauthorized),
        (error(404), Rejected),
        (error(402), Rejected),
        (error(422), Rejected),
        (error(413), TooLong),
        (error(400, code="context_length_exceeded"), TooLong),
        (error(400, kind="exceed_context_size_error", code=400), TooLong),
        (error(400, "This model's maximum context length is 4096 tokens."), TooLong),
        (error(400, "the maximum context length is too long a phrase"), Rejected),
        (error(429), Overloaded),
        (error(503), Overloaded),
        (error(529), Overloaded),
        (error(500), Broken),
        (error(504), Broken),
        (html(502), Broken),
        (html(400), Rejected),
        (reply(b"", status=500), Broken),
        (reply(b'{"error": "plain words"}', status=400), Rejected),
        (
            reply(b'{"detail": [{"msg": "field required", "input": "PROMPT"}]}', status=422),
            Rejected,
        ),
        (reply(b"[]", status=400), Rejected),
        (reply(b'{"error": {"message": 5, "code": [1]}}', status=400), Rejected),
    ],
)
async def test_every_refusal_has_its_type(
    up: Upstream, answer: Reply, kind: type[ModelError]
) -> None:
    up.script(answer)
    async with openai(up, retries=0) as model:
        _, _, failed = await run(model, PLAIN)
    assert isinstance(failed, kind), failed
    assert "PROMPT" not in str(failed)


async def test_our_key_is_cut_out_of_what_the_server_echoes(
    up: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("K", "sk-abc123")
    up.script(
        error(401, "Incorrect API key provided: sk-abc123"),
        stream({"error": {"message": "key sk-abc123 expired"}}),
    )
    async with openai(up, key_env="K", retries=0) as model:
        for _ in range(2):
            _, _, failed = await run(model, STREAM)
            assert failed is not None
            assert "sk-abc123" not in str(failed)
            assert "[key]" in str(failed)


async def test_no_error_holds_the_prompt(up: Upstream) -> None:
    async with openai(up, retries=0) as model:
        for answer in (reset(), html(), error(500), reply(b"junk"), stream(done=False)):
            up.script(answer)
            for request in (STREAM, PLAIN):
                assert "secret" not in str((await run(model, request))[2])


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
    async with openai(up, timeout_first_token=0.2) as model:
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


# --- usage that cannot be ----------------------------------------------------------------------


@EVERY
@pytest.mark.parametrize("lie", [-1, 10**12, 2.5, "7", True, [1], 1e300])
async def test_an_impossible_count_is_unknown_and_warned_of(
    up: Upstream, request_: Request, lie: Any, caplog: pytest.LogCaptureFixture
) -> None:
    up.script(chat(usage={"prompt_tokens": lie, "completion_tokens": 3}))
    async with openai(up) as model:
        with caplog.at_level(logging.WARNING):
            _, events, failed = await run(model, request_)
    assert failed is None
    assert isinstance(events[-1], Done)
    assert events[-1].usage == Usage(completion_tokens=3)
    assert "impossible prompt_tokens" in caplog.text


@pytest.mark.parametrize("lie", ["lots", 5, [], {"prompt_tokens_details": 7}])
async def test_usage_of_a_wrong_shape_is_unknown(up: Upstream, lie: Any) -> None:
    up.script(chat(usage=lie))
    async with openai(up) as model:
        for request in (TEXT, STREAM, PLAIN):
            _, events, failed = await run(model, request)
            assert failed is None
            assert isinstance(events[-1], Done)
            assert events[-1].usage == Usage()


async def test_more_cached_than_asked_is_impossible(up: Upstream) -> None:
    details = {"cached_tokens": 99}
    up.script(chat(usage={"prompt_tokens": 9, "prompt_tokens_details": details}))
    async with openai(up) as model:
        assert (await collect(model, TEXT)).usage == Usage(prompt_tokens=9)


# --- many at once ------------------------------------------------------------------------------


async def test_fifty_at_once_do_not_mix(up: Upstream) -> None:
    def echo(seen: Any) -> Reply:
        return chat("re " + seen.json["messages"][0]["content"], delay=0.001)(seen)

    up.script(echo)
    async with openai(up) as model:
        answers = await asyncio.gather(*[collect(model, Request.ask(str(i))) for i in range(50)])
    assert [a.text for a in answers] == [f"re {i}" for i in range(50)]
