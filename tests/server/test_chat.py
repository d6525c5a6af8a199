"""Chat over HTTP, whole and streamed, out of scripted models."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncGenerator
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest

from bicameral.config import Config, ServerOptions
from bicameral.server.serve import serving as serving_brain
from bicameral.types import Card, Delta, Event, Request, Text
from tests.server.client import HI, call, chat, raw, until
from tests.server.client import head as post_head
from tests.server.live import Live, serving

MODELS = """
[models.echo]
engine = "scripted"
price_input = "1"
price_output = "2"

[models.thinker]
engine = "scripted"
reasoning = "hm"
reply = "yes indeed"

[models.silent]
engine = "scripted"
usage = false

[models.dying]
engine = "scripted"
die_after = 2

[models.slow]
engine = "scripted"
reply = "a b c d e f g h i j k l m n o p q r s t u v w x y z"
delay = 0.1

[models.tools]
engine = "scripted"
calls_tools = true
tool_arguments = '{"city": "Bern"}'

[models.plain]
engine = "scripted"
features = []

[models.sly]
engine = "scripted"
reply = "a\\n\\ndata: [DONE]\\n\\nevent: x\\r\\n\\r\\nb"

[models.busy]
engine = "scripted"
fail = "overloaded"
retry_after = 7.0

[models.down]
engine = "scripted"
fail = "unreachable"

[minds.default]
policy = "route"
members = ["down", "echo"]

