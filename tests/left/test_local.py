"""Every policy over real local models: two of SmolLM2-135M, and one that is always down."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, aclosing

import pytest
import pytest_asyncio

from bicameral.engines.weights import locate
from bicameral.errors import WeightsError
from bicameral.ledger.meter import Meter
from bicameral.left.again import again, differences
from bicameral.left.cascade import Cascade
from bicameral.left.fuse import Fuse
from bicameral.left.mind import Mind
from bicameral.left.policy import Policy
from bicameral.left.route import Route
from bicameral.left.select import Select
from bicameral.left.vote import Vote
from bicameral.left.worth import Worth
from bicameral.model import Model, collect
from bicameral.types import Delta, Done, JsonFormat, Request, Sampling
from tests.engines.models import opened

pytest.importorskip("xllamacpp", reason="needs pip install 'bicameral[llama]'")
pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.xdist_group("llama_cpp")]

SAY_HELLO = Request.ask("Say hello.", sampling=Sampling(max_tokens=6, temperature=0), id="local-1")
# Would take minutes.
LONG = Request.ask(
    "Tell a very long story.", sampling=Sampling(max_tokens=8000), extra={"ignore_eos": True}
)
WORTH = Worth(worth=10**9, second=10**6)
POLICIES: dict[str, Callable[[Model], Policy]] = {
    "route": lambda judge: Route(WORTH),
    "cascade": lambda judge: Cascade(0.9, try_tokens=4),
    "cascade, worth": lambda judge: Cascade(worth=WORTH, try_tokens=4),
    "vote": lambda judge: Vote(),
    "select": lambda judge: Select(),
    "select, judge": lambda judge: Select(judge),
    "fuse": lambda judge: Fuse(judge),
    "fuse, analysis": lambda judge: Fuse(judge, analysis=True),
}
every_policy = pytest.mark.parametrize("policy", POLICIES)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def members() -> AsyncIterator[list[Model]]:
    try:
        path = str(locate("smollm2-135m"))
    except WeightsError as error:
        pytest.skip(str(error))
    down = {"fail": "unreachable", "price_input": "0", "price_output": "0"}
    keys = {"weights": path, "threads": 1, "context": 8192}
    async with AsyncExitStack() as stack:
        leaves = [
            await stack.enter_async_context(opened("scripted", "down", **down)),
            await stack.enter_async_context(opened("llama_cpp", "one", **keys)),
            await stack.enter_async_context(opened("llama_cpp", "two", **keys)),
        ]
        yield [Meter(leaf, lambda call, booking: None) for leaf in leaves]


@every_policy
async def test_answers_and_tells_how(members, policy):
    chosen = POLICIES[policy](members[2])
    answer = await collect(Mind("m", chosen, members), SAY_HELLO)
    assert answer.error is None
    assert answer.text.strip()
    assert answer.cost == 0  # local, and the one that is down took nothing up
    assert answer.usage.completion_tokens >= 1
    (decision,) = answer.decisions
    assert [asked.model for asked in decision.asked] == [call.model for call in answer.calls]
    assert sum(asked.share for asked in decision.asked) == pytest.approx(1.0)
    assert answer.by in ("one", "two")
    assert list(differences(decision, again(decision, chosen))) == []


@every_policy
async def test_hanging_up_frees_the_members(members, policy):
    async with aclosing(Mind("m", POLICIES[policy](members[2]), members).run(LONG)) as events:
        begun = asyncio.ensure_future(anext(events))
        done, _ = await asyncio.wait([begun], timeout=0.4)
        if not done:  # it waits for whole answers: the reader goes away meanwhile
            begun.cancel()
            with pytest.raises(asyncio.CancelledError):
                await begun
    async with asyncio.timeout(30):  # each has one slot, and it is free again
        for model in members[1:]:
            assert (await collect(model, SAY_HELLO)).error is None


async def test_the_writer_streams_in_the_format_asked_for(members):
    request = Request.ask(
        "Name a colour.",
        sampling=Sampling(max_tokens=12, temperature=0),
        format=JsonFormat(
            {"type": "object", "properties": {"colour": {"enum": ["red", "blue"]}}}, name="colour"
        ),
    )
    async with aclosing(Mind("m", Fuse(), members[1:]).run(request)) as stream:
        events = [event async for event in stream]
    pieces = [event.part.text for event in events if isinstance(event, Delta)]
    assert len(pieces) > 1
    assert "".join(pieces).startswith("{")
    assert isinstance(events[-1], Done)
    assert [call.model for call in events[-1].calls] == ["one", "two", "two"]
