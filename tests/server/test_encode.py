"""Events to the wire: whatever the model says, the framing holds and both forms agree."""

from __future__ import annotations

import json
import math
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from bicameral.server.chat import _passed
from bicameral.server.encode import END, Stream, Whole, error_event, usage
from bicameral.types import (
    Call,
    Delta,
    Done,
    Event,
    Reasoning,
    Relay,
    Text,
    TokenLogprob,
    ToolCall,
    Usage,
)

TEXT = st.text(st.characters(codec="utf-8"))
PARTS = st.lists(
    TEXT.map(Text)
    | TEXT.map(Reasoning)
    | st.builds(ToolCall, TEXT, TEXT, TEXT, st.integers(0, 2))
)  # fmt: skip


def streamed(events: list[Event], **options: bool) -> list[Any]:
    stream = Stream("id", "m", **{"usage": False, "explain": False, **options})
    data = b"".join(map(stream.event, events))
    assert data.endswith(END)
    frames = data.removesuffix(END).decode().split("\n\n")
    assert frames.pop() == ""
    return [json.loads(frame.removeprefix("data: ")) for frame in frames]


def whole(events: list[Event], explain: bool = False) -> Any:
    fold = Whole("id", "m", explain=explain)
    for event in events:
        fold.add(event)
    return json.loads(fold.body())


@given(PARTS)
def test_stream_and_whole_say_the_same(parts: list[Any]) -> None:
    events = [*(Delta(part) for part in parts), Done()]
    message = whole(events)["choices"][0]["message"]
    deltas = [chunk["choices"][0]["delta"] for chunk in streamed(events)]
    said = "".join(delta.get("content") or "" for delta in deltas)
    thought = "".join(delta.get("reasoning_content") or "" for delta in deltas)
    assert said == (message["content"] or "")
    assert thought == message.get("reasoning_content", "")
    arguments = "".join(c["function"]["arguments"] for d in deltas for c in d.get("tool_calls", ()))
    calls = message.get("tool_calls", ())
    assert sorted(arguments) == sorted("".join(c["function"]["arguments"] for c in calls))
    assert deltas[0]["role"] == "assistant"
    assert sum("role" in delta for delta in deltas) == 1


def test_an_answer_of_nothing_is_still_one() -> None:
    assert [c["choices"][0]["finish_reason"] for c in streamed([Done()])] == ["stop"]
    assert whole([Done(reason="length")])["choices"][0]["finish_reason"] == "length"


def test_usage_is_told_only_when_known() -> None:
    assert usage(Usage()) is None
    assert usage(Usage(prompt_tokens=1)) is None
    assert usage(Usage(prompt_tokens=1, completion_tokens=0)) == {
        "prompt_tokens": 1,
        "completion_tokens": 0,
        "total_tokens": 1,
    }
    full = Usage(prompt_tokens=1, completion_tokens=2, cached_tokens=3, reasoning_tokens=4)
    told = usage(full) or {}
    assert told["prompt_tokens_details"] == {"cached_tokens": 3}
    assert told["completion_tokens_details"] == {"reasoning_tokens": 4}


def test_relayed_bytes_are_not_touched() -> None:
    raw = b'data: {"x":  1}\n\n: note\n\n'
    stream = Stream("id", "m", usage=True, explain=False)
    assert stream.event(Relay(raw)) == raw
    assert stream.event(Done(usage=Usage(prompt_tokens=1, completion_tokens=1))) == END
    fold = Whole("id", "m", explain=False)
    fold.add(Relay(b'{"id" : 1 }\n'))
    fold.add(Done())
    assert fold.body() == b'{"id" : 1 }\n'


def test_explain_joins_what_was_relayed() -> None:
    done = Done(calls=(Call(model="a", cost=5),), why="because")
    told = whole([Relay(b'{"id": 1}\n'), done], explain=True)
    assert told["id"] == 1
    assert told["bicameral"]["calls"][0]["cost"] == 5
    stream = Stream("id", "m", usage=False, explain=True)
    stream.event(Relay(b"data: {}\n\n"))
    last = json.loads(stream.event(done).removesuffix(END).removeprefix(b"data: "))
    assert last["bicameral"]["why"] == "because"
    assert last["choices"] == []


def test_what_cannot_be_has_a_finite_logprob() -> None:
    token = TokenLogprob("a", -math.inf, (("a", -math.inf), ("é", -1.0)))
    events = [Delta(Text("a"), logprobs=(token,)), Done()]
    told = whole(events)["choices"][0]["logprobs"]["content"][0]
    assert told["logprob"] == -9999.0
    assert told["top_logprobs"][1] == {"token": "é", "logprob": -1.0, "bytes": [195, 169]}


def test_an_error_event_is_one_frame() -> None:
    assert error_event(b'{"error":1}') == b'data: {"error":1}\n\n'


def test_an_upstreams_headers_are_made_safe() -> None:
    relay = Relay(b"", headers=(("X-RateLimit-é", "汉\udcff"), ("Content-Length", "9")))
    assert _passed(relay) == [(b"x-ratelimit-?", b"??")]
