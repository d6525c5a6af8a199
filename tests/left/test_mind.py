"""Minds over scripted members: who is asked, what is said, what it cost, what a failure does."""

from __future__ import annotations

import asyncio
import time
from contextlib import aclosing

import pytest

from bicameral.errors import (
    AllFailed,
    BudgetError,
    ReachError,
    Timeout,
    Unsupported,
)
from bicameral.left.again import again, differences
from bicameral.left.answers import normalised
from bicameral.left.cascade import Cascade
from bicameral.left.fuse import Fuse
from bicameral.left.mind import Mind
from bicameral.left.route import Route
from bicameral.left.vote import Vote
from bicameral.model import collect
from bicameral.types import (
    Delta,
    Done,
    Feature,
    Image,
    Message,
    Reach,
    Request,
    Sampling,
    Text,
    Tool,
    Wire,
    spent_at_most,
)

HELLO = Request.ask("hello there")


async def test_vote_takes_the_majority(member):
    members = [
        await member("a", reply="no"),
        await member("b", reply="Yes."),
        await member("c", reply="yes"),
        await member("d", fail="broken"),
    ]
    answer = await collect(Mind("m", Vote(), members), HELLO)
    assert answer.text == "Yes."
    assert len(answer.calls) == 4
    assert answer.usage.total_tokens is None  # what the broken one consumed is unknown


async def test_a_tied_vote_goes_to_the_first_named(member):
    members = [await member("a", reply="no"), await member("b", reply="yes")]
    assert (await collect(Mind("m", Vote(), members), HELLO)).text == "no"


@pytest.mark.parametrize(
    ("left", "right"),
    [("Paris.", "  paris"), ('{"a": 1, "b": 2}', '{"b":2,"a":1}'), ("北京。", "北京")],
)
def test_equal_answers_are_normalised_alike(left, right):
    assert normalised(left) == normalised(right)


async def test_minds_nest_and_every_leaf_call_is_counted(member):
    inner = Mind("inner", Vote(), [await member("a", reply="x"), await member("b", reply="x")])
    outer = Mind("outer", Route(), [inner, await member("c")])
    answer = await collect(outer, HELLO)
    assert answer.text == "x"
    assert [c.model for c in answer.calls] == ["a", "b"]


async def test_a_member_beyond_the_reach_is_never_called(member):
    far = await member("far", reach="public")
    near = await member("near", reach="device", fail="unreachable")
    mind = Mind("m", Route(), [far, near], reach=Reach.DEVICE)
    answer = await collect(mind, HELLO)
    assert isinstance(answer.error, AllFailed)
    assert "far is at reach 'public'" in str(answer.error)
    assert "near: fails" in str(answer.error)
    assert far.leaf.runs == 0
    alone = await collect(Mind("m", Route(), [far]), HELLO.but(reach=Reach.SITE))
    assert isinstance(alone.error, ReachError)
    assert "'site'" in str(alone.error)
    assert far.leaf.runs == 0


async def test_members_that_cannot_are_left_out_with_the_reason(member):
    blind, seeing = await member("blind"), await member("seeing", accepts=["text", "image"])
    picture = Message("user", (Text("what is it"), Image(data=b"x", media_type="image/png")))
    request = Request(messages=(picture,))
    answer = await collect(Mind("m", Route(), [blind, seeing]), request)
    assert answer.by == "seeing"
    assert "blind left out: blind does not support image input" in answer.why
    none = await collect(Mind("m", Route(), [blind, blind]), request)
    assert isinstance(none.error, Unsupported)
    assert none.error.param == "messages"


async def test_vote_and_fuse_refuse_tools(member):
    a, b = await member("a"), await member("b")
    request = HELLO.but(tools=(Tool("f"),))
    for policy in (Vote(), Fuse()):
        answer = await collect(Mind("m", policy, [a, b]), request)
        assert isinstance(answer.error, Unsupported)
        assert answer.error.param == "tools"


async def test_closing_the_stream_cancels_every_member(member):
    members = [await member(n, reply="x " * 50, delay=0.02) for n in "abc"]
    task = asyncio.create_task(collect(Mind("m", Vote(), members), HELLO))
    while not all(m.leaf.running for m in members):
        await asyncio.sleep(0.005)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert [m.leaf.cancelled for m in members] == [1, 1, 1]


async def test_closing_a_streamed_route_cancels_the_speaker(member):
    a = await member("a", reply="x " * 50, delay=0.01)
    async with aclosing(Mind("m", Route(), [a]).run(HELLO)) as events:
        async for _ in events:
            break
    assert (a.leaf.cancelled, a.leaf.running) == (1, 0)


