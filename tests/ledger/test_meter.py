"""The meter books every call: finished, failed, refused, abandoned; unknown stays unknown."""

from __future__ import annotations

import asyncio
import logging
from contextlib import aclosing

import pytest

from bicameral.engines.remote.refusal import GaveUp, Lost, ServerError
from bicameral.errors import Broken, Overloaded, Timeout, Unreachable, Unsupported
from bicameral.ledger.meter import Meter
from bicameral.ledger.served import same
from bicameral.model import collect
from bicameral.types import (
    NO_USAGE,
    Audio,
    Card,
    Delta,
    Done,
    Image,
    Message,
    Modality,
    Price,
    Reach,
    Relay,
    Request,
    Sampling,
    Text,
    Tool,
    Usage,
    spent_at_most,
)
from tests.engines.models import opened

HELLO = Request.ask("hello you")
PRICED = {"price_input": "1", "price_output": "2"}
SEEN = Usage(images=0, media_ms=0)


async def booked(request=HELLO, **keys):
    calls = []
    async with opened("scripted", **keys) as leaf:
        answer = await collect(Meter(leaf, lambda call, _: calls.append(call)), request)
        assert leaf.cancelled == 0
    assert len(calls) == 1
    return answer, calls[0]


class Leaf:
    """Gives its events, and then its error if it has one."""

    def __init__(self, *events, error=None, **card):
        self.events = events
        self.error = error
        fields = {"reach": Reach.PUBLIC, "accepts": frozenset(Modality), **card}
        self.card = Card(name="leaf", engine="leaf", **fields)

    async def run(self, request):
        for event in self.events:
            yield event
        if self.error:
            raise self.error


async def one(*events, request=HELLO, error=None, **card):
    """The call of a leaf that gives these events."""
    calls = []
    leaf = Leaf(*events, error=error, **card)
    answer = await collect(Meter(leaf, lambda call, _: calls.append(call)), request)
    (call,) = calls
    assert answer.calls == (call,)
    return call


def done(prompt=1000, completion=100, **fields):
    usage = Usage(prompt_tokens=prompt, completion_tokens=completion, **fields)
    return Done(usage=usage)


# --- how it ended ------------------------------------------------------------------------------


async def test_a_finished_call_is_booked_and_priced():
    answer, call = await booked(reply="a b c", **PRICED)
    assert answer.calls == (call,)
    assert call.usage.completion_tokens == 3
    assert call.cost == 2 * 1000 + 3 * 2000
    assert (call.ended, call.state, call.estimate) == ("finished", "reported", None)
    assert call.first_token <= call.seconds
    assert round(call.seconds, 6) == call.seconds


async def test_what_no_server_reports_is_estimated_and_the_usage_stays_unknown():
    _, call = await booked(reply="a", usage=False, **PRICED)
    assert (call.usage, call.state) == (SEEN, "estimated")
    assert call.estimate == Usage(
        prompt_tokens=7, completion_tokens=1, reasoning_tokens=0, images=0, media_ms=0
    )
    assert call.cost == 7 * 1000 + 2000


async def test_without_a_price_the_cost_is_unknown():
    _, call = await booked(reply="a")
    assert call.cost is None


@pytest.mark.parametrize("fail", ["unreachable", "overloaded", "rejected", "unauthorized"])
async def test_a_call_that_was_never_taken_up_consumed_nothing(fail):
    answer, call = await booked(fail=fail, **PRICED)
    assert call.error == str(answer.error)
    assert (call.usage, call.estimate, call.cost, call.ended) == (NO_USAGE, None, 0, "failed")
    assert call.chip_seconds == 0
    assert answer.calls == (call,)


@pytest.mark.parametrize("fail", ["timeout", "broken"])
async def test_what_failed_before_the_first_token_may_cost_its_prompt(fail):
    _, call = await booked(fail=fail, **PRICED)
    assert (call.usage, call.ended) == (SEEN, "failed")
    assert (call.estimate.prompt_tokens, call.estimate.completion_tokens) == (7, 0)
    assert call.cost == 7000


@pytest.mark.parametrize(
    ("error", "free"),
    [
        (Timeout("leaf", "connect", 1), True),
        (Timeout("leaf", "queue", 1), True),
        (Timeout("leaf", "first token", 1), False),
        (ServerError("leaf", "500"), True),
        (GaveUp("leaf", "504"), False),
        (Unreachable("leaf", "no connection"), True),
        (Lost("leaf", "broke after it was sent"), False),
    ],
)
async def test_who_may_have_been_asked_is_told_from_who_was_not(error, free):
    call = await one(error=error, price=Price(input=10**9, output=0))
    assert (call.usage == NO_USAGE, call.cost) == (free, 0 if free else 7000)


async def test_an_overload_after_the_first_token_is_not_free():
    said = Delta(Text("one two"))
    call = await one(said, error=Overloaded("leaf", "busy"), price=Price(input=0, output=10**9))
    assert call.estimate.completion_tokens == 2
    assert call.cost == 2000


