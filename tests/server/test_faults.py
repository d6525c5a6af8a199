"""What other gateways get wrong between a client and an upstream; here end to end."""

from __future__ import annotations

import asyncio
import json

import pytest

from tests import upstream
from tests.server.client import HI, call, chat, raw, until
from tests.server.client import head as post_head
from tests.server.live import serving
from tests.upstream import CLOSE, HANG, RESET, Upstream

CONFIG = """
[models.far]
engine = "openai"
url = "{url}"
model = "fake-1"
retries = 0

[minds.default]
policy = "route"
members = ["far"]
"""
EXTRA = {
    "verbosity": "low", "user": "u", "metadata": {"a": "b"}, "top_k": 4, "min_p": 0.25,
    "repetition_penalty": 1.5, "reasoning_effort": "low", "service_tier": "auto", "store": False,
    "prediction": {"type": "content", "content": "x"}, "top_a": 1, "typical_p": 0.5,
    "safety_identifier": "s", "prompt_cache_key": "k", "vendor": {"deep": [1, None, {"x": 1.50}]},
}  # fmt: skip


@pytest.fixture
async def far():
    async with Upstream() as far:
        yield far


@pytest.fixture
async def live(far):
    async with serving(CONFIG.format(url=far.url)) as live:
        yield live


async def ask(live, **fields):
    return await chat(live, **{"model": "default", **fields})


@pytest.mark.parametrize("stream", [False, True])
async def test_fifteen_unmodelled_fields_arrive_untouched(live, far, stream: bool) -> None:
    assert (await ask(live, stream=stream, **EXTRA)).status == 200
    sent = far.requests[-1].json
    assert {key: sent[key] for key in EXTRA} == EXTRA
    assert set(sent) - set(EXTRA) <= {"model", "messages", "stream", "stream_options"}
    assert sent["model"] == "fake-1"


async def test_the_body_of_the_answer_survives(live, far) -> None:
    body = upstream.completion("hi", service_tier="flex", cost=0.1, vendor={"a": [1]})
    body["choices"][0] |= {"stop_reason": 3}
    body["choices"][0]["message"] |= {"annotations": [], "mood": "good"}
    far.script(upstream.reply(json.dumps(body, indent=1).encode()))
    got = await ask(live)
    assert got.body == json.dumps(body, indent=1).encode()
    assert got.headers["x-bicameral-model"] == "far"


async def test_explain_is_added_to_a_relayed_body(live) -> None:
    got = await chat(live, {"x-bicameral-explain": "1"}, model="default")
    assert got.json["choices"][0]["message"]["content"] == "Hello world"
    assert got.json["bicameral"]["calls"][0]["model"] == "far"


async def test_reasoning_survives_in_streams(live, far) -> None:
    far.script(upstream.chat("so", reasoning="thinking"))
    deltas = [c["delta"] for k in (await ask(live, stream=True)).chunks for c in k["choices"]]
    assert {"reasoning_content": "thinking"} in deltas


@pytest.mark.parametrize("stream", [False, True])
async def test_a_429_keeps_its_retry_after(live, far, stream: bool) -> None:
    far.script(upstream.error(429, retry_after="7"))
    got = await ask(live, stream=stream)
    assert (got.status, got.headers["retry-after"]) == (429, "7")
    assert got.error["type"] == "rate_limit_error"


@pytest.mark.parametrize("stream", [False, True])
async def test_a_400_keeps_message_type_param_and_code(live, far, stream: bool) -> None:
    far.script(upstream.error(400, "no such size", kind="odd", param="size", code="bad_size"))
    got = await ask(live, stream=stream)
    assert got.status == 400
    assert got.error == {
        "message": "no such size", "type": "odd", "param": "size", "code": "bad_size",
    }  # fmt: skip


async def test_usage_is_metered_unasked_and_stripped(live, far) -> None:
    got = await ask(live, stream=True)
    assert far.requests[-1].json["stream_options"] == {"include_usage": True}
    assert got.text == "Hello world"
    assert not any(chunk.get("usage") for chunk in got.chunks)
    metrics = (await call(live, "GET", "/metrics")).body.decode()
    assert 'bicameral_tokens_total{model="default",kind="completion"} 3' in metrics


async def test_usage_is_passed_on_if_asked_for(live) -> None:
    got = await ask(live, stream=True, stream_options={"include_usage": True})
    assert got.chunks[-1]["usage"] == upstream.DEFAULT_USAGE


