"""The meter books every call: finished, failed, refused, abandoned; unknown stays unknown."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

import pytest

from bicameral.errors import Broken, Unsupported
from bicameral.ledger.meter import Meter
from bicameral.model import collect
from bicameral.types import Delta, Price, Request, Tool, Usage
from tests.engines.models import opened

HELLO = Request.ask("hello you")
PRICED = {"price_input": "1", "price_output": "2"}


async def booked(request=HELLO, **keys):
    calls = []
    async with opened("scripted", **keys) as leaf:
        answer = await collect(Meter(leaf, lambda call, _: calls.append(call)), request)
        assert leaf.cancelled == 0
    assert len(calls) == 1
    return answer, calls[0]


async def test_a_finished_call_is_booked_and_priced():
    answer, call = await booked(reply="a b c", **PRICED)
    assert answer.calls == (call,)
    assert call.usage.completion_tokens == 3
    assert call.cost == 2 * 1000 + 3 * 2000
    assert call.first_token <= call.seconds


async def test_unknown_usage_is_none_and_so_is_its_cost():
    _, call = await booked(reply="a", usage=False, **PRICED)
    assert (call.usage, call.cost) == (Usage(), None)


async def test_without_a_price_the_cost_is_unknown():
    _, call = await booked(reply="a")
    assert call.cost is None


@pytest.mark.parametrize(
    ("fail", "tokens"), [("unreachable", 0), ("overloaded", 0), ("rejected", 0), ("timeout", None)]
)
async def test_a_failed_call_consumed_nothing_or_nobody_knows(fail, tokens):
    answer, call = await booked(fail=fail, **PRICED)
    assert call.error == str(answer.error)
    assert call.usage.prompt_tokens == tokens
    assert call.cost == tokens
    assert answer.calls == (call,)


async def test_a_cut_stream_is_booked_with_what_is_unknown():
    answer, call = await booked(reply="a b c", die_after=1, **PRICED)
    assert isinstance(answer.error, Broken)
    assert call.usage.completion_tokens is None
    assert call.first_token is not None


async def test_a_refused_request_is_booked_as_free():
    answer, call = await booked(HELLO.but(tools=(Tool("f"),)), features=[])
    assert isinstance(answer.error, Unsupported)
    assert call.usage.total_tokens == 0


async def test_an_abandoned_call_is_booked():
    calls = []
    async with opened("scripted", reply="a b c", delay=0.001) as leaf:
        async with aclosing(Meter(leaf, lambda call, _: calls.append(call)).run(HELLO)) as events:
            assert isinstance(await anext(events), Delta)
        task = asyncio.create_task(collect(Meter(leaf, lambda call, _: calls.append(call)), HELLO))
        await asyncio.sleep(0.002)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert [call.error for call in calls] == ["abandoned", "abandoned"]
    assert leaf.cancelled == 2


def test_prices_round_up_and_know_the_cache():
    price = Price(input=1, output=1, cached_input=0)
    usage = Usage(prompt_tokens=10, completion_tokens=1, cached_tokens=10)
    assert price.cost(usage) == 1  # a millionth of a nano-dollar is not free
    dear = Price(input=10**9, output=0, cached_input=10**8)
    assert dear.cost(usage) == 1000
    assert Price(input=10**9, output=0).cost(usage) == 10_000
