"""The openai engine against a server that answers nonsense: relayed and translated."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from typing import Any

import pytest

from bicameral.errors import (
    Broken,
    ModelError,
    Overloaded,
    Rejected,
    TooLong,
    Unauthorized,
)
from bicameral.model import collect
from bicameral.types import Done, Request, Usage
from tests.engines.asking import END, EVERY, PLAIN, STREAM, STREAMED, TEXT, WORDS, openai, run
from tests.upstream import (
    CLOSE,
    HANG,
    RESET,
    Reply,
    Upstream,
    Wait,
    chat,
    chunk,
    chunked,
    completion,
    error,
    event,
    html,
    reply,
    reset,
    stream,
)


@pytest.fixture
async def up() -> AsyncIterator[Upstream]:
    async with Upstream() as upstream:
        yield upstream


# --- odd but whole streams ---------------------------------------------------------------------

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