async def test_usage_beside_choices_counts(live, far) -> None:
    last = upstream.chunk({}, finish="stop", usage={"prompt_tokens": 2, "completion_tokens": 40})
    far.script(upstream.stream(upstream.chunk({"content": "a"}), last))
    await ask(live, stream=True)
    metrics = (await call(live, "GET", "/metrics")).body.decode()
    assert 'bicameral_tokens_total{model="default",kind="completion"} 40' in metrics


@pytest.mark.parametrize("end", [RESET, CLOSE])
async def test_a_cut_stream_ends_with_an_error_in_band(live, far, end: str) -> None:
    far.script(upstream.stream(upstream.chunk({"content": "half"}), upstream.Wait(0.05), end))
    got = await ask(live, stream=True)
    assert got.status == 200
    assert "half" in got.data[0]
    assert json.loads(got.data[-1])["error"]["type"] == "server_error"
    assert got.body.count(b"half") == 1
    assert len(far.requests) == 1


async def test_a_reset_before_the_first_event_is_a_status(live, far) -> None:
    far.script(upstream.reset())
    got = await ask(live, stream=True)
    assert got.status == 502
    assert got.error["code"]


async def test_one_bad_line_does_not_kill_the_stream(live, far) -> None:
    pieces = [upstream.chunk({"content": c}) for c in "ab"]
    end = upstream.chunk({}, finish="stop")
    far.script(upstream.stream(pieces[0], b"data: {oops\n\n", b": note\n\n", pieces[1], end))
    assert (await ask(live, stream=True)).text == "ab"


async def test_split_characters_come_whole(live, far) -> None:
    pieces = [upstream.chunk({"content": c}) for c in "汉字🙂"]
    end = upstream.chunk({}, finish="stop")
    far.script(upstream.stream(*pieces, end, packet=1, eol="\r\n"))
    assert (await ask(live, stream=True)).text == "汉字🙂"


@pytest.mark.parametrize("stream", [False, True])
async def test_a_page_of_html_is_a_502(live, far, stream: bool) -> None:
    far.script(upstream.html())
    got = await ask(live, stream=stream)
    assert (got.status, got.error["type"]) == (502, "server_error")


@pytest.mark.parametrize("stream", [False, True])
async def test_ten_clients_leave_and_ten_upstreams_stop(live, far, stream: bool) -> None:
    step = upstream.stream(upstream.chunk({"content": "a"}), HANG) if stream else None
    far.script(step or upstream.black_hole())
    body = json.dumps({"model": "default", "messages": HI, "stream": stream}).encode()
    clients = [await raw(live) for _ in range(10)]
    for _, writer in clients:
        writer.write(post_head(live, len(body)) + body)
    await far.until(lambda up: up.running == 10, 5)
    if stream:
        for reader, _ in clients:
            await asyncio.wait_for(reader.readuntil(b"data: "), 5)
    for _, writer in clients:
        writer.close()
    await far.until(lambda up: up.cancelled == 10)
    await until(lambda: not live.server.app.desk.tasks)


async def test_a_deadline_is_kept(live, far) -> None:
    far.script(upstream.black_hole())
    got = await chat(live, {"x-bicameral-timeout": "0.2"}, model="default")
    assert (got.status, got.error["code"]) == (504, "timeout")
    await far.until(lambda up: up.cancelled == 1)


async def test_the_upstreams_limits_are_passed_on(live, far) -> None:
    headers = {"x_ratelimit_remaining_requests": "9", "x_request_id": "up-1", "set_cookie": "a=b"}
    far.script(upstream.chat("hi", **headers))
    for stream in (False, True):
        got = await ask(live, stream=stream)
        assert got.headers["x-ratelimit-remaining-requests"] == "9"
        assert got.headers["x-upstream-request-id"] == "up-1"
        assert got.headers["x-request-id"] != "up-1"
        assert "set-cookie" not in got.headers


async def test_data_may_not_travel_further_than_asked() -> None:
    async with Upstream() as far:
        public = CONFIG.format(url=far.url).replace("retries", 'reach = "public"\nretries')
        async with serving(public) as live:
            got = await chat(live, {"x-bicameral-reach": "site"}, model="default")
            assert (got.status, got.error["code"]) == (400, "placement_unsatisfiable")
        assert far.requests == []


async def test_embeddings_pass(far) -> None:
    config = CONFIG.format(url=far.url).replace("retries", 'kind = "embeddings"\nretries')
    async with serving(config) as live:
        body = {"model": "default", "input": ["a", "b"], "dimensions": 4}
        got = await call(live, "POST", "/v1/embeddings", body)
        assert [row["embedding"][0] for row in got.json["data"]] == [0.0, 1.0]
        assert far.requests[-1].json["dimensions"] == 4