[minds.dark]
policy = "route"
members = ["down", "busy"]
"""
TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}


@pytest.fixture
async def live():
    async with serving(MODELS) as live:
        yield live


async def test_a_whole_answer(live) -> None:
    got = await chat(live)
    assert got.status == 200
    assert got.headers["content-type"] == "application/json"
    assert got.headers["x-bicameral-model"] == "echo"
    assert re.fullmatch(r"req_[0-9a-f]{24}", got.headers["x-request-id"])
    answer = got.json
    assert answer["object"] == "chat.completion"
    assert answer["model"] == "echo"
    assert "bicameral" not in answer
    assert answer["choices"] == [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "hello my friend", "refusal": None},
            "logprobs": None,
            "finish_reason": "stop",
        }
    ]
    assert answer["usage"]["total_tokens"] == 6


async def test_a_stream(live) -> None:
    got = await chat(live, stream=True)
    assert got.headers["content-type"].startswith("text/event-stream")
    assert got.headers["x-bicameral-model"] == "echo"
    assert got.text == "hello my friend"
    assert got.chunks[0]["choices"][0]["delta"]["role"] == "assistant"
    assert got.chunks[-1]["choices"][0]["finish_reason"] == "stop"
    assert len({chunk["id"] for chunk in got.chunks}) == 1
    assert not any("usage" in chunk or "bicameral" in chunk for chunk in got.chunks)


async def test_usage_comes_only_if_asked_for(live) -> None:
    got = await chat(live, stream=True, stream_options={"include_usage": True})
    *others, last = got.chunks
    assert last["choices"] == []
    assert last["usage"]["completion_tokens"] == 3
    assert all(chunk["usage"] is None and chunk["choices"] for chunk in others)


async def test_unknown_usage_is_null_not_zero(live) -> None:
    assert (await chat(live, model="silent")).json["usage"] is None
    got = await chat(live, model="silent", stream=True, stream_options={"include_usage": True})
    assert got.chunks[-1]["usage"] is None


async def test_the_mind_says_who_spoke(live) -> None:
    got = await chat(live, model="default")
    assert got.json["model"] == "default"
    assert got.headers["x-bicameral-model"] == "echo"


async def test_explain_tells_the_calls(live) -> None:
    whole = (await chat(live, {"x-bicameral-explain": "1"}, model="default")).json["bicameral"]
    stream = await chat(live, {"x-bicameral-explain": "1"}, model="default", stream=True)
    for told in (whole, stream.chunks[-1]["bicameral"]):
        assert [call["model"] for call in told["calls"]] == ["down", "echo"]
        assert told["calls"][0]["error"]
        assert told["calls"][1]["cost"] == 9000
        assert "route" in told["why"]


async def test_reasoning_stays_apart(live) -> None:
    message = (await chat(live, model="thinker")).json["choices"][0]["message"]
    assert (message["reasoning_content"], message["content"]) == ("hm", "yes indeed")
    got = await chat(live, model="thinker", stream=True)
    deltas = [c["delta"] for chunk in got.chunks for c in chunk["choices"]]
    assert deltas[0] == {"role": "assistant", "content": None, "reasoning_content": "hm"}
    assert got.text == "yes indeed"


async def test_a_tool_call_whole_and_streamed(live) -> None:
    got = (await chat(live, model="tools", tools=[TOOL])).json["choices"][0]
    function = {"name": "weather", "arguments": '{"city": "Bern"}'}
    assert got["message"]["content"] is None
    assert got["finish_reason"] == "tool_calls"
    assert got["message"]["tool_calls"] == [
        {"id": "call_0", "type": "function", "function": function}
    ]
    stream = await chat(live, model="tools", tools=[TOOL], stream=True)
    parts = [
        part
        for chunk in stream.chunks
        for choice in chunk["choices"]
        for part in choice["delta"].get("tool_calls", ())
    ]
    assert "".join(part["function"]["arguments"] for part in parts) == '{"city": "Bern"}'
    assert [part["id"] for part in parts if "id" in part] == ["call_0"]
    assert parts[0]["function"]["name"] == "weather"


async def test_logprobs(live) -> None:
    whole = (await chat(live, logprobs=True)).json["choices"][0]["logprobs"]["content"]
    assert [token["token"] for token in whole] == ["hello ", "my ", "friend"]
    assert whole[0]["bytes"] == list(b"hello ")
    got = await chat(live, logprobs=True, stream=True)
    tokens = [c["logprobs"] for chunk in got.chunks for c in chunk["choices"] if c["logprobs"]]
    assert [token["content"][0] for token in tokens] == whole


@pytest.mark.parametrize("stream", [False, True])
async def test_text_that_looks_like_events_stays_text(live, stream: bool) -> None:
    got = await chat(live, model="sly", stream=stream)
    text = got.text if stream else got.json["choices"][0]["message"]["content"]
    assert text == "a\n\ndata: [DONE]\n\nevent: x\r\n\r\nb"


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("fields", "status", "param", "code"),
    [
        ({"model": "ecko"}, 404, "model", "model_not_found"),
        ({"model": ""}, 404, "model", "model_not_found"),
        ({"model": None}, 400, "model", None),
        ({"messages": []}, 400, "messages", None),
        ({"model": "plain", "tools": [TOOL]}, 400, "tools", "unsupported"),
        ({"model": "plain", "verbosity": "low"}, 400, "verbosity", "unsupported"),
        ({"model": "default", "verbosity": "low"}, 400, "verbosity", "unsupported"),
        ({"model": "busy"}, 429, None, "overloaded"),
        ({"model": "down"}, 502, None, "unreachable"),
        ({"model": "dark"}, 503, None, "all_failed"),
    ],
)
async def test_an_error_before_the_first_event_is_a_status(
    live, stream: bool, fields, status: int, param: str | None, code: str | None
) -> None:
    got = await chat(live, stream=stream, **fields)
    assert got.status == status
    assert got.headers["content-type"] == "application/json"
    assert got.headers["x-request-id"]
    assert set(got.error) == {"message", "type", "param", "code"}
    assert (got.error["param"], got.error["code"]) == (param, code)


async def test_an_unknown_model_names_the_nearest(live) -> None:
    assert "did you mean 'echo'?" in (await chat(live, model="ecko")).error["message"]


@pytest.mark.parametrize(("model", "wait"), [("busy", "7"), ("dark", "7")])
async def test_retry_after_is_passed_on(live, model: str, wait: str) -> None:
    assert (await chat(live, model=model)).headers["retry-after"] == wait


async def test_a_stream_that_dies_ends_with_an_error_event(live) -> None:
    got = await chat(live, model="dying", stream=True)
    assert got.status == 200
    *said, last = got.data
    assert [json.loads(s)["choices"][0]["delta"]["content"] for s in said] == ["hello ", "my "]
    assert json.loads(last)["error"]["code"] == "broken_answer"
    whole = await chat(live, model="dying")
    assert (whole.status, whole.error["code"]) == (502, "broken_answer")


async def test_the_reach_is_kept(live) -> None:
    assert (await chat(live, {"x-bicameral-reach": "device"})).status == 200
    assert (await chat(live, {"x-bicameral-reach": "nowhere"})).status == 400


async def test_a_budget_that_cannot_hold_is_refused(live) -> None:
    got = await chat(live, {"x-bicameral-budget": "0.000000001"}, max_tokens=100)
    assert (got.status, got.error["code"]) == (402, "budget_exceeded")


async def test_a_request_id_is_taken_over_if_harmless(live) -> None:
    assert (await chat(live, {"x-request-id": "a-B_9.z"})).headers["x-request-id"] == "a-B_9.z"
    for bad in ("x" * 65, "a b", "a;b", "é"):
        assert (await chat(live, {"x-request-id": bad})).headers["x-request-id"][:4] == "req_"


@pytest.mark.parametrize("stream", [False, True])
async def test_a_client_that_hangs_up_cancels_the_model(live, stream: bool) -> None:
    slow = live.scripted("slow")
    body = json.dumps({"model": "slow", "messages": HI, "stream": stream}).encode()
    connections = [await raw(live) for _ in range(10)]
    for _, writer in connections:
        writer.write(post_head(live, len(body)) + body)
    await until(lambda: slow.running == 10)
    if stream:
        await connections[0][0].readuntil(b"data: ")
    for _, writer in connections:
        writer.close()
    await until(lambda: slow.cancelled == 10, 2.0)
    assert slow.running == 0
    await until(lambda: not live.server.app.desk.tasks, 2.0)


async def test_the_stream_is_not_held_back(live) -> None:
    body = json.dumps({"model": "slow", "messages": HI, "stream": True}).encode()
    reader, writer = await raw(live)
    writer.write(post_head(live, len(body)) + body)
    await asyncio.wait_for(reader.readuntil(b'"content":"a '), 5)
    assert live.scripted("slow").running == 1
    writer.close()


async def test_two_requests_in_one_packet_are_answered_in_turn(live) -> None:
    bodies = [
        json.dumps({"model": "echo", "messages": [{"role": "user", "content": text}]}).encode()
        for text in ("first", "second")
    ]
    reader, writer = await raw(live)
    writer.write(b"".join(post_head(live, len(body)) + body for body in bodies))
    for text in (b"first", b"second"):
        assert text in await asyncio.wait_for(reader.readuntil(b"}}}"), 5)
    writer.close()


async def test_the_other_routes(live) -> None:
    models = (await call(live, "GET", "/v1/models")).json
    assert [m["id"] for m in models["data"]][:3] == ["default", "dark", "echo"]
    mind = (await call(live, "GET", "/v1/models/default")).json["bicameral"]
    assert mind["members"] == ["down", "echo"]
    assert mind["engine"] == "route"
    assert (await call(live, "GET", "/v1/models/ecko")).error["code"] == "model_not_found"
    assert (await call(live, "GET", "/healthz")).json == {"status": "ok"}
    assert (await call(live, "GET", "/readyz")).json["status"] == "ready"


async def test_wrong_paths_and_methods_are_told_in_openai_form(live) -> None:
    lost = await call(live, "GET", "/v1/nothing")
    assert (lost.status, lost.error["code"]) == (404, "unknown_url")
    for path in ("/v1/chat/completions", "/v1/embeddings"):
        wrong = await call(live, "GET", path)
        assert (wrong.status, wrong.headers["allow"]) == (405, "POST")
        assert wrong.error["code"] == "method_not_allowed"
    allow = (await call(live, "DELETE", "/v1/models")).headers["allow"]
    assert set(allow.split(", ")) == {"GET", "HEAD"}
    assert (await call(live, "POST", "/v1/chat/completions/", {})).status == 404


class Endless:
    """Breaks the contract: its stream has no Done."""

    config: ClassVar = Config()
    models: ClassVar = {"m": SimpleNamespace(card=Card(name="m", engine="endless"))}
    till: ClassVar = None
    traces: ClassVar = None

    def model(self, name: str) -> None:
        assert name == "m"

    async def run(self, request: Request, name: str, *, caller: str) -> AsyncGenerator[Event]:
        yield Delta(Text("a"))


async def test_an_answer_without_an_end_is_an_error() -> None:
    brain: Any = Endless()
    async with serving_brain(brain, ServerOptions(port=0)) as server:
        live = Live(server, brain)
        assert (await chat(live, model="m")).error["code"] == "broken_answer"
        got = await chat(live, model="m", stream=True)
        assert json.loads(got.data[-1])["error"]["code"] == "broken_answer"
