"""Token ensembles: exact by the byte over made-up vocabularies, then over real local models."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from contextlib import aclosing

import pytest

from bicameral.errors import (
    AllFailed,
    Broken,
    BudgetError,
    ConfigError,
    ReachError,
    TooLong,
    Unsupported,
)
from bicameral.ledger.meter import Meter
from bicameral.left.mind import Mind
from bicameral.left.route import Route
from bicameral.left.spelling import END, drawn, mixed
from bicameral.left.tokens import Tokens
from bicameral.model import collect
from bicameral.types import (
    Card,
    Delta,
    Done,
    Image,
    JsonFormat,
    Message,
    Price,
    Reach,
    Request,
    Sampling,
    Tool,
)
from tests.engines.models import opened
from tests.left.tiny import FIRST, SECOND, Sayer, Tiny

HELLO = Request.ask("hello", sampling=Sampling(max_tokens=12))


def exact(name: str, members: Sequence[Tiny], **keys) -> Tokens:
    return Tokens(name, members, **{"sure": 1, "rare": 0, **keys})


def by_force(members: Sequence[Tiny], weights: Sequence[float], sampling: Sampling) -> bytes:
    """What the exact mixture says, at most 16 bytes of it."""
    dice, said = random.Random(sampling.seed), b""
    while len(said) < 16:
        views = [(w, m.following(said)) for w, m in zip(weights, members, strict=True)]
        byte = drawn(mixed(views), sampling, dice)
        if byte == END:
            break
        said += bytes([byte])
    return said


# --- exact by the byte -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "sampling",
    [
        Sampling(temperature=0),
        *(Sampling(temperature=1, seed=seed) for seed in range(6)),
        Sampling(temperature=0.6, top_p=0.8, seed=7),
    ],
)
@pytest.mark.parametrize("weights", [(1.0, 1.0), (0.2, 3.0)])
async def test_two_tokenizers_write_what_the_exact_mixture_does(sampling, weights):
    members = [Tiny("one", FIRST), Tiny("two", SECOND)]
    said = by_force(members, weights, sampling)
    request = Request.ask("hello", sampling=sampling)
    text = ""
    async with aclosing(exact("e", members, weights=weights).run(request)) as events:
        async for event in events:
            if isinstance(event, Done):
                break
            text += event.part.text
            if len(text) >= 16:
                break
    assert text.encode()[:16] == said


async def test_three_members_and_a_tie():
    members = [Sayer("a", [b"x"]), Sayer("b", [b"y", b"z"]), Sayer("c", [b"yz"])]
    answer = await collect(exact("e", members), HELLO)
    assert answer.text == "yz"
    tie = await collect(exact("e", members[:2]), HELLO)
    assert tie.text == "x"  # of equal bytes the lower, whoever leads


# --- whom it asks ------------------------------------------------------------------------------


async def test_a_sure_leader_writes_alone():
    leader, other = Sayer("leader", [b"so", b" sure"], p=0.95), Tiny("other", FIRST)
    answer = await collect(Tokens("e", [leader, other], sure=0.9), HELLO)
    assert (answer.text, other.looks) == ("so sure", 0)
    assert [asked.share for asked in answer.decisions[0].asked] == [1.0, 0.0]


async def test_an_unsure_leader_is_outvoted_where_it_is_unsure():
    leader = Sayer("leader", [b"it", b" is", b" blue"], p=0.6, other=b" green")
    other = Sayer("other", [b"it is", b" red"], p=0.9)
    answer = await collect(Tokens("e", [leader, other], sure=0.9), HELLO)
    assert answer.text == "it is red"
    assert "they differed in 3" in answer.why  # r, and then the leader would rather have ended
    assert answer.by == "leader"
    decision = answer.decisions[0]
    assert decision.policy == "tokens"
    assert sum(asked.share for asked in decision.asked) == pytest.approx(1)
    assert all(0 < asked.share < 1 for asked in decision.asked)


async def test_one_member_is_that_member():
    model = Sayer("only", [b"just", b" me"], p=0.6)
    answer = await collect(Tokens("e", [model]), HELLO)
    assert (answer.text, answer.by, answer.reason) == ("just me", "only", "stop")


# --- text --------------------------------------------------------------------------------------


async def test_characters_cut_by_tokens_come_whole():
    text = "née 京🙂"
    broken = Sayer("bytes", [bytes([byte]) for byte in text.encode()], p=0.6)
    whole = Sayer("words", [b"n", "ée".encode(), " 京🙂".encode()], p=0.6)
    for members in ([broken], [broken, whole], [whole, broken]):
        async with aclosing(Tokens("e", members, sure=0.9).run(Request.ask("hello"))) as events:
            pieces = [e.part.text async for e in events if isinstance(e, Delta)]
        assert "".join(pieces) == text
        assert len(pieces) > 1
        assert "�" not in "".join(pieces)


async def test_bytes_that_are_no_text_are_not_taken():
    lost = Sayer("lost", [b"a", b"\xff"], p=0.7, other=b"b")
    answer = await collect(Tokens("e", [lost]), HELLO)
    assert answer.text == "ab"


async def test_it_ends_with_an_error_if_nothing_can_be_text():
    answer = await collect(Tokens("e", [Sayer("lost", [b"a", b"\xff"])]), HELLO)
    assert isinstance(answer.error, Broken)
    assert (answer.text, len(answer.calls)) == ("a", 1)


@pytest.mark.parametrize(
    ("stop", "said", "reason"),
    [
        (("STOP",), "go on ", "stop"),
        (("OP N",), "go on ST", "stop"),
        (("STOPS",), "go on STOP NOW", "stop"),
        (("zzz", " on"), "go", "stop"),
    ],
)
async def test_a_stop_sequence_ends_it_across_tokens(stop, said, reason):
    model = Sayer("m", [b"go", b" on", b" ST", b"OP", b" N", b"OW"])
    answer = await collect(Tokens("e", [model]), Request.ask("?", sampling=Sampling(stop=stop)))
    assert (answer.text, answer.reason) == (said, reason)


@pytest.mark.parametrize("most", [1, 2, 3])
async def test_max_tokens_counts_the_leaders(most):
    leader = Sayer("leader", [b"one", b" two", b" three", b" four"], p=0.7)
    other = Sayer("other", [b"one two three", b" four"], p=0.7)
    request = Request.ask("?", sampling=Sampling(max_tokens=most))
    answer = await collect(Tokens("e", [leader, other], sure=0.9), request)
    assert answer.text == "one two three"[: (3, 7, 13)[most - 1]]
    assert answer.reason == "length"


# --- failures ----------------------------------------------------------------------------------


def metered(*members):
    calls = []
    return [Meter(member, lambda call, _: calls.append(call)) for member in members], calls


@pytest.mark.parametrize("who", [0, 1])
async def test_a_member_that_dies_is_dropped_and_the_answer_goes_on(who):
    words = [b"a", b" b", b" c", b" d"]
    members = [Sayer("one", words, p=0.7), Sayer("two", words, p=0.7)]
    members[who].fails_after = (2, Broken(members[who].card.name, "died"))
    wrapped, booked = metered(*members)
    answer = await collect(Tokens("e", wrapped, sure=0.9), HELLO)
    assert answer.error is None
    assert answer.text == "a b c d"
    assert answer.by == ("two", "one")[who]
    assert [call.model for call in answer.calls] == ["one", "two"]
    assert [call.error is None for call in answer.calls] == [who == 1, who == 0]
    assert sorted(call.model for call in booked) == ["one", "two"]
    assert f"{members[who].card.name} failed" in answer.why


async def test_if_all_die_the_error_tells_who_and_carries_the_calls():
    members = [Sayer("one", [b"a", b"b"], p=0.7), Sayer("two", [b"a", b"b"], p=0.7)]
    members[0].fails_after = (1, Broken("one", "died"))
    members[1].fails_after = (1, TooLong("two", "full"))
    wrapped, _ = metered(*members)
    answer = await collect(Tokens("e", wrapped, sure=0.9), HELLO)
    assert isinstance(answer.error, AllFailed)
    assert set(answer.error.failures) == {"one", "two"}
    assert [call.model for call in answer.calls] == ["one", "two"]


async def test_a_full_context_ends_the_answer_by_length():
    model = Sayer("m", [b"a", b"b", b"c"])
    model.fails_after = (2, TooLong("m", "full"))
    answer = await collect(Tokens("e", [model]), HELLO)
    assert (answer.text, answer.reason, answer.error) == ("ab", "length", None)


async def test_a_prompt_too_long_for_all_is_told_so():
    model = Sayer("m", [b"a"])
    model.fails_after = (0, TooLong("m", "full"))
    answer = await collect(Tokens("e", [model]), HELLO)
    assert isinstance(answer.error, TooLong)


async def test_closing_it_closes_every_voice_and_books_the_calls():
    members = [Sayer("one", [b"a"] * 50, p=0.7), Sayer("two", [b"a"] * 50, p=0.7)]
    wrapped, booked = metered(*members)
    async with aclosing(Tokens("e", wrapped, sure=0.9).run(Request.ask("?"))) as events:
        await anext(events)
        assert [member.running for member in members] == [1, 1]
    assert [member.running for member in members] == [0, 0]
    assert [(call.model, call.error) for call in booked] == [
        ("one", "abandoned"),
        ("two", "abandoned"),
    ]


async def test_cancelling_the_reader_closes_every_voice():
    members = [Sayer("one", [b"a"] * 50, p=0.7), Sayer("two", [b"a"] * 50, p=0.7)]
    members[1].delay = 60
    task = asyncio.create_task(collect(Tokens("e", members, sure=0.9), Request.ask("?")))
    while not members[0].looks:
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert [member.running for member in members] == [0, 0]


async def test_each_member_is_one_call_of_the_meter():
    words = [b"a", b" b", b" c"]
    wrapped, booked = metered(Sayer("one", words, p=0.7), Sayer("two", words, p=0.7))
    answer = await collect(Tokens("e", wrapped, sure=0.9), HELLO)
    assert sorted(booked, key=lambda call: call.model) == list(answer.calls)
    assert [call.seconds for call in answer.calls] == [0.5, 0.5]
    assert [call.cost for call in answer.calls] == [0, 0]
    assert answer.usage.prompt_tokens == 2
    assert answer.usage.completion_tokens == sum(c.usage.completion_tokens for c in answer.calls)


# --- what it refuses ---------------------------------------------------------------------------


async def test_members_without_a_voice_are_refused_by_name():
    local = Sayer("local", [b"a"])
    async with opened("scripted", "far") as far:
        for mute in (far, Meter(far, lambda call, booking: None), Mind("m", Route(), [local])):
            with pytest.raises(ConfigError, match=f"members: {mute.card.name}: .*llama_cpp"):
                Tokens("e", [local, mute])


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"sure": 0}, "sure"),
        ({"sure": 1.1}, "sure"),
        ({"weights": [1.0]}, "weights"),
        ({"weights": [1.0, 0.0]}, "weights"),
        ({"weights": [1.0, float("nan")]}, "weights"),
    ],
)
async def test_settings_that_cannot_work_are_config_errors(keys, said):
    with pytest.raises(ConfigError, match=said):
        Tokens("e", [Sayer("one", [b"a"]), Sayer("two", [b"a"])], **keys)
    with pytest.raises(ConfigError, match="none"):
        Tokens("e", [])


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"tools": (Tool("t"),)}, "tools"),
        ({"format": JsonFormat(schema={})}, "response_format"),
        ({"n": 2}, "n"),
        ({"sampling": Sampling(logprobs=True)}, "logprobs"),
        ({"sampling": Sampling(logit_bias={"1": 1})}, "logit_bias"),
        ({"sampling": Sampling(presence_penalty=1)}, "presence_penalty"),
        ({"messages": (Message("user", (Image(data=b"x"),)),)}, "messages"),
    ],
)
async def test_what_it_cannot_honour_is_refused_before_any_work(fields, param):
    model = Sayer("m", [b"a"])
    answer = await collect(Tokens("e", [model]), HELLO.but(**fields))
    assert isinstance(answer.error, Unsupported)
    assert answer.error.param == param
    assert model.looks == 0


async def test_members_out_of_reach_or_budget_are_left_out_with_the_reason():
    near, far = Sayer("near", [b"a"], p=0.7), Sayer("far", [b"a"], p=0.7)
    far.card = Card(name="far", engine="tiny", reach=Reach.SITE)
    answer = await collect(Tokens("e", [near, far], sure=0.9), HELLO.but(reach=Reach.DEVICE))
    assert (answer.text, far.looks) == ("a", 0)
    assert [c.model for c in answer.decisions[0].considered] == ["far"]
    alone = await collect(Tokens("e", [far]), HELLO.but(reach=Reach.DEVICE))
    assert isinstance(alone.error, ReachError)
    dear = Tiny("dear", FIRST, price=Price(input=1, output=1))
    refused = await collect(Tokens("e", [dear]), HELLO.but(budget=10**9))
    assert isinstance(refused.error, BudgetError)
