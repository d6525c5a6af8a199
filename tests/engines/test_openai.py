"""The openai engine against a well-behaved server: what is sent, what comes back."""

from __future__ import annotations

import json
import tomllib
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

from bicameral.engines import openai
from bicameral.engines.presets import presets
from bicameral.engines.upstream import check_url
from bicameral.errors import BicameralError, Broken, ConfigError, Unsupported
from bicameral.model import Model, collect
from bicameral.types import (
    Audio,
    Delta,
    Done,
    Embedding,
    Event,
    Image,
    JsonFormat,
    Message,
    Modality,
    Reach,
    Reasoning,
    Relay,
    Request,
    Sampling,
    Text,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
    Usage,
    Wire,
)
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


async def events_of(model: Model, request: Request) -> list[Event]:
    async with aclosing(model.run(request)) as events:
        return [e async for e in events]


def relayed(events: list[Event]) -> bytes:
    return b"".join(e.data for e in events if isinstance(e, Relay))


def done(events: list[Event]) -> Done:
    assert isinstance(events[-1], Done)
    assert sum(isinstance(e, Done) for e in events) == 1
    return events[-1]


# --- translated --------------------------------------------------------------------------------


async def test_an_answer(up: Upstream, model: Model) -> None:
    up.script(chat("Hello big world", reasoning="hm"))
    answer = await collect(model, HI)
    assert (answer.text, answer.reasoning, answer.reason) == ("Hello big world", "hm", "stop")
    assert answer.usage == Usage(prompt_tokens=7, completion_tokens=3)
    sent = up.requests[0].json
    assert sent["model"] == "fake"
    assert sent["messages"] == [{"role": "user", "content": "hi"}]
    assert sent["stream_options"] == {"include_usage": True}


async def test_the_connection_is_kept_and_the_model_that_served_is_told(
    up: Upstream, model: Model
) -> None:
    up.script(chat(model="fake-0613"))
    for _ in range(3):
        assert done(await events_of(model, HI)).served == "fake-0613"
    assert up.connections == 1


async def test_everything_a_request_may_say_is_sent(up: Upstream, model: Model) -> None:
    request = Request(
        messages=(
            Message("developer", (Text("be brief"),)),
            Message(
                "user",
                (
                    Text("look"),
                    Image(url="https://a.test/cat.png", detail="low"),
                    Image(data=b"\x89PNG..."),
                    Audio(b"snd", "wav"),
                ),
                name="ann",
            ),
            Message("assistant", (Reasoning("hm"), ToolCall("c1", "f", '{"x":1}'))),
            Message("tool", (ToolResult("c1", "42"), ToolResult("c2", "43"))),
        ),
        sampling=Sampling(
            max_tokens=5,
            temperature=0.0,
            top_p=0.5,
            seed=0,
            stop=("x",),
            frequency_penalty=0.1,
            presence_penalty=0.2,
            logit_bias={"3": 1.0},
            logprobs=True,
            top_logprobs=2,
        ),
        tools=(Tool("f", "does f", {"type": "object"}, True),),
        tool_choice=ToolChoice("function", "f"),
        parallel_tool_calls=False,
        format=JsonFormat({"type": "object"}, "shape", True),
        extra={"top_k": 3, "user": "u1"},
    )
    await collect(model, request)
    sent = up.requests[0].json
    image = {"url": "https://a.test/cat.png", "detail": "low"}
    assert sent.pop("messages") == [
        {"role": "system", "content": "be brief"},
        {
            "role": "user",
            "name": "ann",
            "content": [
                {"type": "text", "text": "look"},
                {"type": "image_url", "image_url": image},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORy4uLg=="}},
                {"type": "input_audio", "input_audio": {"data": "c25k", "format": "wav"}},
            ],
        },
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [
                {"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"x":1}'}}
            ],
        },
        {"role": "tool", "tool_call_id": "c1", "content": "42"},
        {"role": "tool", "tool_call_id": "c2", "content": "43"},
    ]
    tool = {"name": "f", "description": "does f", "parameters": {"type": "object"}, "strict": True}
    shape = {"name": "shape", "schema": {"type": "object"}, "strict": True}
    assert sent == {
        "model": "fake",
        "stream": True,
        "stream_options": {"include_usage": True},
        "max_tokens": 5,
        "temperature": 0.0,
        "top_p": 0.5,
        "seed": 0,
        "stop": ["x"],
        "frequency_penalty": 0.1,
        "presence_penalty": 0.2,
        "logit_bias": {"3": 1.0},
        "logprobs": True,
        "top_logprobs": 2,
        "tools": [{"type": "function", "function": tool}],
        "tool_choice": {"type": "function", "function": {"name": "f"}},
        "parallel_tool_calls": False,
        "response_format": {"type": "json_schema", "json_schema": shape},
        "top_k": 3,
        "user": "u1",
    }


async def test_extra_fields_never_replace_ours(up: Upstream, model: Model) -> None:
    await collect(model, Request.ask("hi", extra={"model": "other", "stream": False}))
    assert up.requests[0].json["model"] == "fake"
    assert up.requests[0].json["stream"] is True


