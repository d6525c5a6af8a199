"""Bodies of any kind: a Request, or a RequestError that names the field. Nothing else."""

from __future__ import annotations

import json
import zlib
from contextlib import suppress
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bicameral.config import ServerOptions
from bicameral.errors import RequestError
from bicameral.server import decode
from bicameral.server.schema import ChatBody
from bicameral.types import Reach, Reasoning, Text, ToolCall, ToolResult

OPTIONS = ServerOptions(max_messages=20)
HI = [{"role": "user", "content": "hi"}]
CALL = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}


def read(body: Any, headers: dict[bytes, bytes] | None = None, **options: Any) -> decode.Chat:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return decode.chat(raw, headers or {}, OPTIONS, "id")


def chat(**fields: Any) -> dict[str, Any]:
    return {"model": "m", "messages": HI, **fields}


def refused(body: Any, headers: dict[bytes, bytes] | None = None) -> RequestError:
    with pytest.raises(RequestError) as caught:
        read(body, headers)
    return caught.value


def test_the_fields_we_model_are_read() -> None:
    asked = read(
        chat(max_completion_tokens=9, max_tokens=7, stop="x", seed=3, tools=[TOOL], n=2)
        | {"tool_choice": {"type": "function", "function": {"name": "f"}}, "top_p": 1}
    ).request
    assert asked.sampling.max_tokens == 9
    assert asked.sampling.stop == ("x",)
    assert asked.sampling.seed == 3
    assert asked.tools[0].name == "f"
    assert asked.tool_choice is not None
    assert asked.tool_choice.name == "f"
    assert asked.n == 2


def test_the_wire_is_kept() -> None:
    body = json.dumps(chat(stream=True, stream_options={"include_usage": True})).encode()
    wire = read(body).request.wire
    assert wire is not None
    assert (wire.body, wire.stream, wire.include_usage) == (body, True, True)


def test_what_we_do_not_model_is_carried() -> None:
    fields = {
        "user": "u", "metadata": {"a": "b"}, "verbosity": "low", "top_k": 4, "min_p": 0.1,
        "repetition_penalty": 1.1, "reasoning_effort": "low", "prediction": {"type": "content"},
        "service_tier": "auto", "store": False, "modalities": ["text"], "audio": {},
        "functions": [], "function_call": "auto", "web_search_options": {},
    }  # fmt: skip
    assert read(chat(**fields)).request.extra == fields
    assert read(chat(user=None)).request.extra == {}


def test_an_unknown_key_of_a_message_is_carried() -> None:
    asked = read(chat(messages=[{"role": "user", "content": "hi", "cache_control": {"a": 1}}]))
    assert asked.request.extra == {"messages[].cache_control": {"a": 1}}


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": "a", "x": 1}]}]},
         "messages[].content[].x"),
        ({"tools": [{"type": "function", "function": {"name": "f", "x": 1}}]},
         "tools[].function.x"),
        ({"stream": True, "stream_options": {"x": 1}}, "stream_options.x"),
        ({"response_format": {"type": "json_schema", "json_schema": {"name": "a", "x": 1}}},
         "response_format.json_schema.x"),
        ({"response_format": {"type": "text", "x": 1}}, "response_format.x"),
        ({"index": 1}, "index"),
    ],
)  # fmt: skip
def test_an_unknown_key_is_carried_from_any_depth(fields: dict[str, Any], path: str) -> None:
    assert read(chat(**fields)).request.extra == {path: 1}


def test_what_a_schema_or_a_tool_holds_is_not_ours_to_know() -> None:
    schema = {"type": "object", "properties": {"x": {"y": [{"z": 1}]}}}
    tools = [{"type": "function", "function": {"name": "f", "parameters": schema}}]
    wanted = {"type": "json_schema", "json_schema": {"name": "a", "schema": schema}}
    assert read(chat(tools=tools, response_format=wanted)).request.extra == {}


def test_what_clients_add_to_an_answer_may_come_back() -> None:
    call = {**CALL, "index": 0, "function": {**CALL["function"], "parsed_arguments": {}}}
    turns = [
        *HI,
        {"role": "assistant", "content": "x", "parsed": {"a": 1}, "annotations": [],
         "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "name": "f", "content": "7"},
    ]  # fmt: skip
    assert read(chat(messages=turns)).request.extra == {}


def test_null_counts_as_absent() -> None:
    asked = read(chat(temperature=None, tools=None, response_format=None, stop=None, n=None))
    assert asked.request.but() == read(chat()).request.but()


def test_a_tool_turn_is_read() -> None:
    turns = [
        *HI,
        {"role": "assistant", "content": None, "reasoning_content": "hm", "tool_calls": [CALL]},
        {"role": "tool", "tool_call_id": "c1", "content": [{"type": "text", "text": "7"}]},
    ]
    messages = read(chat(messages=turns)).request.messages
    assert messages[1].parts == (Reasoning("hm"), ToolCall("c1", "f", "{}", 0))
    assert messages[2].parts == (ToolResult("c1", "7"),)


def test_special_tokens_are_only_text() -> None:
    turns = [{"role": "user", "content": "<|im_start|>system\u202e"}]
    assert read(chat(messages=turns)).request.messages[0].parts == (
        Text("<|im_start|>system\u202e"),
    )


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"messages": []}, "messages"),
        ({"messages": HI * 21}, "messages"),
        ({"messages": [{"role": "robot", "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "user"}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": []}]}, "messages[0].content"),
        (
            {"messages": [{"role": "user", "content": [{"type": "x"}]}]},
            "messages[0].content[0].type",
        ),
        (
            {"messages": [{"role": "tool", "tool_call_id": "no", "content": ""}]},
            "messages[0].tool_call_id",
        ),
        (
            {"messages": [{"role": "assistant", "tool_calls": [
                {**CALL, "function": {"name": "f", "arguments": "{oops"}}]}]},
            "messages[0].tool_calls[0].function.arguments",
        ),
        ({"n": 10**6}, "n"),
        ({"n": 0}, "n"),
        ({"max_tokens": -1}, "max_tokens"),
        ({"max_tokens": 10**9}, "max_tokens"),
        ({"temperature": 3}, "temperature"),
        ({"temperature": "hot"}, "temperature"),
        ({"top_p": 1.1}, "top_p"),
        ({"presence_penalty": 5}, "presence_penalty"),
        ({"stop": ["x"] * 10_000}, "stop"),
        ({"stop": "x" * 2**20}, "stop"),
        ({"stop": ""}, "stop"),
        ({"tools": [TOOL] * 100_000}, "tools"),
        ({"logit_bias": {str(i): 1 for i in range(10_000)}}, "logit_bias"),
        ({"logit_bias": {"1": 101}}, "logit_bias[...]"),
        ({"top_logprobs": 21}, "top_logprobs"),
        ({"top_logprobs": 2}, "top_logprobs"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "g"}}},
         "tool_choice"),
        ({"response_format": {"type": "xml"}}, "response_format.type"),
        ({"stream": "yes"}, "stream"),
        ({"seed": 2**70}, "seed"),
    ],
)  # fmt: skip
def test_a_wrong_field_is_named(fields: dict[str, Any], param: str) -> None:
    assert refused(chat(**fields)).param == param


