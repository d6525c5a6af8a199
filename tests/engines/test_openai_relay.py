"""A request that came by wire goes on untouched, and so does its answer."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from bicameral.model import Model
from bicameral.types import (
    Event,
    Modality,
    Relay,
    Request,
    Usage,
    Wire,
)
from tests.engines.asking import done, events_of
from tests.engines.models import opened
from tests.upstream import Upstream, chat, chunk, completion, event, reply, stream

HI = Request.ask("hi")


@pytest.fixture
async def up() -> AsyncIterator[Upstream]:
    async with Upstream() as upstream:
        yield upstream


@pytest.fixture
async def model(up: Upstream) -> AsyncIterator[Model]:
    async with opened("openai", url=up.url, model="fake", accepts=["text", "image", "audio"]) as m:
        yield m


def wired(body: dict[str, Any], *, include_usage: bool = False) -> Request:
    raw = json.dumps(body).encode()
    wire = Wire(raw, bool(body.get("stream")), include_usage)
    return Request.ask("hi", wire=wire)


def relayed(events: list[Event]) -> bytes:
    return b"".join(e.data for e in events if isinstance(e, Relay))


ODD = {
    "model": "mind",
    "messages": [{"role": "user", "content": "h\u00ed", "cache_control": {"type": "ephemeral"}}],
    "top_k": 3,
    "verbosity": "low",
    "seed": 12345678901234567890,
    "metadata": {"a": "b"},
    "made_up_field": [1, {"deep": None}],
}


async def test_a_body_goes_on_untouched_but_for_the_model(up: Upstream, model: Model) -> None:
    await events_of(model, wired(ODD))
    assert up.requests[0].json == {**ODD, "model": "fake"}
    assert list(up.requests[0].json) == list(ODD)
    assert b'"h\\u00ed"' in up.requests[0].body, "values keep their bytes"


async def test_a_plain_answer_comes_back_byte_for_byte(up: Upstream, model: Model) -> None:
    body = json.dumps({**completion("Hi"), "service_tier": "x", "cost": 1e-7}, indent=1).encode()
    up.script(reply(body))
    events = await events_of(model, wired(ODD))
    assert relayed(events) == body
    assert done(events).usage == Usage(prompt_tokens=7, completion_tokens=3)
    assert done(events).served == "fake-1"


async def test_a_stream_comes_back_event_for_event(up: Upstream, model: Model) -> None:
    odd = {**chunk({"content": "x", "reasoning_content": "y", "zz": 1}), "provider": "p"}
    pieces = [event(odd), event('{"choices" : [ ] }'), event(chunk({}, finish="length"))]
    up.script(stream(*pieces))
    events = await events_of(model, wired({**ODD, "stream": True}))
    assert relayed(events) == b"".join(pieces)
    assert done(events).reason == "length"


async def test_usage_is_always_asked_for_and_stripped_unless_wanted(
    up: Upstream, model: Model
) -> None:
    up.script(chat("Hello"))
    asked = {**ODD, "stream": True, "stream_options": {"include_usage": True}}
    kept = await events_of(model, wired(asked, include_usage=True))
    stripped = await events_of(model, wired({**ODD, "stream": True}))
    other = {**ODD, "stream": True, "stream_options": {"include_obfuscation": False}}
    await events_of(model, wired(other))
    nulled = {**ODD, "stream": True, "stream_options": None}
    await events_of(model, wired(nulled))
    assert b'"usage"' in relayed(kept)
    assert b'"usage"' not in relayed(stripped)
    assert done(kept).usage == done(stripped).usage == Usage(prompt_tokens=7, completion_tokens=3)
    assert up.requests[0].json == {**asked, "model": "fake"}
    assert [r.json["stream_options"] for r in up.requests[1:]] == [
        {"include_usage": True},
        {"include_obfuscation": False, "include_usage": True},
        {"include_usage": True},
    ]


async def test_usage_on_a_chunk_with_choices_counts_and_the_chunk_stays(
    up: Upstream, model: Model
) -> None:
    usage = {"prompt_tokens": 2, "completion_tokens": 1}
    up.script(stream(chunk({"content": "hi"}), chunk({}, finish="stop", usage=usage)))
    events = await events_of(model, wired({**ODD, "stream": True}))
    assert done(events).usage == Usage(prompt_tokens=2, completion_tokens=1)
    assert b'"finish_reason": "stop"' in relayed(events)


async def test_a_server_that_refuses_stream_options_is_not_sent_them(up: Upstream) -> None:
    async with opened("openai", url=up.url, model="m", ask_usage=False) as model:
        await events_of(model, wired({"model": "x", "messages": [], "stream": True}))
        await events_of(model, HI)
    assert all("stream_options" not in r.json for r in up.requests)


async def test_headers_worth_passing_on_come_with_the_first_relay_only(
    up: Upstream, model: Model
) -> None:
    up.script(
        chat(
            x_ratelimit_remaining_tokens="99",
            openai_processing_ms="12",
            x_request_id="r-1",
            set_cookie="a=b",
            server="secret",
        )
    )
    for body in ({**ODD, "stream": True}, ODD):
        relays = [e for e in await events_of(model, wired(body)) if isinstance(e, Relay)]
        assert set(relays[0].headers) == {
            ("x-ratelimit-remaining-tokens", "99"),
            ("openai-processing-ms", "12"),
            ("x-upstream-request-id", "r-1"),
        }
        assert all(r.headers == () for r in relays[1:])


async def test_a_large_body_is_relayed_whole(up: Upstream, model: Model) -> None:
    text = "汉" * 700_000
    up.script(chat(text))
    body = {"model": "x", "messages": [{"role": "user", "content": text}]}
    events = await events_of(model, wired(body))
    assert up.requests[0].json["messages"] == body["messages"]
    assert json.loads(relayed(events))["choices"][0]["message"]["content"] == text


async def test_embeddings_are_relayed(up: Upstream) -> None:
    async with opened("openai", url=up.url, model="e", kind="embeddings") as model:
        wire = Wire(b'{"model":"x","input":"a"}', False, False)
        request = Request.ask("a", output=Modality.EMBEDDING, wire=wire)
        events = await events_of(model, request)
    assert json.loads(relayed(events))["data"][0]["embedding"] == [0.0] * 4
    assert done(events).usage.completion_tokens == 0
    assert up.requests[0].json == {"model": "e", "input": "a"}
