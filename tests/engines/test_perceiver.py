"""What every perceiver of pictures does around its net; the net here only notes what it saw."""

from __future__ import annotations

import asyncio
import io
import threading
import time
from contextlib import aclosing

import pytest

np = pytest.importorskip("numpy", reason="needs pip install 'bicameral[see]'")
pillow = pytest.importorskip("PIL.Image", reason="needs pip install 'bicameral[see]'")

from bicameral.config import MemberOptions  # noqa: E402
from bicameral.engines.media import perceiver  # noqa: E402
from bicameral.errors import (  # noqa: E402
    Overloaded,
    RequestError,
    Timeout,
    Unsupported,
)
from bicameral.model import collect  # noqa: E402
from bicameral.types import (  # noqa: E402
    Audio,
    Done,
    Image,
    Message,
    Modality,
    Percept,
    Reach,
    Request,
    Text,
)


def png(width: int = 8, height: int = 8) -> bytes:
    out = io.BytesIO()
    pillow.new("RGB", (width, height)).save(out, "PNG")
    return out.getvalue()


def asked(*parts, **fields) -> Request:
    fields = {"output": Modality.PERCEPT, **fields}
    return Request(messages=(Message("user", parts),), **fields)


class Net:
    """Tells the width of each picture; waits until it may go on."""

    pixels = 10_000

    def __init__(self) -> None:
        self.seen: list[int] = []
        self.at_once = 0
        self.most_at_once = 0
        self.threads: set[int] = set()
        self.go_on = threading.Event()
        self.go_on.set()

    def look(self, picture) -> list[Percept]:
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        self.threads.add(threading.get_ident())
        self.seen.append(picture.shape[1])
        self.go_on.wait(10)
        self.at_once -= 1
        return [Percept(kind="tag", text=str(picture.shape[1]), confidence=0.5)] * 2


def opened(net: Net):
    card = perceiver.card("eye", MemberOptions(engine="test"), serves="a net")
    return perceiver.opened(card, lambda: net)


async def test_each_picture_is_told_by_its_place_among_the_media():
    net = Net()
    message = Text("what is this?"), Image(data=png(3)), Image(data=png(5))
    async with opened(net) as model:
        answer = await collect(model, asked(*message))
    assert answer.error is None
    assert [(p.source, p.text) for p in answer.percepts] == [(0, "3"), (0, "3"), (1, "5"), (1, "5")]
    assert (answer.by, answer.reason) == ("eye", "stop")


async def test_a_perceiver_uses_no_tokens_and_costs_nothing():
    async with opened(Net()) as model:
        answer = await collect(model, asked(Image(data=png()), budget=0))
        assert answer.usage.total_tokens == 0
        assert model.card.price.cost(answer.usage) == 0
        assert (answer.usage.images, answer.usage.cost) == (1, None)
        assert model.card.reach is Reach.DEVICE


async def test_pictures_of_the_whole_conversation_are_seen():
    turns = tuple(Message("user", (Image(data=png(width)),)) for width in (2, 4))
    async with opened(Net()) as model:
        answer = await collect(model, Request(messages=turns, output=Modality.PERCEPT))
    assert [p.source for p in answer.percepts] == [0, 0, 1, 1]


async def test_a_url_is_refused_before_any_picture_is_seen():
    net = Net()
    async with opened(net) as model:
        request = asked(Image(data=png()), Image(url="https://example.com/a.png"))
        with pytest.raises(RequestError, match="picture 2 is a URL") as caught:
            await anext(model.run(request))
    assert caught.value.code == "image_not_fetched"
    assert net.seen == []


async def test_nothing_to_look_at_is_refused():
    async with opened(Net()) as model:
        with pytest.raises(RequestError, match="no picture"):
            await anext(model.run(asked(Text("hello"))))


async def test_what_the_card_does_not_list_is_refused():
    async with opened(Net()) as model:
        with pytest.raises(Unsupported, match="text output"):
            await anext(model.run(asked(Image(data=png()), output=Modality.TEXT)))
        with pytest.raises(Unsupported, match="audio input"):
            await anext(model.run(asked(Audio(b"RIFF", "wav"))))


async def test_a_damaged_picture_is_named_and_the_next_request_is_fine():
    async with opened(Net()) as model:
        answer = await collect(model, asked(Image(data=png()), Image(data=png()[:40])))
        assert isinstance(answer.error, RequestError)
        assert "picture 2 is" in str(answer.error)
        assert (await collect(model, asked(Image(data=png())))).error is None


async def test_closing_the_stream_drops_the_pictures_that_wait():
    net = Net()
    async with opened(net) as model:
        async with aclosing(model.run(asked(*[Image(data=png())] * 9))) as events:
            await anext(events)
        await collect(model, asked(Image(data=png(5))))
    assert net.seen == [8, 5]


async def test_cancelled_while_a_picture_is_seen_the_rest_is_dropped():
    net = Net()
    net.go_on.clear()
    async with opened(net) as model:
        tasks = [
            asyncio.create_task(collect(model, asked(*[Image(data=png())] * 3))) for _ in range(3)
        ]
        while not net.seen:
            await asyncio.sleep(0.01)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        net.go_on.set()
        await collect(model, asked(Image(data=png(5))))
    assert net.seen == [8, 5]


async def test_forty_at_once_are_all_answered_one_picture_at_a_time():
    net = Net()
    async with opened(net) as model:
        widths = range(1, 41)
        answers = await asyncio.gather(
            *(collect(model, asked(Image(data=png(width)))) for width in widths)
        )
    assert [answer.percepts[0].text for answer in answers] == [str(width) for width in widths]
    assert net.most_at_once == 1
    assert len(net.threads) == 1


async def test_more_than_there_is_room_for_is_turned_away():
    net = Net()
    net.go_on.clear()
    async with opened(net) as model:
        asks = [
            asyncio.create_task(collect(model, asked(Image(data=png()))))
            for _ in range(perceiver.ROOM + 3)
        ]
        done, _ = await asyncio.wait(asks, return_when=asyncio.FIRST_COMPLETED)
        assert all(isinstance(task.result().error, Overloaded) for task in done)
        net.go_on.set()
        answers = await asyncio.gather(*asks)
    assert sum(isinstance(answer.error, Overloaded) for answer in answers) == 3
    assert sum(answer.error is None for answer in answers) == perceiver.ROOM


async def test_a_deadline_ends_the_wait():
    net = Net()
    net.go_on.clear()
    async with opened(net) as model:
        soon = asked(Image(data=png()), deadline=time.monotonic() + 0.05)
        answer = await collect(model, soon)
        assert isinstance(answer.error, Timeout)
        net.go_on.set()
        assert (await collect(model, asked(Image(data=png())))).error is None


async def test_ends_with_one_done():
    async with opened(Net()) as model, aclosing(model.run(asked(Image(data=png())))) as stream:
        events = [event async for event in stream]
    assert [isinstance(event, Done) for event in events] == [False, False, True]
    assert events[-1].served == "a net"