async def test_tool_calls_come_in_fragments(up: Upstream, model: Model) -> None:
    def call(**fields: Any) -> dict[str, Any]:
        return chunk({"tool_calls": [fields]})

    up.script(
        stream(
            call(index=0, id="a", type="function", function={"name": "f", "arguments": ""}),
            call(index=0, function={"arguments": '{"x"'}),
            call(index=0, function={"arguments": ":1}"}),
            call(index=1, id="b", function={"name": "g", "arguments": "{}"}),
            chunk({}, finish="tool_calls"),
        )
    )
    answer = await collect(model, HI)
    assert answer.tool_calls == (ToolCall("a", "f", '{"x":1}', 0), ToolCall("b", "g", "{}", 1))
    assert answer.reason == "tool_calls"


async def test_tool_calls_without_an_index_are_told_apart_by_id(up: Upstream, model: Model) -> None:
    calls = [{"id": i, "function": {"name": n, "arguments": "{}"}} for i, n in ("af", "bg")]
    up.script(stream(chunk({"tool_calls": calls}), chunk({}, finish="tool_calls")))
    answer = await collect(model, HI)
    assert [(c.id, c.name) for c in answer.tool_calls] == [("a", "f"), ("b", "g")]


async def test_logprobs(up: Upstream, model: Model) -> None:
    rivals = [{"token": "hi", "logprob": -0.1}, {"token": "ho", "logprob": -2.5}]
    piece = chunk({"content": "hi"})
    token = {"token": "hi", "logprob": -0.1, "bytes": [1], "top_logprobs": rivals}
    piece["choices"][0]["logprobs"] = {"content": [token]}
    up.script(stream(piece, chunk({}, finish="stop")))
    answer = await collect(model, Request.ask("hi", sampling=Sampling(logprobs=True)))
    (drawn,) = answer.logprobs
    assert (drawn.token, drawn.logprob) == ("hi", -0.1)
    assert drawn.top == (("hi", -0.1), ("ho", -2.5))


@pytest.mark.parametrize("field", ["reasoning_content", "reasoning"])
async def test_reasoning_by_either_name(up: Upstream, model: Model, field: str) -> None:
    up.script(stream(chunk({field: "hm"}), chunk({"content": "yes"}), chunk({}, finish="stop")))
    answer = await collect(model, HI)
    assert (answer.reasoning, answer.text) == ("hm", "yes")


async def test_several_answers_are_refused_when_they_would_be_mixed(model: Model) -> None:
    with pytest.raises(Unsupported, match="n times") as caught:
        await events_of(model, Request.ask("hi", n=2))
    assert caught.value.param == "n"


@pytest.mark.parametrize(
    ("raw", "usage"),
    [
        (None, Usage()),
        ({"prompt_tokens": 0, "completion_tokens": 0}, Usage(prompt_tokens=0, completion_tokens=0)),
        ({"prompt_tokens": 5}, Usage(prompt_tokens=5)),
        (
            {
                "prompt_tokens": 5,
                "completion_tokens": 4,
                "prompt_tokens_details": {"cached_tokens": 2},
                "completion_tokens_details": {"reasoning_tokens": 3},
            },
            Usage(prompt_tokens=5, completion_tokens=4, cached_tokens=2, reasoning_tokens=3),
        ),
        (
            {"prompt_tokens": 5, "completion_tokens": 4, "prompt_cache_hit_tokens": 1},
            Usage(prompt_tokens=5, completion_tokens=4, cached_tokens=1),
        ),
        (
            {"prompt_tokens": 5, "completion_tokens": 4, "cached_tokens": 5},
            Usage(prompt_tokens=5, completion_tokens=4, cached_tokens=5),
        ),
    ],
)
async def test_usage_as_servers_report_it(
    up: Upstream, model: Model, raw: Any, usage: Usage
) -> None:
    up.script(chat(usage=raw))
    assert (await collect(model, HI)).usage == usage


async def test_usage_inside_the_choice_counts(up: Upstream, model: Model) -> None:
    last = chunk({}, finish="stop")
    last["choices"][0]["usage"] = {"prompt_tokens": 2, "completion_tokens": 1}
    up.script(stream(chunk({"content": "hi"}), last))
    assert (await collect(model, HI)).usage == Usage(prompt_tokens=2, completion_tokens=1)


async def test_embeddings(up: Upstream) -> None:
    async with opened("openai", url=up.url, model="e", kind="embeddings") as model:
        assert model.card.emits == {Modality.EMBEDDING}
        messages = tuple(Message("user", (Text(t),)) for t in "abc")
        request = Request(messages=messages, output=Modality.EMBEDDING, extra={"dimensions": 4})
        events = await events_of(model, request)
    vectors = [e.part for e in events if isinstance(e, Delta)]
    assert vectors == [Embedding((float(i),) * 4, i) for i in range(3)]
    assert done(events).usage.prompt_tokens == 3
    assert up.requests[0].path == "/v1/embeddings"
    sent = up.requests[0].json
    assert sent["input"] == ["a", "b", "c"]
    assert sent["dimensions"] == 4