async def test_a_cut_stream_is_booked_with_what_it_said():
    answer, call = await booked(reply="a b c", die_after=1, **PRICED)
    assert isinstance(answer.error, Broken)
    assert call.usage.completion_tokens is None
    assert call.estimate.completion_tokens == 1
    assert call.first_token is not None


async def test_a_refused_request_is_booked_as_free():
    answer, call = await booked(HELLO.but(tools=(Tool("f"),)), features=[])
    assert isinstance(answer.error, Unsupported)
    assert call.usage.total_tokens == 0


async def test_an_abandoned_call_is_booked():
    calls = []
    async with opened("scripted", reply="a b c", delay=0.001, **PRICED) as leaf:
        async with aclosing(Meter(leaf, lambda call, _: calls.append(call)).run(HELLO)) as events:
            assert isinstance(await anext(events), Delta)
        task = asyncio.create_task(collect(Meter(leaf, lambda call, _: calls.append(call)), HELLO))
        await asyncio.sleep(0.002)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert [call.error for call in calls] == ["abandoned", "abandoned"]
    assert [call.ended for call in calls] == ["abandoned", "abandoned"]
    assert [call.cost for call in calls] == [9000, calls[1].cost]
    assert leaf.cancelled == 2


async def test_it_is_booked_even_if_the_cancelled_leaf_is_cancelled_again():
    calls, held = [], asyncio.Event()

    class Slow(Leaf):
        async def run(self, request):
            try:
                yield Delta(Text("a"))
                await asyncio.sleep(60)
            finally:
                held.set()
                await asyncio.sleep(60)

    task = asyncio.create_task(collect(Meter(Slow(), lambda call, _: calls.append(call)), HELLO))
    await asyncio.sleep(0)
    task.cancel()
    await held.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert [call.ended for call in calls] == ["abandoned"]


async def test_an_answer_without_an_end_is_broken():
    call = await one(Delta(Text("half")))
    assert (call.ended, call.error) == ("failed", "leaf: ended without saying so")


async def test_a_fault_in_a_leaf_is_booked_as_failed():
    calls = []
    meter = Meter(Leaf(error=ZeroDivisionError()), lambda call, _: calls.append(call))
    with pytest.raises(ZeroDivisionError):
        await collect(meter, HELLO)
    assert [(call.ended, call.error) for call in calls] == [("failed", "failed")]


# --- what it cost ------------------------------------------------------------------------------


async def test_an_explicit_0_is_reported():
    call = await one(Delta(Text("free of charge")), done(0, 0), price=Price(input=9, output=9))
    assert (call.state, call.estimate, call.cost) == ("reported", None, 0)


async def test_the_providers_own_cost_counts_before_the_price():
    price = Price(input=10**9, output=10**9)
    assert (await one(done(cost=123), price=price)).cost == 123
    assert (await one(done(cost=0), price=price)).cost == 0
    assert (await one(done(cost=123))).cost == 123
    local = await one(done(cost=0), price=price, chip="cpu")  # nobody charges for what is ours
    assert local.cost == 1_100_000


async def test_a_reported_part_is_never_replaced():
    call = await one(Delta(Text("a" * 40)), done(7, None, cached_tokens=5))
    assert (call.usage.prompt_tokens, call.usage.completion_tokens) == (7, None)
    estimate = call.estimate
    assert (estimate.prompt_tokens, estimate.cached_tokens) == (7, 5)
    assert estimate.completion_tokens == 10
    call = await one(done(None, 3))
    assert (call.estimate.prompt_tokens, call.estimate.completion_tokens) == (7, 3)


async def test_pictures_are_counted_before_they_are_priced():
    parts = (Text("look"), Image(data=b"x"), Image(data=b"y"))
    look = Request(messages=(Message("user", parts),))
    call = await one(done(), request=look, price=Price(input=0, output=0, image=5))
    assert (call.usage.images, call.cost) == (2, 10)
    call = await one(done(images=7), request=look, price=Price(input=0, output=0, image=5))
    assert (call.usage.images, call.cost) == (7, 35)
    assert (await one(done(), price=Price(input=0, output=0, second=5))).cost == 0


async def test_sound_of_unknown_length_has_no_cost_unless_it_is_free():
    hear = Request(messages=(Message("user", (Audio(data=b"x", format="wav"),)),))
    call = await one(done(), request=hear, price=Price(input=0, output=0, second=5))
    assert (call.usage.media_ms, call.cost) == (None, None)
    call = await one(error=Broken("leaf", "x"), request=hear, price=Price(input=1, output=1))
    assert (call.state, call.cost) == ("unknown", None)
    call = await one(error=Broken("leaf", "x"), request=hear, price=Price(input=0, output=0))
    assert (call.state, call.cost) == ("unknown", 0)


