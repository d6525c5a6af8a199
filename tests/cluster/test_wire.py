from __future__ import annotations

import os
import pickle
import time

from bicameral.cluster.wire import LARGE, Shared, lift, lower
from bicameral.types import Audio, Image, Message, Request, Text


def picture(data: bytes) -> Image:
    return Image(data=data, media_type="image/png")


def test_large_bytes_go_beside_and_come_back_in_place() -> None:
    big, small, sound = os.urandom(LARGE), os.urandom(LARGE - 1), os.urandom(2 * LARGE)
    messages = (
        Message("user", (Text("a"), picture(small), picture(big))),
        Message("user", (Audio(sound, "wav"), Text("b"), Image(url="http://x/y"))),
    )
    request = Request(messages=messages, id="x", booking="y", budget=5)
    body, beside = lift(request)
    assert len(body) < LARGE + 1000
    assert [len(shared.view) for shared in beside] == [LARGE, 2 * LARGE]
    assert lower(body, beside) == request


def test_pickled_bytes_stay_beside_the_pickle() -> None:
    data, buffers = os.urandom(1000), []
    body = pickle.dumps(Shared(data), protocol=5, buffer_callback=buffers.append)
    assert len(body) < 200
    back = pickle.loads(body, buffers=buffers)
    assert back.view.obj is not None
    assert bytes(back.view) == data


def test_a_deadline_travels_as_the_time_left() -> None:
    body, _ = lift(Request.ask("?", deadline=time.monotonic() + 50))
    left = lower(body, ()).remaining()
    assert left is not None
    assert 40 < left <= 50
    assert lower(lift(Request.ask("?"))[0], ()).deadline is None


def test_a_passed_deadline_has_passed_there_too() -> None:
    body, _ = lift(Request.ask("?", deadline=0.0))
    assert lower(body, ()).remaining() == 0