async def test_too_few_embeddings_are_broken(up: Upstream) -> None:
    body = {"data": [{"index": 0, "embedding": [1.0]}], "model": "e"}
    up.script(reply(json.dumps(body).encode()))
    messages = (Message("user", (Text("a"),)), Message("user", (Text("b"),)))
    async with opened("openai", url=up.url, model="e", kind="embeddings") as model:
        with pytest.raises(Broken, match="2 embeddings"):
            await events_of(model, Request(messages=messages, output=Modality.EMBEDDING))


# --- relayed -----------------------------------------------------------------------------------

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
    assert up.requests[0].body == json.dumps(
        {**ODD, "model": "fake"}, separators=(",", ":")
    ).encode() or up.requests[0].json == {**ODD, "model": "fake"}
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
    assert up.requests[0].json == {"model": "e", "input": "a"}


# --- options -----------------------------------------------------------------------------------


async def test_the_key_is_sent_and_never_shown(
    up: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOME_KEY", "sk-very-secret")
    async with opened("openai", url=up.url, model="m", key_env="SOME_KEY") as model:
        await events_of(model, HI)
        assert "very-secret" not in repr(model.card)
    assert up.requests[0].headers["authorization"] == "Bearer sk-very-secret"


async def test_without_a_key_no_authorization_is_sent(up: Upstream, model: Model) -> None:
    await events_of(model, HI)
    assert "authorization" not in up.requests[0].headers


async def test_own_headers_are_sent(up: Upstream) -> None:
    headers = {"OpenAI-Organization": "org-1"}
    async with opened("openai", url=up.url, model="m", headers=headers) as model:
        await events_of(model, HI)
    assert up.requests[0].headers["openai-organization"] == "org-1"


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({}, "url: is missing"),
        ({"url": "ftp://a.test/v1"}, "http://"),
        ({"url": "a.test/v1"}, "http://"),
        ({"url": "http://u:p@a.test/v1"}, "key_env"),
        ({"preset": "deepsek"}, "did you mean 'deepseek'"),
        ({"url": "http://a.test/v1", "key_env": "NOT_SET_ANYWHERE"}, "NOT_SET_ANYWHERE"),
        ({"url": "http://a.test/v1", "headers": {"Authorization": "Bearer x"}}, "key_env"),
        ({"url": "http://a.test/v1", "headers": {"X": "a\r\nb"}}, "headers"),
        ({"url": "http://a.test/v1", "timeout_total": -1}, "timeout_total"),
        ({"url": "http://a.test/v1", "timout_total": 1}, "did you mean 'timeout_total'"),
    ],
)
async def test_options_that_cannot_work(keys: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        async with opened("openai", model="m", **keys):
            pass


@pytest.mark.parametrize(
    ("url", "reach"),
    [
        ("http://127.0.0.1:8000/v1", Reach.DEVICE),
        ("http://localhost:8000/v1", Reach.DEVICE),
        ("http://[::1]:8000/v1", Reach.DEVICE),
        ("http://10.0.0.5:8000/v1", Reach.PUBLIC),
        ("https://api.openai.com/v1", Reach.PUBLIC),
        ("https://localhost.evil.test/v1", Reach.PUBLIC),
    ],
)
async def test_reach_is_the_device_for_loopback_only(url: str, reach: Reach) -> None:
    async with opened("openai", model="m", url=url) as model:
        assert model.card.reach is reach


async def test_a_declared_reach_holds() -> None:
    async with opened("openai", model="m", url="http://10.0.0.5/v1", reach="site") as model:
        assert model.card.reach is Reach.SITE


# --- presets -----------------------------------------------------------------------------------


def test_every_preset_names_its_source_and_a_usable_url() -> None:
    for name, row in presets().items():
        check_url(name, row.url)
        assert row.source.startswith("https://"), name
        assert row.key_env or "127.0.0.1" in row.url, name


def test_presets_cover_the_servers_promised() -> None:
    path = Path(openai.__file__).with_name("presets.toml")
    assert set(tomllib.loads(path.read_text("utf-8"))) >= {
        "openai",
        "openrouter",
        "dashscope",
        "hunyuan",
        "glm",
        "spark",
        "kimi",
        "deepseek",
        "vllm",
        "vllm-ascend",
        "sglang",
        "mindie",
        "ollama",
        "llama-server",
    }


async def test_a_preset_gives_url_key_and_quirks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    async with opened("openai", model="m", preset="openai") as model:
        assert model.card.reach is Reach.PUBLIC
        assert model.card.owner == "OpenAI"


async def test_a_preset_can_be_moved_to_another_address(
    up: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    async with opened("openai", model="m", preset="openai", url=up.url) as model:
        await collect(model, Request.ask("hi", sampling=Sampling(max_tokens=9)))
        assert model.card.reach is Reach.DEVICE
    assert up.requests[0].json["max_completion_tokens"] == 9


def test_errors_are_ours() -> None:
    assert issubclass(ConfigError, BicameralError)
