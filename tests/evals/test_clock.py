"""The loop whose sleeps take no time."""

from __future__ import annotations

import asyncio

import pytest

from bicameral.evals.clock import Virtual


def run(work):
    with asyncio.Runner(loop_factory=Virtual) as runner:
        return runner.run(work)


async def _slept(*parts):
    loop = asyncio.get_running_loop()
    began = loop.time()
    for seconds in parts:
        await asyncio.gather(*map(asyncio.sleep, seconds))
    return loop.time() - began


def test_time_passes_as_if_slept():
    assert run(_slept([0.5])) == pytest.approx(0.5)
    assert run(_slept([3600.0, 7.0], [0.0], [0.25, 0.5])) == pytest.approx(3600.5)
    assert run(_slept()) == 0


def test_the_order_of_sleepers_is_the_order_of_time():
    heard = []

    async def say(word, after):
        await asyncio.sleep(after)
        heard.append(word)

    async def both():
        await asyncio.gather(say("late", 9), say("soon", 1), say("then", 5))

    run(both())
    assert heard == ["soon", "then", "late"]


def test_a_timeout_cuts_what_takes_too_long():
    async def limited():
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(10):
                await asyncio.sleep(1000)
        return asyncio.get_running_loop().time()

    assert run(limited()) == pytest.approx(10)


def test_it_restarts_at_zero():
    async def twice():
        await asyncio.sleep(5)
        asyncio.get_running_loop().restart()
        await asyncio.sleep(0.5)
        return asyncio.get_running_loop().time()

    assert run(twice()) == 0.5
