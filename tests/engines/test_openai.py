"""A request written anew for an OpenAI server, and its answer read into Deltas."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from bicameral.errors import Broken, Unsupported
from bicameral.model import Model, collect
from bicameral.types import (
    Audio,
    Delta,
    Embedding,
    Image,
    JsonFormat,
    Message,
    Modality,
    Reasoning,
    Request,
    Sampling,
    Text,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
    Usage,
)
from tests.engines.asking import done, events_of
from tests.engines.models import opened
from tests.upstream import Upstream, chat, chunk, reply, stream

HI = Request.ask("hi")


@pytest.fixture
async def up() -> AsyncIterator[Upstream]:
    async with Upstream() as upstream:
        yield upstream


@pytest.fixture
async def model(up: Upstream) -> AsyncIterator[Model]:
    async with opened("openai", url=up.url, model="fake", accepts=["text", "image", "audio"]) as m:
        yield m


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


async def test_a_nested_field_is_refused_where_the_body_is_written_anew(model: Model) -> None:
    request = Request.ask("hi", extra={"messages[].content[].x": 1, "top_k": 4})
    with pytest.raises(Unsupported) as caught:
        await events_of(model, request)
    assert caught.value.param == "messages[].content[].x"


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
        ({"cost": 0.00014105}, Usage(cost=141_050)),
        ({"cost": 1e-9}, Usage(cost=1)),
        ({"cost": 0}, Usage(cost=0)),
        ({"cost": 0.1, "is_byok": False, "cost_details": {}}, Usage(cost=10**8)),
        (
            {"cost": 0.01, "is_byok": True, "cost_details": {"upstream_inference_cost": 0.2}},
            Usage(cost=210_000_000),
        ),
        ({"cost": 0.01, "is_byok": True}, Usage()),  # what its own key was charged is not told
        ({"cost": -0.1}, Usage()),
        ({"cost": 10**12}, Usage()),
        ({"cost": True}, Usage()),
        ({"cost": {"total_cost": 0.1}}, Usage()),
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
    assert done(events).usage == Usage(prompt_tokens=3, completion_tokens=0)
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
