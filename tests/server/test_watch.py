"""Streams watched over HTTP: named sources only, told as events, over when the client goes."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from msgspec.structs import replace

from bicameral.brain import Brain
from bicameral.config import parse
from bicameral.errors import RequestError
from bicameral.server import watch as watch_route
from bicameral.server.serve import serving as serving_brain
from tests.right.streams import movie, save_video
from tests.server.client import Got, call, head, raw, until
from tests.server.live import Live

CONFIG = """
[models.eyes]
engine = "scripted"
reply = "yes, a box"
accepts = ["text", "image", "audio"]
[models.blind]
engine = "scripted"
"""
PATH = "/v1/watch"


@pytest.fixture
def door(tmp_path):
    return save_video(tmp_path / "door.avi", movie(10, [(4.0, 6.0)]))


@pytest.fixture
async def live(door):
    async with watched(sources={"door": str(door)}, fps=1000.0) as live:
        yield live


@asynccontextmanager
async def watched(fetching=None, config=CONFIG, **table: Any):
    """A server with that [watch] table, and the route in it."""
    parsed = replace(parse(config, "test"), watch=table)
    server_options = replace(parsed.server, port=0, drain_timeout=1.0)
    async with Brain.open(parsed) as brain, serving_brain(brain, server_options) as server:
        route = watch_route.Watches(brain, server.app.desk, fetching)
        server.app._bare[PATH] = route
        yield Live(server, brain)


async def ask(live: Live, headers: dict[str, str] | None = None, **fields: Any) -> Got:
    body = {"ask": "a box moves", "source": "door", "model": "eyes", **fields}
    return await call(live, "POST", PATH, {k: v for k, v in body.items() if v is not None}, headers)


def kinds(got: Got) -> list[str]:
    return [chunk["event"] for chunk in got.chunks]


async def test_a_named_source_is_watched_to_its_end(live) -> None:
    got = await ask(live)
    assert got.status == 200
    assert got.headers["content-type"].startswith("text/event-stream")
    assert kinds(got)[0] == "opened"
    assert kinds(got)[-1] == "stats"
    (alarm,) = [chunk for chunk in got.chunks if chunk["event"] == "alarm"]
    assert 4 <= alarm["at"] <= 6
    assert alarm["picture"] is None
    (said,) = [chunk for chunk in got.chunks if chunk["event"] == "described"]
    assert said["text"] == "yes, a box"
    assert got.chunks[0]["source"] == "door"


async def test_an_alarm_brings_the_picture_if_asked(live) -> None:
    got = await ask(live, picture=True)
    (alarm,) = [chunk for chunk in got.chunks if chunk["event"] == "alarm"]
    assert alarm["picture"].startswith("data:image/jpeg;base64,")


async def test_two_clients_get_their_own(live) -> None:
    first, second = await asyncio.gather(ask(live), ask(live, gate="motion"))
    assert [got.chunks[0]["gate"] for got in (first, second)] == ["difference", "motion"]
    assert kinds(first).count("alarm") == kinds(second).count("alarm") == 1


@pytest.mark.parametrize(
    "source", ["/etc/passwd", "../door", "door.avi", "rtsp://127.0.0.1/", "mic", "DOOR", "door\n"]
)
async def test_nothing_but_names_of_the_config_can_be_watched(live, source, door) -> None:
    for name in (source, str(door)):
        got = await ask(live, source=name)
        assert (got.status, got.error["code"]) == (404, "unknown_source")
        assert str(door.parent) not in got.error["message"].replace(name, "")


async def test_without_the_table_nothing_can_be_watched() -> None:
    async with watched() as live:
        assert (await ask(live)).status == 404
        got = await ask(live, source=None, url="http://example.com/a.mp4")
        assert (got.status, got.error["code"]) == (400, "blocked_url")


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"ask": ""}, "ask"),
        ({"ask": "  "}, "ask"),
        ({"ask": "x" * 2001}, "ask"),
        ({"ask": None}, "ask"),
        ({"source": None}, "source"),
        ({"url": "http://example.com/a"}, "source"),
        ({"gate": "laser"}, "gate"),
        ({"threshold": 0}, "threshold"),
        ({"threshold": "1"}, "threshold"),
        ({"wakes": 13}, "wakes"),
        ({"cooldown": -1}, "cooldown"),
        ({"clip": 1000}, "clip"),
        ({"evidence": "/tmp/x"}, "evidence"),
        ({"model": 1}, "model"),
    ],
)
async def test_what_is_wrong_is_refused_by_name(live, fields, param) -> None:
    got = await ask(live, **fields)
    assert (got.status, got.error["param"]) == (400, param)


async def test_an_unknown_model_is_404_and_one_without_eyes_is_said_to_be(live) -> None:
    assert (await ask(live, model="nobody")).status == 404
    got = await ask(live, model="blind")
    last = json.loads(got.data[-1])  # the source was open by then
    assert last["error"]["code"] == "unsupported"


async def test_a_source_that_cannot_be_read_is_refused_without_its_path(tmp_path) -> None:
    bad = tmp_path / "bad.mp4"
    bad.write_bytes(b"#EXTM3U\n")
    for path in (bad, tmp_path / "gone.mp4"):
        async with watched(sources={"door": str(path)}) as live:
            got = await ask(live)
            assert (got.status, got.error["code"]) == (400, "bad_source")
            assert str(tmp_path) not in got.body.decode()


async def test_a_client_that_hangs_up_ends_its_watch(live) -> None:
    body = json.dumps({"ask": "x", "source": "door", "model": "eyes", "realtime": True}).encode()
    reader, writer = await raw(live)
    writer.write(head(live, len(body), path=PATH) + body)
    assert b"200" in await reader.readline()
    await reader.readuntil(b'"opened"')
    desk = live.server.app.desk
    assert len(desk.tasks) == 1
    writer.close()
    await until(lambda: not desk.tasks)
    await until(lambda: live.server.app._bare[PATH]._running == 0)


async def test_only_so_many_streams_at_once(door) -> None:
    async with watched(sources={"door": str(door)}, streams=0) as live:
        got = await ask(live)
        assert (got.status, got.error["code"]) == (429, "too_many_requests")


async def test_the_time_limit_ends_a_watch_well(live) -> None:
    got = await ask(live, {"x-bicameral-timeout": "0.5"}, realtime=True)
    assert kinds(got)[-1] == "stats"
    assert got.chunks[-1]["frames"] < 100


async def test_reach_bounds_whom_the_pictures_go_to(door) -> None:
    config = CONFIG.replace('accepts = ["text"', 'reach = "public"\naccepts = ["text"', 1)
    async with watched(config=config, sources={"door": str(door)}, fps=1000.0) as live:
        got = await ask(live, {"x-bicameral-reach": "device"})
        assert live.scripted("eyes").runs == 0
        assert "alarm" not in got.body.decode()


async def test_a_budget_is_refused_rather_than_ignored(live) -> None:
    got = await ask(live, {"x-bicameral-budget": "1"})
    assert (got.status, got.error["param"]) == (400, "x-bicameral-budget")


class Fetched:
    """Gives the bytes of a file for any url."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.asked: list[tuple[str, str]] = []

    async def get(self, url: str, kind: Any, **limits: Any) -> tuple[bytes, str]:
        self.asked.append((url, str(kind.value)))
        if "private" in url:
            raise RequestError("url: blocked", param="url", code="blocked_url")
        return self._data, "video/x-msvideo"


async def test_a_recording_at_an_address_is_fetched_by_the_rules_and_watched(door) -> None:
    fetched = Fetched(door.read_bytes())

    @asynccontextmanager
    async def fetching():
        yield fetched

    async with watched(fetching, urls=True, fps=1000.0) as live:
        got = await ask(live, source=None, url="https://example.com/a.avi")
        assert kinds(got).count("alarm") == 1
        got = await ask(live, source=None, url="http://private/a.avi")
        assert (got.status, got.error["code"]) == (400, "blocked_url")
    assert [kind for _, kind in fetched.asked] == ["video", "video"]


async def test_by_default_an_address_is_not_fetched() -> None:
    """[watch] urls says yes, but [right] fetch has its say too."""
    async with watched(urls=True) as live:
        got = await ask(live, source=None, url="http://127.0.0.1:9/a.avi")
        assert (got.status, got.error["code"]) == (400, "blocked_url")


async def test_the_question_is_not_logged(live, caplog) -> None:
    caplog.set_level(0)
    await ask(live, ask="a canary in the coal mine")
    assert "canary" not in caplog.text


async def test_only_post(live) -> None:
    async with aiohttp.ClientSession() as session, session.get(live.url + PATH) as response:
        assert response.status in (404, 405)
