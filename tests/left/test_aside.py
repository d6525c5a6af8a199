"""Members asked on the mind's own behalf: what they took is booked, whatever they said."""

from __future__ import annotations

import asyncio

import pytest

from bicameral.errors import Broken, Overloaded
from bicameral.left.aside import Aside, Sample
from bicameral.model import collect
from bicameral.types import Sampling
from tests.left.cases import HELLO, Saying


def shout(text: str) -> str:
    if "nonsense" in text:
        raise ValueError("made no sense")
    return text.upper()


async def test_what_was_said_is_read_before_it_counts(member):
    answer = await collect(Aside(await member("a", reply="one two"), shout), HELLO)
    assert (answer.text, answer.by) == ("ONE TWO", "a")
    assert [call.model for call in answer.calls] == ["a"]
    assert answer.usage.completion_tokens == 2


async def test_nonsense_is_a_failure_whose_cost_is_known(member):
    priced = {"price_input": "0", "price_output": "1"}
    a = await member("a", reply="nonsense it is", **priced)
    answer = await collect(Aside(a, shout), HELLO)
    assert isinstance(answer.error, Broken)
    assert str(answer.error) == "a: made no sense"
    assert answer.text == ""
    assert answer.cost == 3_000


async def test_a_failure_stays_what_it_was(member):
    answer = await collect(Aside(await member("a", fail="overloaded"), shout), HELLO)
    assert isinstance(answer.error, Overloaded)
    assert [call.error is None for call in answer.calls] == [False]


async def test_going_away_stops_the_member(member):
    slow = await member("a", reply="word " * 500, delay=0.01)
    task = asyncio.create_task(collect(Aside(slow, shout), HELLO))
    while not slow.leaf.running:
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (slow.leaf.running, slow.leaf.cancelled) == (0, 1)


async def test_a_sample_differs_in_how_it_is_drawn_alone():
    asked = Saying("a", lambda request: "x")
    request = HELLO.but(sampling=Sampling(max_tokens=5, seed=3, stop=("y",)))
    answer = await collect(Sample(asked, 2), request)
    assert answer.text == "x"
    (seen,) = asked.seen
    assert seen.sampling == Sampling(max_tokens=5, seed=5, stop=("y",), temperature=0.8)
    assert seen.messages == request.messages
