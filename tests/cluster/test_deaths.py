"""Replicas and nodes that die, that are drained, and that come and go with the work."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import aclosing

import pytest
import pytest_asyncio
from msgspec.structs import replace

from bicameral.cluster.member import Far
from bicameral.errors import Broken, Unreachable
from bicameral.ledger.meter import Meter
from bicameral.model import collect
from bicameral.types import Request
from tests.cluster.asking import ask, until

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def hasty(opened) -> AsyncIterator[Far]:
    """What is told to stop or to go has no time."""
    async with opened(grace_seconds=0.3, drain_seconds=0.2) as model:
        yield model


async def test_a_request_cut_off_before_its_first_event_is_asked_again(opened, tmp_path) -> None:
    async with opened(replicas=2) as model:
        assert await ask(model, f"once {tmp_path / 'flag'}") == "the second time"
        assert model.pool.deaths == 1
        await until(lambda: sum(each.free for each in model.pool.replicas) == 2)


async def test_the_try_that_a_death_cut_off_is_booked_too(model, tmp_path) -> None:
    calls = []
    metered = Meter(model, lambda call, _: calls.append(call))
    await collect(metered, Request.ask(f"once {tmp_path / 'flag'}"))
    assert [call.ended for call in calls] == ["failed", "finished"]
    assert "its replica died" in calls[0].error
    assert calls[0].state == "estimated"


async def test_a_request_that_kills_twice_is_a_clear_error(model) -> None:
    before = model.pool.deaths
    with pytest.raises(Broken, match="its replica died as it answered"):
        await ask(model, "die")
    assert model.pool.deaths == before + 2
    assert await ask(model, "say back") == "back"


async def test_an_answer_that_had_begun_is_not_begun_again(model) -> None:
    heard, before = [], model.pool.deaths
    with pytest.raises(Broken, match="its replica died as it answered"):
        async with aclosing(model.run(Request.ask("half"))) as events:
            heard += [event.part.text async for event in events]
    assert heard in ([], ["half"])
    assert model.pool.deaths == before + 1


async def test_a_deaf_engine_is_killed_and_replaced(hasty) -> None:
    before, deaths = await ask(hasty, "pid"), hasty.pool.deaths
    async with aclosing(hasty.run(Request.ask("deaf"))) as events:
        await anext(events)
    await until(lambda: hasty.pool.deaths == deaths + 1)
    assert await ask(hasty, "pid") != before


async def test_a_node_killed_under_load(nodes, opened) -> None:
    """What had begun there fails, what had not is answered elsewhere, nothing else notices."""
    node = nodes.add(green=8)
    async with opened({"delay": 0.02}, replicas=2, resources={"green": 1}) as model:
        assert {each.node for each in model.pool.replicas} == {node.node_id, nodes.blue.node_id}
        words = " ".join(f"w{n}" for n in range(100))
        ask_all = (collect(model, Request.ask(f"say {words}")) for _ in range(16))
        asked = [asyncio.create_task(asking) for asking in ask_all]
        await asyncio.sleep(0.5)
        await asyncio.to_thread(nodes.kill, node)
        answers = await asyncio.gather(*asked)
        good = [answer for answer in answers if answer.error is None]
        cut = [answer for answer in answers if answer.error is not None]
        assert len(good) >= 8
        assert all(answer.text.strip() == words for answer in good)
        assert all(words.startswith(answer.text.strip()) for answer in cut)
        assert all(isinstance(answer.error, Broken) and answer.text for answer in cut)
        await until(lambda: model.pool.deaths == 1)
        await until(lambda: sum(each.free for each in model.pool.replicas) == 2)
        assert {each.node for each in model.pool.replicas} == {nodes.blue.node_id}


async def test_without_a_node_for_it_requests_fail_at_once_and_say_why(nodes, opened) -> None:
    node = nodes.add(brown=1)
    async with opened(resources={"brown": 1}) as model:
        patient = model._settings
        model._settings = replace(patient, place_seconds=0.5)
        await asyncio.to_thread(nodes.kill, node)
        await until(lambda: model.pool._down)
        with pytest.raises(Unreachable, match=r"no node has that: start one with it"):
            await ask(model, "say hello")
        model._settings = patient
        again = nodes.add(brown=1)
        await until(lambda: any(each.free for each in model.pool.replicas))
        assert await ask(model, "where") == again.node_id
    await asyncio.to_thread(nodes.kill, again)


async def test_a_drained_replica_ends_what_it_has_and_gets_nothing_new(opened, tmp_path) -> None:
    flag = tmp_path / "flag"
    async with opened({"closed": str(flag)}, replicas=2, resources={"red": 1}) as model:
        slow = [asyncio.create_task(ask(model, "slow 1")) for _ in range(4)]
        await asyncio.sleep(0.2)
        leaving = model.pool.replicas[0]
        model.pool.drain(leaving)
        assert leaving.ongoing == 2
        assert {await ask(model, "say fine") for _ in range(6)} == {"fine"}
        assert leaving.asked == 2
        assert await asyncio.gather(*slow) == ["begun done"] * 4
        await until(flag.exists)
        await until(lambda: leaving not in model.pool.replicas)
        await until(lambda: sum(each.free for each in model.pool.replicas) == 2)
        assert model.pool.deaths == 0


async def test_a_node_that_is_announced_to_go_is_left_in_time(nodes, opened) -> None:
    node = nodes.add(grey=8)
    async with opened(replicas=2, resources={"grey": 1}) as model:
        assert {each.node for each in model.pool.replicas} == {node.node_id, nodes.blue.node_id}
        slow = [asyncio.create_task(ask(model, "slow 3")) for _ in range(4)]
        await asyncio.sleep(0.2)
        await asyncio.to_thread(nodes.drain, node)
        assert await asyncio.gather(*slow) == ["begun done"] * 4
        stay = {nodes.blue.node_id}
        await until(
            lambda: [each.node for each in model.pool.replicas if each.up] == [*stay, *stay]
        )
        assert model.pool.deaths == 0
    await asyncio.to_thread(nodes.kill, node)


async def test_a_drain_ends_in_time_whoever_goes_on(hasty) -> None:
    async with aclosing(hasty.run(Request.ask("slow"))) as events:
        await anext(events)
        hasty.pool.drain(hasty.pool.replicas[0])
        with pytest.raises(Broken, match="its replica died"):
            await anext(events)
    assert await ask(hasty, "say fine") == "fine"


async def test_there_are_as_many_replicas_as_there_is_work_for(opened) -> None:
    bounds = {"min": 1, "max": 3, "up_seconds": 0.2, "down_seconds": 0.5}
    async with opened(replicas=bounds, max_ongoing=2) as model:
        slow = [asyncio.create_task(ask(model, "slow 2")) for _ in range(12)]
        await until(lambda: sum(each.free for each in model.pool.replicas) == 3)
        assert await asyncio.gather(*slow) == ["begun done"] * 12
        await until(lambda: len(model.pool.replicas) == 1)
        assert await ask(model, "say fine") == "fine"
        assert model.pool.deaths == 0


async def test_a_replica_killed_while_idle_is_replaced_before_anybody_asks(model) -> None:
    before = model.pool.deaths
    pid = int(await ask(model, "pid"))
    os.kill(pid, signal.SIGKILL)
    await until(lambda: model.pool.deaths == before + 1)
    assert int(await ask(model, "pid")) != pid
    assert model.pool.deaths == before + 1
