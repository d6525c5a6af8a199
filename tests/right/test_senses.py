"""Parts are perceived once; waiting together, giving up, forgetting."""

from __future__ import annotations

import asyncio

import pytest

from bicameral.errors import Broken, Rejected, Timeout
from bicameral.right.senses import Senses
from bicameral.types import Image, Modality, Reach, Request
from tests.right.finders import Finder, metered, picture, says

FINDS = {bytes([i]): (says(str(i)),) for i in range(50)}
ASK = Request.ask("?")


async def test_forty_at_once_are_all_answered_and_each_content_is_looked_at_once() -> None:
    finder = Finder(finds=FINDS, delay=0.001)
    senses = Senses([finder])
    found = await asyncio.gather(
        *(senses.perceive(picture(bytes([i % 8])), ASK) for i in range(40))
    )
    assert [f.percepts[0].text for f in found] == [str(i % 8) for i in range(40)]
    assert finder.looked == 8


async def test_only_the_last_are_remembered() -> None:
    finder = Finder(finds=FINDS)
    senses = Senses([finder], remembered=2)
    for i in (0, 1, 2, 2, 1, 0):
        await senses.perceive(picture(bytes([i])), ASK)
    assert finder.looked == 4


async def test_one_who_gives_up_does_not_stop_the_others() -> None:
    finder = Finder(finds=FINDS, delay=0.05)
    senses = Senses([finder])
    first = asyncio.create_task(senses.perceive(picture(b"\x01"), ASK))
    second = asyncio.create_task(senses.perceive(picture(b"\x01"), ASK))
    await asyncio.sleep(0.01)
    first.cancel()
    assert (await second).percepts[0].text == "1"
    assert finder.cancelled == 0


async def test_when_nobody_waits_the_work_stops() -> None:
    finder = Finder(finds=FINDS, delay=30)
    senses = Senses([finder])
    tasks = [asyncio.create_task(senses.perceive(picture(b"\x01"), ASK)) for _ in range(2)]
    await asyncio.sleep(0.01)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await asyncio.sleep(0)
    assert finder.cancelled == 1


async def test_a_deadline_ends_the_wait() -> None:
    senses = Senses([Finder(finds=FINDS, delay=30)])
    with pytest.raises(Timeout):
        await senses.perceive(picture(b"\x01"), ASK.but(deadline=0.0))


async def test_who_broke_off_is_asked_once_more() -> None:
    finder = Finder(finds=FINDS, error=Broken("eyes", "its process died"))
    senses = Senses([metered(finder)])
    task = asyncio.create_task(senses.perceive(picture(b"\x01"), ASK))
    while not finder.broke:
        await asyncio.sleep(0)
    finder.error = None
    found = await task
    assert found.percepts[0].text == "1"
    assert len(found.calls) == 2, "the call that broke off is booked too"


async def test_failures_are_not_remembered() -> None:
    finder = Finder(error=Rejected("eyes", "not this"))
    senses = Senses([finder])
    for _ in range(2):
        with pytest.raises(Rejected):
            await senses.perceive(picture(b"\x01"), ASK)
    assert finder.looked == 2


async def test_fetched_content_is_what_is_perceived() -> None:
    class Shelf:
        async def get(
            self, url: str, kind: Modality, *, reach: Reach, deadline: float | None
        ) -> tuple[bytes, str]:
            assert (url, kind, deadline) == ("https://example.com/x.png", Modality.IMAGE, 1.0)
            return b"\x07", "image/png"

    senses = Senses([Finder(finds=FINDS)], fetcher=Shelf())
    part = await senses.at_hand(Image(url="https://example.com/x.png"), ASK.but(deadline=1.0))
    assert part.data == b"\x07"
    assert part.url is None
    assert (await senses.perceive(part, ASK)).percepts[0].text == "7"
