"""The anthropic engine against a fake Messages API: what is sent, what comes back, what breaks."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import pytest

from bicameral.errors import (
    ConfigError,
    RequestError,
    Unsupported,
)
from bicameral.model import Model, collect
from bicameral.types import (
    Done,
    Feature,
    Finish,
    Image,
    JsonFormat,
    Message,
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
from tests.messages_api import begin, delta, end, message, start, words
from tests.upstream import Upstream

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


# --- what comes back ---------------------------------------------------------------------------


async def test_an_answer_with_thought_and_usage(up: Upstream, model: Model) -> None:
    up.script(
        message(
            start(
                input_tokens=3,
                cache_creation_input_tokens=10,
                cache_read_input_tokens=20,
                output_tokens=1,
            ),
            begin(0, type="thinking", thinking=""),
            delta(0, type="thinking_delta", thinking="hm"),
            delta(0, type="signature_delta", signature="abc"),
            *words("Hello ", "世界", index=1),
        )
    )
    answer = await collect(model, HI)
    assert (answer.text, answer.reasoning, answer.reason) == ("Hello 世界", "hm", "stop")
    assert answer.usage == Usage(prompt_tokens=33, completion_tokens=4, cached_tokens=20)


async def test_one_byte_packets_and_crlf_change_nothing(up: Upstream, model: Model) -> None:
    up.script(message(start(input_tokens=3), *words("Hello ", "世界"), packet=1))
    assert (await collect(model, HI)).text == "Hello 世界"


async def test_the_served_model_is_told(up: Upstream, model: Model) -> None:
    up.script(message(start(input_tokens=1), *words("x")))
    async with aclosing(model.run(HI)) as events:
        last = [e async for e in events][-1]
    assert isinstance(last, Done)
    assert last.served == "claude-1"


async def test_usage_without_cache_fields_and_none_at_all(up: Upstream, model: Model) -> None:
    none = {"type": "message_delta", "delta": {"stop_reason": "end_turn"}}
    up.script(
        message(start(input_tokens=3, cache_read_input_tokens=None), *words("x")),
        message(start(), delta(0, type="text_delta", text="x"), none),
        message(start(input_tokens=-5), *words("x")),
        message(
            start(input_tokens=3, cache_read_input_tokens=9, cache_creation_input_tokens=None),
            *words("x"),
        ),
    )
    assert (await collect(model, HI)).usage == Usage(prompt_tokens=3, completion_tokens=4)
    assert (await collect(model, HI)).usage == Usage()
    assert (await collect(model, HI)).usage == Usage(completion_tokens=4)
    cached = Usage(prompt_tokens=12, completion_tokens=4, cached_tokens=9)
    assert (await collect(model, HI)).usage == cached


async def test_tool_calls_are_numbered_by_call_not_by_block(up: Upstream, model: Model) -> None:
    up.script(
        message(
            start(input_tokens=1),
            *words("I look.")[:-2],
            begin(1, type="tool_use", id="t1", name="f", input={}),
            delta(1, type="input_json_delta", partial_json='{"x"'),
            delta(1, type="input_json_delta", partial_json=":1}"),
            begin(2, type="tool_use", id="t2", name="g", input={}),
            delta(2, type="input_json_delta", partial_json="{}"),
            *end("tool_use", output_tokens=9),
        )
    )
    answer = await collect(model, HI)
    assert answer.tool_calls == (ToolCall("t1", "f", '{"x":1}', 0), ToolCall("t2", "g", "{}", 1))
    assert answer.reason == "tool_calls"


@pytest.mark.parametrize(
    ("said", "ours"),
    [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("max_tokens", "length"),
        ("model_context_window_exceeded", "length"),
        ("refusal", "content_filter"),
        ("something_new", "stop"),
    ],
)
async def test_stop_reasons(up: Upstream, model: Model, said: str, ours: Finish) -> None:
    up.script(message(start(input_tokens=1), *words("x", reason=said)))
    assert (await collect(model, HI)).reason == ours


async def test_a_wire_is_answered_with_deltas(up: Upstream, model: Model) -> None:
    up.script(message(start(input_tokens=1), *words("x")))
    request = Request.ask("hi", wire=Wire(b"{}", True, False))
    async with aclosing(model.run(request)) as events:
        assert not any([isinstance(e, Relay) async for e in events])


# --- what is sent ------------------------------------------------------------------------------


async def test_everything_a_request_may_say_is_sent(up: Upstream, model: Model) -> None:
    up.script(message(start(input_tokens=1), *words("x")))
    request = Request(
        messages=(
            Message("system", (Text("be brief"),)),
            Message("developer", (Text("be kind"),)),
            Message("user", (Text("look"), Image(url="https://a.test/c.png"))),
            Message("user", (Image(data=b"GIF89a"),)),
            Message("assistant", (Reasoning("hm"), Text("so"), ToolCall("t1", "f", '{"x":1}'))),
            Message("tool", (ToolResult("t1", "42"),)),
            Message("tool", (ToolResult("t2", "43"),)),
        ),
        sampling=Sampling(max_tokens=5, temperature=0.5, top_p=0.9, stop=("x", "y")),
        tools=(Tool("f", "does f", {"type": "object"}), Tool("g")),
        tool_choice=ToolChoice("required"),
        parallel_tool_calls=False,
        format=JsonFormat({"type": "object"}),
        extra={"top_k": 3, "cache_control": {"type": "ephemeral"}, "user": "u1", "store": True},
    )
    answer = await collect(model, request)
    assert answer.error is None
    sent = up.requests[0]
    assert sent.path == "/v1/messages"
    assert sent.headers["x-api-key"] == "sk-ant-1"
    assert sent.headers["anthropic-version"] == "2023-06-01"
    assert "authorization" not in sent.headers
    gif = {"type": "base64", "media_type": "image/gif", "data": "R0lGODlh"}
    assert sent.json == {
        "model": "claude",
        "max_tokens": 5,
        "stream": True,
        "system": "be brief\n\nbe kind",
        "messages": [
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "look"},
                    {"type": "image", "source": {"type": "url", "url": "https://a.test/c.png"}},
                    {"type": "image", "source": gif},
                ],
            },
            {
                "role": "assistant",
                "content": [
                    {"type": "text", "text": "so"},
                    {"type": "tool_use", "id": "t1", "name": "f", "input": {"x": 1}},
                ],
            },
            {
                "role": "user",
                "content": [
                    {"type": "tool_result", "tool_use_id": "t1", "content": "42"},
                    {"type": "tool_result", "tool_use_id": "t2", "content": "43"},
                ],
            },
        ],
        "temperature": 0.5,
        "top_p": 0.9,
        "stop_sequences": ["x", "y"],
        "tools": [
            {"name": "f", "description": "does f", "input_schema": {"type": "object"}},
            {"name": "g", "input_schema": {"type": "object", "properties": {}}},
        ],
        "tool_choice": {"type": "any", "disable_parallel_tool_use": True},
        "output_config": {"format": {"type": "json_schema", "schema": {"type": "object"}}},
        "metadata": {"user_id": "u1"},
        "top_k": 3,
        "cache_control": {"type": "ephemeral"},
    }


@pytest.mark.parametrize(
    ("choice", "parallel", "sent"),
    [
        (None, None, None),
        (ToolChoice("auto"), None, {"type": "auto"}),
        (ToolChoice("none"), False, {"type": "none"}),
        (ToolChoice("function", "f"), None, {"type": "tool", "name": "f"}),
        (None, False, {"type": "auto", "disable_parallel_tool_use": True}),
    ],
)
async def test_tool_choices(
    up: Upstream, model: Model, choice: ToolChoice | None, parallel: bool | None, sent: Any
) -> None:
    up.script(message(start(input_tokens=1), *words("x")))
    tools = (Tool("f"),)
    await collect(
        model, Request.ask("hi", tools=tools, tool_choice=choice, parallel_tool_calls=parallel)
    )
    assert up.requests[0].json.get("tool_choice") == sent


async def test_max_tokens_comes_from_the_options_if_not_asked(up: Upstream) -> None:
    up.script(message(start(input_tokens=1), *words("x")))
    async with opened("anthropic", url=up.url, model="c", max_tokens=77) as model:
        await collect(model, HI)
    assert up.requests[0].json["max_tokens"] == 77


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"sampling": Sampling(seed=1)}, "seed"),
        ({"sampling": Sampling(logprobs=True)}, "logprobs"),
        ({"sampling": Sampling(logit_bias={"1": 1.0})}, "logit_bias"),
        ({"sampling": Sampling(presence_penalty=1.0)}, "presence_penalty"),
        ({"n": 2}, "n"),
        ({"format": JsonFormat()}, "response_format"),
        ({"extra": {"verbosity": "low"}}, "verbosity"),
    ],
)
async def test_what_the_api_lacks_is_refused_by_name_and_not_sent(
    up: Upstream, model: Model, fields: dict[str, Any], param: str
) -> None:
    with pytest.raises(Unsupported) as caught:
        await anext(model.run(Request.ask("hi", **fields)))
    assert caught.value.param == param
    assert up.requests == []


async def test_tool_arguments_that_are_not_json_are_the_callers_fault(
    up: Upstream, model: Model
) -> None:
    messages = (Message("user", (Text("x"),)), Message("assistant", (ToolCall("t", "f", "{x"),)))
    with pytest.raises(RequestError, match="not JSON"):
        await anext(model.run(Request(messages=messages)))
    assert up.requests == []


# --- options -----------------------------------------------------------------------------------


async def test_the_card() -> None:
    async with opened("anthropic", model="c", price_input="3", price_output="15") as model:
        card = model.card
    assert card.reach is Reach.PUBLIC
    assert card.features == {Feature.TOOLS, Feature.STOP, Feature.JSON_SCHEMA}
    assert card.price is not None
    assert (card.owner, card.serves) == ("Anthropic", "c")


async def test_without_its_key_it_does_not_open(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ANTHROPIC_API_KEY")
    with pytest.raises(ConfigError, match="ANTHROPIC_API_KEY"):
        async with opened("anthropic", model="c"):
            pass


@pytest.mark.parametrize(("key", "value"), [("features", ["seed"]), ("accepts", ["audio"])])
async def test_what_the_api_lacks_cannot_be_claimed(key: str, value: list[str]) -> None:
    with pytest.raises(ConfigError, match=key):
        async with opened("anthropic", model="c", **{key: value}):
            pass
