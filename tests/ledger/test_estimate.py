"""The rule of thumb for calls that nobody reported."""

from __future__ import annotations

import json

import pytest

from bicameral.ledger.estimate import Said, completed, tokens
from bicameral.types import (
    Audio,
    Delta,
    Embedding,
    Image,
    JsonFormat,
    Message,
    Modality,
    Percept,
    Reasoning,
    Relay,
    Request,
    Sampling,
    Text,
    Tool,
    ToolCall,
    ToolResult,
    Usage,
)

HELLO = Request.ask("a" * 40)


def said(*events):
    kept = Said()
    for event in events:
        kept.keep(event)
    return kept


def guess(request=HELLO, *events, **known):
    return completed(Usage(**known), request, said(*events))


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("", 0),
        ("a", 1),
        ("a" * 8, 2),
        ("汉字", 2),
        ("汉字abcd", 3),
        ("я" * 6, 4),
        ("🙂🙂🙂", 4),
        ("\ud800", 1),  # half of a pair, as JSON may hold
    ],
)
def test_four_bytes_of_ascii_or_three_of_any_other_are_a_token(text, count):
    assert tokens(text) == count


def test_texts_are_rounded_up_together():
    assert tokens("a", "b", "c", "d", "e") == 2


def test_the_prompt_is_all_that_is_sent():
    call = ToolCall(id="1", name="look", arguments='{"at":1}')
    messages = (
        Message("system", (Text("a" * 40),)),
        Message("user", (Text("b" * 40), Image(data=b"x"))),
        Message("assistant", (Reasoning("not sent back"), call)),
        Message("tool", (ToolResult("1", "c" * 8),)),
    )
    assert guess(Request(messages=messages)).prompt_tokens == 10 + 10 + 3 + 2 + 4 * 4 + 1000
    tool = Tool("f", parameters={"type": "object"})
    assert guess(HELLO.but(tools=(tool,))).prompt_tokens > guess().prompt_tokens
    assert guess(HELLO.but(format=JsonFormat({"a": 1}))).prompt_tokens > guess().prompt_tokens


def test_sound_and_film_have_no_rule():
    hear = Request(messages=(Message("user", (Audio(data=b"x", format="wav"),)),))
    assert guess(hear).prompt_tokens is None
    assert guess(hear).completion_tokens == 0


def test_who_perceives_or_embeds_writes_nothing():
    look = HELLO.but(output=Modality.PERCEPT)
    usage = guess(look, Delta(Percept(kind="tag", text="a long tag")))
    assert (usage.prompt_tokens, usage.completion_tokens) == (0, 0)
    usage = guess(look, Delta(Percept(kind="speech", text="a" * 40)))
    assert usage.completion_tokens == 10
    usage = guess(HELLO.but(output=Modality.EMBEDDING), Delta(Embedding((0.5,) * 9)))
    assert (usage.prompt_tokens, usage.completion_tokens) == (14, 0)


def test_the_answer_is_text_thought_and_calls():
    events = (
        Delta(Reasoning("r" * 40)),
        Delta(Text("t" * 40)),
        Delta(ToolCall(name="f", arguments="a" * 7)),
    )
    usage = guess(HELLO, *events)
    assert (usage.completion_tokens, usage.reasoning_tokens) == (22, 10)


def test_an_answer_is_no_longer_than_it_may_be():
    short = HELLO.but(sampling=Sampling(max_tokens=4), n=2)
    assert guess(short, Delta(Text("t" * 400))).completion_tokens == 8
    thought = guess(short, Delta(Reasoning("t" * 400)))
    assert (thought.completion_tokens, thought.reasoning_tokens) == (8, 8)


def test_what_is_known_stays_and_is_a_part_of_the_rest():
    usage = guess(HELLO, Delta(Text("t" * 40)), prompt_tokens=0, completion_tokens=0)
    assert usage == Usage(prompt_tokens=0, completion_tokens=0)
    usage = guess(HELLO, Delta(Text("t" * 40)), cached_tokens=500, reasoning_tokens=300)
    assert (usage.prompt_tokens, usage.completion_tokens) == (500, 300)


def test_any_number_of_events_counts_the_same():
    for count in (1, 63, 64, 65, 1000):
        assert said(*[Delta(Text("abcd"))] * count).tokens() == (count, 0)
    kept = said(Delta(Text("abcd")))
    assert kept.tokens() == kept.tokens() == (1, 0)


# --- relays ------------------------------------------------------------------------------------


def relay(*pieces, key="delta"):
    return b"".join(
        b"data: %b\n\n" % json.dumps({"choices": [{key: piece}]}).encode() for piece in pieces
    )


def test_a_relayed_stream_is_read_by_what_it_says():
    data = relay(
        {"role": "assistant", "content": ""},
        {"reasoning_content": "r" * 40},
        {"reasoning": "r" * 40},
        {"content": "汉字"},
        {"refusal": "r" * 8},
        {"tool_calls": [{"function": {"name": "f", "arguments": "a" * 7}}]},
        {"content": [{"type": "text"}]},
    )
    assert said(Relay(data)).tokens() == (20 + 2 + 2 + 2, 20)


def test_every_choice_counts():
    body = {"choices": [{"delta": {"content": "abcd"}}, {"delta": {"content": "efgh"}}]}
    assert said(Relay(b"data: %b\n\n" % json.dumps(body).encode())).tokens() == (2, 0)


def test_a_relayed_body_is_read_too():
    body = {"choices": [{"message": {"content": "t" * 40, "tool_calls": None}}], "usage": None}
    assert said(Relay(json.dumps(body).encode())).tokens() == (10, 0)
    assert said(Relay(json.dumps(body, indent=1).encode())).tokens() == (10, 0)


@pytest.mark.parametrize(
    "data",
    [b"", b"data: ", b"data: {oops\n\n", b"\xff\xfe", b'{"data":[{"embedding":[1]}]}', b"[1]"],
)
def test_what_cannot_be_read_says_nothing(data):
    assert said(Relay(data)).tokens() == (0, 0)


def test_lines_within_an_event_are_one_json():
    data = relay({"content": "abcd"}).replace(b'{"choices"', b'{\ndata: "choices"')
    assert said(Relay(data)).tokens() == (1, 0)
