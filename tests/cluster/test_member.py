"""A member on Ray answers as it would here: events, errors, bytes, cancellation, places."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import time
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path

import numpy as np
import pytest
import pytest_asyncio

from bicameral.cluster.member import Far
from bicameral.cluster.wire import AHEAD, Shared
from bicameral.engines.told import Told
from bicameral.errors import (
    Broken,
    ChipError,
    ConfigError,
    Overloaded,
    ReachError,
    RequestError,
    Timeout,
    Unreachable,
)
from bicameral.model import collect
from bicameral.types import Reach, Request
from tests.cluster.asking import ask, until

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def narrow(opened) -> AsyncIterator[Far]:
    """Two at once, three may wait, and it goes nowhere public."""
    async with opened({"reach": "private"}, max_ongoing=2, queue=3) as model:
        yield model


async def tally(model) -> list[int]:
    """Of the engine: runs that go on, runs that were cancelled, the most at once."""
    return json.loads(await ask(model, "tally"))


async def test_it_answers_from_another_process(model) -> None:
    assert await ask(model, "say hello there") == "hello there"
    assert int(await ask(model, "pid")) != os.getpid()
    assert model.card.engine == "odd"


async def test_off_this_machine_it_is_at_site_at_least(model, narrow) -> None:
    assert model.card.reach is Reach.SITE
    with pytest.raises(ReachError):
        await ask(model, "say hello", reach=Reach.DEVICE)
    assert narrow.card.reach is Reach.PRIVATE


async def test_errors_arrive_as_they_were(model) -> None:
    with pytest.raises(RequestError, match="no such thing") as caught:
        await ask(model, "refuse")
    assert (caught.value.param, caught.value.code) == ("thing", "nothing")


async def test_a_bug_of_the_engine_fails_one_request_only(model) -> None:
    others = [asyncio.create_task(ask(model, "say fine")) for _ in range(5)]
    with pytest.raises(Broken, match="ZeroDivisionError: oops"):
        await ask(model, "bug")
    assert await asyncio.gather(*others) == ["fine"] * 5
    assert model.pool.deaths == 0


async def test_pictures_go_through_the_object_store(model) -> None:
    pictures = [os.urandom(3_000_000), b"tiny", os.urandom(200_000)]
    expected = " ".join(hashlib.sha256(data).hexdigest() for data in pictures)
    assert await ask(model, "look", *pictures) == expected


async def test_they_are_read_there_without_a_copy_and_cannot_be_written(nodes) -> None:
    import ray

    shared = ray.get(ray.put(Shared(bytes(3_000_000))))
    at = np.frombuffer(shared.view, np.uint8).ctypes.data
    assert "plasma" in mapped(at)
    assert shared.view.readonly


def mapped(at: int) -> str:
    """What is mapped at an address."""
    for line in Path("/proc/self/maps").read_text().splitlines():
        start, end = (int(each, 16) for each in line.split()[0].split("-"))
        if start <= at < end:
            return line
    return ""


async def test_closing_the_stream_cancels_the_work_there(model) -> None:
    cancelled = (await tally(model))[1]
    async with aclosing(model.run(Request.ask("slow"))) as events:
        assert (await anext(events)).part.text == "begun "
        assert (await tally(model))[:2] == [1, cancelled]
    await until(lambda: model.pool.replicas[0].ongoing == 0)
    assert (await tally(model))[:2] == [0, cancelled + 1]


async def test_cancelling_the_reader_before_the_first_event_stops_the_work(model) -> None:
    task = asyncio.create_task(collect(model, Request.ask("slow")))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await until(lambda: model.pool.replicas[0].ongoing == 0)
    assert (await tally(model))[0] == 0


async def test_what_the_leaf_told_comes_though_the_stream_was_abandoned(model) -> None:
    told = Told()
    async with aclosing(model.telling(Request.ask("slow"), told)) as events:
        await anext(events)
    assert (told.done.usage.prompt_tokens, told.done.usage.completion_tokens) == (11, 1)


async def test_tries_that_the_leaf_lost_are_told(model) -> None:
    told = Told()
    assert [event async for event in model.telling(Request.ask("twice hello"), told)]
    assert [str(error) for error in told.lost] == ["m: the first connection broke"]


async def test_a_slow_reader_holds_the_model_up_and_nobody_else(model, tmp_path) -> None:
    file = tmp_path / "made"
    async with aclosing(model.run(Request.ask(f"made 1500 {file}"))) as events:
        await anext(events)
        await asyncio.sleep(0.3)
        assert await ask(model, "say fine") == "fine"
        assert int(file.read_text()) <= 3 * AHEAD
        rest = [event async for event in events]
    assert len(rest) == 1500


async def test_a_deadline_is_kept_and_tells_there_what_is_left(model) -> None:
    left = float(await ask(model, "left", deadline=time.monotonic() + 50))
    assert 30 < left <= 50
    with pytest.raises(Timeout):
        await ask(model, "slow", deadline=time.monotonic() + 0.2)
    await until(lambda: model.pool.replicas[0].ongoing == 0)


async def test_beyond_what_it_may_do_requests_wait_and_then_are_refused(narrow) -> None:
    busy = [asyncio.create_task(ask(narrow, "slow 0.5")) for _ in range(5)]
    await asyncio.sleep(0.1)
    with pytest.raises(Overloaded, match="3 requests wait"):
        await ask(narrow, "say no")
    assert await asyncio.gather(*busy) == ["begun done"] * 5
    assert (await tally(narrow))[2] == 2


async def test_who_waits_too_long_or_goes_leaves_the_queue(narrow) -> None:
    busy = [asyncio.create_task(ask(narrow, "slow 1")) for _ in range(2)]
    await asyncio.sleep(0.05)
    with pytest.raises(Timeout, match="queue"):
        await ask(narrow, "say late", deadline=time.monotonic() + 0.1)
    gone = [asyncio.create_task(ask(narrow, "say gone")) for _ in range(3)]
    await asyncio.sleep(0.05)
    for task in gone:
        task.cancel()
    await asyncio.gather(*gone, return_exceptions=True)
    assert await ask(narrow, "say fine") == "fine"
    assert await asyncio.gather(*busy) == ["begun done"] * 2


async def test_requests_go_to_the_replica_with_the_least_to_do(opened) -> None:
    async with opened(replicas=2) as model:
        slow = [asyncio.create_task(ask(model, "slow 1")) for _ in range(6)]
        await asyncio.sleep(0.1)
        assert [replica.ongoing for replica in model.pool.replicas] == [3, 3]
        pids = {await ask(model, "pid") for _ in range(4)}
        assert len(pids) == 2
        await asyncio.gather(*slow)


async def test_it_stands_where_the_label_is(nodes, opened) -> None:
    async with (
        opened(resources={"red": 1}) as red,
        opened(resources={"blue": 0.5}) as blue,
    ):
        assert await ask(red, "where") == nodes.red.node_id
        assert await ask(blue, "where") == nodes.blue.node_id


async def test_a_label_that_no_node_has_is_a_clear_error(opened) -> None:
    with pytest.raises(ChipError, match=r"needs ascend910b 1 .*no node has that") as error:
        async with opened(resources={"ascend910b": 1}, place_seconds=0.5):
            pass
    assert "blue 8" in str(error.value)
    assert "red 8" in str(error.value)


async def test_a_label_that_is_taken_is_another(opened) -> None:
    async with opened(resources={"red": 6}):
        with pytest.raises(ChipError, match="every node that has it is taken"):
            async with opened(resources={"red": 6}, place_seconds=0.5):
                pass


async def test_an_open_that_fails_there_fails_the_same_here(opened) -> None:
    with pytest.raises(ConfigError, match=r"\[models.m\] opens: badly, as it was told"):
        async with opened({"opens": "badly"}):
            pass
    with pytest.raises(ConfigError, match="did you mean 'opens'"):
        async with opened({"open": "badly"}):
            pass
    with pytest.raises(Unreachable, match="ended as it opened"):
        async with opened({"opens": "never"}):
            pass


async def test_when_it_is_closed_the_engine_is_and_nothing_answers(opened, tmp_path) -> None:
    flag = tmp_path / "flag"
    async with opened({"closed": str(flag)}, replicas=2) as model:
        assert await ask(model, "say hello") == "hello"
    assert flag.read_text() == "closed\n" * 2
    with pytest.raises(Unreachable, match="closed"):
        await ask(model, "say hello")