async def test_a_chip_of_ours_was_busy_and_drew_power():
    call = await one(
        done(), chip="npu", watts=10.0, price=Price(input=0, output=0, chip_second=10**9)
    )
    assert call.chip_seconds == call.seconds
    assert call.joules == round(call.seconds * 10, 6)
    assert call.cost == pytest.approx(call.seconds * 10**9, abs=10**6)  # to the millisecond
    assert (await one(done(), chip="npu")).joules is None
    far = await one(done(), watts=10.0)
    assert (far.chip_seconds, far.joules) == (None, None)


def test_prices_round_half_to_even_and_know_the_cache():
    price = Price(input=1, output=1, cached_input=0)
    usage = Usage(prompt_tokens=10, completion_tokens=1, cached_tokens=10)
    assert price.cost(usage) == 0
    dear = Price(input=10**9, output=0, cached_input=10**8)
    assert dear.cost(usage) == 1000
    assert Price(input=10**9, output=0).cost(usage) == 10_000


# --- who served it -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "served", "is_same"),
    [
        ("gpt-4o", "gpt-4o-2024-08-06", True),
        ("gpt-4o", "openai/gpt-4o", True),
        ("deepseek/deepseek-r1:free", "deepseek/deepseek-r1", True),
        ("Qwen/Qwen2.5-7B-Instruct", "qwen2.5-7b-instruct", True),
        ("claude-3-5-sonnet-latest", "claude-3-5-sonnet-20241022", True),
        ("claude-3-5-sonnet", "claude-3-5-sonnet@20241022", True),
        ("gpt-4", "gpt-4-0613", True),
        ("gemini-1.5-pro", "gemini-1.5-pro-002", True),
        ("llama3", "llama3:latest", True),
        ("gpt-4o-2024-08-06", "gpt-4o", True),
        ("gpt-4o", "gpt-4o-mini", False),
        ("gpt-4o-mini", "gpt-4o", False),
        ("gpt-4o-2024-05-13", "gpt-4o-2024-08-06", False),
        ("qwen2.5:14b", "qwen2.5:7b", False),
        ("glm-4-plus", "glm-4-flash", False),
        ("deepseek-r1", "deepseek-v3", False),
    ],
)
def test_names_of_one_model_are_told_from_those_of_another(asked, served, is_same):
    assert same(asked, served) is is_same


async def test_another_model_than_asked_for_is_flagged_and_warned_of_once(caplog):
    calls = []
    other = Done(usage=Usage(), served="gpt-4o-mini\nfake line")
    meter = Meter(Leaf(other, serves="gpt-4o"), lambda call, _: calls.append(call))
    with caplog.at_level(logging.WARNING, "bicameral.ledger"):
        for _ in range(3):
            await collect(meter, HELLO)
    assert [call.mismatch for call in calls] == [True] * 3
    assert calls[0].served == other.served
    assert len(caplog.messages) == 1
    assert "\n" not in caplog.messages[0]


async def test_no_name_is_no_mismatch():
    assert not (await one(done(), serves="gpt-4o")).mismatch
    assert not (await one(Done(served="gpt-4o"))).mismatch


# --- tries that were lost ----------------------------------------------------------------------


async def test_a_try_that_was_lost_is_a_call_of_its_own():
    class Again(Leaf):
        async def telling(self, request, told):
            told.lost.append(Lost("leaf", "broke"))
            async for event in self.run(request):
                yield event

    calls = []
    leaf = Again(done(7, 3), price=Price(input=10**9, output=10**9))
    answer = await collect(Meter(leaf, lambda call, _: calls.append(call)), HELLO)
    assert answer.calls == tuple(calls)
    assert [(c.ended, c.state, c.cost) for c in calls] == [
        ("failed", "estimated", 7000),
        ("finished", "reported", 10_000),
    ]
    assert answer.cost == 17_000


async def test_a_relay_is_read_only_for_an_estimate():
    event = b'data: {"choices":[{"delta":{"content":"one two three four"}}]}\n\n'
    call = await one(Relay(event * 2), Relay(event), error=Broken("leaf", "x"))
    assert call.estimate.completion_tokens == 14  # 54 letters


@pytest.mark.parametrize("engine", ["openai", "anthropic", "scripted"])
async def test_the_power_that_a_chip_draws_is_on_the_card(engine, monkeypatch):
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-ant-1")
    keys = {} if engine == "scripted" else {"url": "http://127.0.0.1:1/v1", "model": "m"}
    async with opened(engine, watts=9.5, **keys) as leaf:
        assert leaf.card.watts == 9.5


async def test_an_estimate_names_what_it_cannot_have_cost_more_than():
    request = HELLO.but(sampling=Sampling(max_tokens=50))
    _, call = await booked(request, reply="a b c", die_after=1, **PRICED)
    assert 0 < call.cost <= call.most == spent_at_most([call])
    assert spent_at_most([call, call.__class__(model="free", cost=3)]) == call.most + 3
    _, unbounded = await booked(reply="a b c", die_after=1, **PRICED)
    assert spent_at_most([unbounded]) is None