def test_no_model_is_named() -> None:
    assert refused({"messages": HI}).param == "model"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"\xef\xbb\xbf{}",
        b'{"a": NaN}',
        b'{"a": Infinity}',
        b'{"a": -Infinity}',
        b'{"a": 1e400}',
        b'{"a": "\\ud800"}',
        b'{"a": "\\udc00x"}',
        b'{"a": "\xed\xa0\x80"}',
        b'{"a": "\xff"}',
        b'{"a": "\x00"}',
        b'{"a": "\\u0000"}',
        b'{"a": "\\\\\\u0000"}',
        b'{"a": 1, "a": 2}',
        b'{"a": {"b": 1, "\\u0062": 2}}',
        b'{"a":' + b"[" * 1000 + b"]" * 1000 + b"}",
        b'{"a":' * 100_000,
        zlib.compress(b"{}"),
    ],
    ids=lambda body: repr(body[:24]),
)
def test_what_is_not_proper_json_is_refused(body: bytes) -> None:
    with pytest.raises(RequestError):
        decode.parse(body, 64)


def test_an_escaped_backslash_before_u0000_is_text() -> None:
    assert decode.parse(b'{"a": "\\\\u0000"}', 64) == {"a": "\\u0000"}


def test_strings_may_look_like_structure() -> None:
    body = json.dumps(chat(messages=[{"role": "user", "content": '{"a":[1,{"a":"\\"}]' * 99}]))
    assert read(body.encode()).model == "m"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("x-bicameral-reach", b"moon"),
        ("x-bicameral-reach", b"DEVICE"),
        ("x-bicameral-reach", b"\xff"),
        ("x-bicameral-timeout", b"-1"),
        ("x-bicameral-timeout", b"0"),
        ("x-bicameral-timeout", b"nan"),
        ("x-bicameral-timeout", b"1e9"),
        ("x-bicameral-budget", b"1e-3"),
        ("x-bicameral-budget", b"-1"),
    ],
)
def test_a_wrong_header_is_named(name: str, value: bytes) -> None:
    assert refused(chat(), {name.encode(): value}).param == name


def test_our_headers_are_read() -> None:
    headers = {
        b"x-bicameral-reach": b"site",
        b"x-bicameral-timeout": b"2.5",
        b"x-bicameral-budget": b"0.25",
    }
    asked = read(chat(), headers).request
    assert asked.reach is Reach.SITE
    assert asked.budget == 250_000_000
    assert 0 < (asked.remaining() or 0) <= 2.5


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
FIELDS = sorted(ChatBody.__struct_encode_fields__)


@given(st.dictionaries(st.sampled_from(FIELDS) | st.text(), JSON))
def test_any_json_is_a_request_or_a_request_error(body: dict[str, Any]) -> None:
    with suppress(RequestError):
        read(body)


@given(st.dictionaries(st.sampled_from(FIELDS), JSON))
def test_any_field_beside_good_messages(fields: dict[str, Any]) -> None:
    with suppress(RequestError):
        read(chat(**fields))


@given(st.lists(st.fixed_dictionaries(
    {"role": st.sampled_from(["system", "developer", "user", "assistant", "tool", "x"])},
    optional={"content": JSON, "tool_calls": JSON, "tool_call_id": JSON, "name": JSON},
)))  # fmt: skip
def test_any_messages(messages: list[dict[str, Any]]) -> None:
    with suppress(RequestError):
        read(chat(messages=messages))


@given(st.binary() | st.text().map(str.encode))
def test_any_bytes(body: bytes) -> None:
    with suppress(RequestError):
        read(body)


@given(st.dictionaries(st.text(), JSON, max_size=5))
def test_the_keys_of_any_tree_are_counted_right(tree: dict[str, Any]) -> None:
    try:
        body = msgspec.json.encode(tree)
        body.decode()
    except (ValueError, msgspec.MsgspecError):
        return
    try:
        decode.parse(body, 64)
    except RequestError as error:
        told = str(error)
        assert "NUL" in told or "range" in told
