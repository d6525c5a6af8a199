"""Who holds a conversation: known by its words alone, forgotten in time, priced."""

from __future__ import annotations

import pytest

from bicameral.left.mind import Mind
from bicameral.left.route import Route
from bicameral.left.score import Priors
from bicameral.left.sticky import Sticky, warmed
from bicameral.model import collect
from bicameral.types import Message, Request, Text, Tool, ToolCall, ToolResult
from tests.left.cases import HELLO, expect, priced, talk


def test_the_next_turn_finds_who_answered():
    sticky = Sticky()
    sticky.note(talk("hi"), "a")
    assert sticky.warm(talk("hi", "hello", "more")) == "a"
    sticky.note(talk("hi", "hello", "more"), "b")
    assert sticky.warm(talk("hi", "hello", "more", "sure", "again")) == "b"


def test_what_was_said_last_may_be_resent_otherwise():
    sticky = Sticky()
    sticky.note(talk("hi"), "a")
    assert sticky.warm(talk("hi", "hello, shortened by the client", "more")) == "a"


def test_a_new_or_an_edited_conversation_is_nobodys():
    sticky = Sticky()
    sticky.note(talk("hi"), "a")
    assert sticky.warm(talk("hi")) == ""  # asked anew: nobody has spoken yet
    assert sticky.warm(talk("hi!", "hello", "more")) == ""
    sticky.note(talk("hi", "hello", "more"), "a")
    assert sticky.warm(talk("hi", "edited", "more", "sure", "again")) == ""


def test_equal_words_of_two_users_are_two_conversations():
    sticky = Sticky()
    sticky.note(talk("hi", extra={"user": "ann"}), "a")
    sticky.note(talk("hi", extra={"user": "bob"}), "b")
    sticky.note(talk("hi", extra={"prompt_cache_key": "k", "user": "bob"}), "c")
    assert sticky.warm(talk("hi", "hello", "more", extra={"user": "ann"})) == "a"
    assert sticky.warm(talk("hi", "hello", "more", extra={"user": "bob"})) == "b"
    assert sticky.warm(talk("hi", "hello", "more")) == ""
    keys = {"user": "bob", "prompt_cache_key": "k"}  # in another order
    assert sticky.warm(talk("hi", "hello", "more", extra=keys)) == "c"


def test_equal_words_of_one_user_share_the_later_answer():
    sticky = Sticky()
    sticky.note(talk("hi"), "a")
    sticky.note(talk("hi"), "b")
    assert sticky.warm(talk("hi", "hello", "more")) == "b"


def test_other_fields_do_not_part_a_conversation():
    sticky = Sticky()
    sticky.note(talk("hi", extra={"metadata": {"turn": 1}}), "a")
    assert sticky.warm(talk("hi", "hello", "more", extra={"metadata": {"turn": 2}})) == "a"


def test_memory_is_bounded_and_the_longest_unused_goes_first():
    sticky = Sticky(kept=2)
    for text in ("one", "two", "one", "three"):
        sticky.note(talk(text), f"by {text}")
    assert sticky.warm(talk("one", "-", "-")) == "by one"
    assert sticky.warm(talk("two", "-", "-")) == ""
    assert sticky.warm(talk("three", "-", "-")) == "by three"
    assert len(sticky._by) == 2


def test_no_text_is_kept():
    sticky = Sticky()
    sticky.note(talk("a secret", extra={"user": "ann"}), "a")
    assert b"secret" not in repr(sticky._by).encode()
    assert b"ann" not in repr(sticky._by).encode()
    assert [len(key) for key in sticky._by] == [16]


# --- what the cache saves ----------------------------------------------------------------------

TALK = talk("x" * 3_996, "yyyy", "z" * 400_000)  # 1,000 tokens were read before this turn


def test_the_price_of_what_was_read_before():
    told = warmed({"a": expect(0.5, 5_000)}, priced("a", 3_000_000, 1_000_000), TALK)
    assert told["a"] == expect(0.5, 3_000)


def test_the_time_of_what_was_read_before():
    card = priced("a", 0, None)
    assert warmed({"a": expect(0.5, 0, 9.0)}, card, TALK, reads=200.0)["a"].seconds == 4.0
    assert warmed({"a": expect(0.5, 0, 9.0)}, card, TALK)["a"].seconds == 9.0


@pytest.mark.parametrize("cached", [None, 3_000_000, 4_000_000])
def test_no_price_for_cached_tokens_saves_nothing(cached):
    told = {"a": expect(0.5, 5_000)}
    assert warmed(told, priced("a", 3_000_000, cached), TALK) == told


def test_savings_are_no_gain_and_unknown_stays_unknown():
    card = priced("a", 3_000_000, 0)
    assert warmed({"a": expect(0.5, 100)}, card, TALK)["a"].cost == 0
    assert warmed({"a": expect(0.5)}, card, TALK)["a"].cost is None
    others = {"b": expect(0.5, 1)}
    assert warmed(others, card, TALK) == others
    assert warmed({"a": expect(0.5, 100)}, card, talk("first")) == {"a": expect(0.5, 100)}


# --- in a mind ---------------------------------------------------------------------------------

TOOL = Tool("weather")


async def test_a_tool_result_goes_to_the_member_that_made_the_call(member):
    a, b = await member("a", calls_tools=True), await member("b")
    sticky = Sticky()
    first = HELLO.but(tools=(TOOL,))
    mind = Mind("m", Route(), [a, b], sticky=sticky)
    called = await collect(mind, first)
    assert called.tool_calls
    assert called.by == "a"
    after = first.but(
        messages=(
            *first.messages,
            Message("assistant", (ToolCall("call_0", "weather", "{}"),)),
            Message("tool", (ToolResult("call_0", "sunny"),)),
        )
    )
    better = Priors({"a": 0.1, "b": 0.9})
    bound = await collect(Mind("m", Route(), [a, b], estimator=better, sticky=sticky), after)
    assert bound.by == "a"
    assert "a made the tool call" in bound.why
    free = after.but(messages=(*after.messages, Message("user", (Text("thanks"),))))
    moved = await collect(Mind("m", Route(), [a, b], estimator=better, sticky=sticky), free)
    assert moved.by == "b"  # a user's turn is a safe point


async def test_among_equals_a_mind_stays(member):
    a, b = await member("a"), await member("b")
    sticky = Sticky()
    preferring_b = Priors({"a": 0.1, "b": 0.9})
    await collect(Mind("m", Route(), [a, b], estimator=preferring_b, sticky=sticky), HELLO)
    again = HELLO.but(
        messages=(
            *HELLO.messages,
            Message("assistant", (Text("hello"),)),
            Message("user", (Text("more"),)),
        )
    )
    answer = await collect(Mind("m", Route(), [a, b], sticky=sticky), again)
    assert answer.by == "b"
    assert answer.decisions[0].warm == "b"
    assert "holds this conversation" in answer.why


def test_a_request_without_messages_is_nobodys():
    empty = Request(messages=())
    assert Sticky().warm(empty) == ""
    assert not Sticky.bound(empty)