async def test_budget_is_kept_and_unknown_prices_fail_closed(member):
    price = {"price_input": "1", "price_output": "1000"}
    dear = await member("dear", reply="word " * 5, **price)
    unpriced = await member("unpriced")
    tight = HELLO.but(budget=1_000, sampling=Sampling(max_tokens=5))
    assert isinstance((await collect(Mind("m", Route(), [dear]), tight)).error, BudgetError)
    loose = tight.but(budget=10**10)
    assert (await collect(Mind("m", Route(), [dear]), loose)).error is None
    assert isinstance((await collect(Mind("m", Route(), [unpriced]), loose)).error, BudgetError)


async def test_a_panel_shares_the_budget(member):
    price = {"price_input": "0", "price_output": "1000"}
    members = [await member(n, reply="w " * 4, **price) for n in "ab"]
    one = HELLO.but(sampling=Sampling(max_tokens=4), budget=4 * 10**6 * 3 // 2)
    answer = await collect(Mind("m", Vote(), members), one)
    assert isinstance(answer.error, BudgetError)  # either alone fits, both together do not
    assert sum(m.leaf.runs for m in members) == 0


async def test_a_passed_deadline_stops_before_asking(member):
    a = await member("a")
    answer = await collect(Mind("m", Route(), [a]), HELLO.but(deadline=time.monotonic() - 1))
    assert isinstance(answer.error, Timeout)
    assert a.leaf.runs == 0


async def test_the_wire_reaches_a_single_final_member_only(member):
    seen = {}

    class Spy:
        def __init__(self, inner):
            self.inner, self.card = inner, inner.card

        async def run(self, request):
            seen[self.card.name] = request.wire
            async with aclosing(self.inner.run(request)) as events:
                async for event in events:
                    yield event

    wire = Wire(b"{}", stream=True, include_usage=False)
    request = Request(messages=HELLO.messages, wire=wire)
    spies = [Spy(await member(n, reply="w")) for n in "ab"]
    for policy in (Route(), Vote()):
        seen.clear()
        async with aclosing(Mind("m", policy, spies, reach=Reach.SITE).run(request)) as events:
            assert isinstance([e async for e in events][-1], Done)
        assert seen == ({"a": wire} if policy.name == "route" else {"a": None, "b": None})


async def test_the_card_says_what_the_members_can_do(member):
    a = await member("a", features=["stop"], context=100)
    b = await member("b", features=["tools", "n"], context=200, accepts=["text", "image"])
    card = Mind("m", Cascade(0.5), [a, b]).card
    assert card.features == {Feature.STOP, Feature.TOOLS}
    assert card.context == 200
    assert card.members == ("a", "b")


async def test_fifty_concurrent_answers_do_not_mix(member):
    a, b = await member("a", confidence=0.1), await member("b", delay=0.001)
    mind = Mind("m", Cascade(0.8), [a, b])
    asked = [Request.ask(f"question number {i}") for i in range(50)]
    answers = await asyncio.gather(*(collect(mind, request) for request in asked))
    assert [answer.text for answer in answers] == [request.question for request in asked]


async def test_deltas_name_who_spoke(member):
    a, b = await member("a", confidence=0.1), await member("b")
    async with aclosing(Mind("m", Cascade(0.8), [a, b]).run(HELLO)) as events:
        by = {e.by async for e in events if isinstance(e, Delta)}
    assert by == {"b"}


async def test_good_answers_survive_when_money_or_time_runs_out(member):
    price = {"price_input": "0.1", "price_output": "1"}
    dies = await member("a", reply="x y z", die_after=1, **price)
    panel = [dies, await member("b", reply="right", **price), await member("c", **price)]
    tight = HELLO.but(budget=50_000, sampling=Sampling(max_tokens=4))
    answer = await collect(Mind("m", Fuse(), panel), tight)
    assert (answer.error, answer.text) == (None, "right")
    assert spent_at_most(answer.calls) <= 50_000
    decision = answer.decisions[0]
    assert not list(differences(decision, again(decision, Fuse())))
    late = HELLO.but(deadline=time.monotonic() + 0.2)
    first = await member("first", reply="hm", confidence=0.1, delay=0.3)
    answer = await collect(Mind("m", Cascade(0.8), [first, await member("second")]), late)
    assert answer.text == "hm"
    assert "second" not in [call.model for call in answer.calls]
