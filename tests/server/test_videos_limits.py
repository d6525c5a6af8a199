"""Whose video it is, what his key may spend on it, and that who repeats a request pays once."""

from __future__ import annotations

import asyncio
import time
from functools import partial
from typing import Any

import openai
import pytest

from bicameral.ledger import entry
from bicameral.ledger.entry import Booking, KeySet
from bicameral.ledger.keys import Key, Limits, make
from bicameral.ledger.store import Store
from bicameral.server.videos.table import Table
from tests.server.client import call, until
from tests.server.filming import FILM, GIF, MP4, SLOW, client, ended, form, get, kept, post, running
from tests.server.live import serving

pytestmark = pytest.mark.filterwarnings("ignore:The Sora API")
PRICE = 'price_input = "1"\nprice_output = "1"\n'
WORDS = "a " * 500  # a thousand bytes, which bound the price, and half as many words, which are it
MOST = 1_016_000  # nano-dollars


@pytest.fixture
def store(tmp_path):
    store = Store(f"sqlite:///{tmp_path}/ledger.sqlite3")
    yield store
    store.close()


@pytest.fixture
def config(tmp_path) -> str:
    book = f'[ledger]\npath = "{tmp_path}/ledger.sqlite3"\n'
    return FILM + PRICE + SLOW + PRICE + kept(tmp_path / "videos") + book


def added(store: Store, name: str = "a", **limits: Any) -> tuple[dict[str, str], Key]:
    minds = limits.pop("minds", None)
    secret, key = make(name, minds=minds, limits=Limits(**limits))
    body = KeySet(id=f"{key.id}/{time.monotonic_ns()}", key=key)
    store.write(lambda draft: draft.put(body, 0))
    return {"Authorization": f"Bearer {secret}"}, key


def bookings(store: Store) -> list[Booking]:
    bodies = (entry.read(written.body) for written in store.entries())
    return [body for body in bodies if isinstance(body, Booking)]


# --- whose it is ---------------------------------------------------------------------------------


async def test_another_keys_video_is_not_there(config, store) -> None:
    (mine, _), (yours, _) = added(store), added(store, "b")
    async with serving(config) as live:
        id = (await post(live, mine)).json["id"]
        await ended(live, id, mine)
        for method, what in (("GET", ""), ("GET", "/content"), ("DELETE", ""), ("POST", "/cancel")):
            path = f"/v1/videos/{id}{what}"
            got = await call(live, method, path, headers=yours)
            assert (got.status, got.error["code"]) == (404, "video_not_found")
            assert (await call(live, method, path)).status == 401
        assert (await call(live, "GET", "/v1/videos", headers=yours)).json["data"] == []
        assert (await call(live, "GET", f"/v1/videos?after={id}", headers=yours)).status == 404
        assert (await get(live, id, "/content", mine)).body == MP4
        key = mine["Authorization"].split()[1]
        async with client(live, key) as api:
            assert [job.id async for job in api.videos.list()] == [id]
        async with client(live, "bic_" + "x" * 32) as api:
            with pytest.raises(openai.AuthenticationError):
                await api.videos.create(prompt="x")


async def test_a_key_is_given_a_model_that_it_may_ask(config, store) -> None:
    (some, _), (none, _) = added(store, minds=("slow",)), added(store, "b", minds=("chat",))
    async with serving(config) as live:
        assert (await post(live, some)).json["model"] == "slow"
        assert (await post(live, some, model="film")).error["code"] == "model_not_found"
        assert (await post(live, none)).error["code"] == "model_not_found"


# --- what it may spend ---------------------------------------------------------------------------


async def test_a_video_is_booked_for_who_asked_and_only_what_ran(config, store) -> None:
    headers, key = added(store)
    async with serving(config) as live:
        made = (await post(live, headers, prompt=WORDS)).json["id"]
        await ended(live, made, headers)
        stopped = (await post(live, headers, model="slow", prompt=WORDS)).json["id"]
        await running(live)
        await call(live, "POST", f"/v1/videos/{stopped}/cancel", headers=headers)
        await until(lambda: len(bookings(store)) == 2)
    first, second = bookings(store)
    assert (first.caller, first.request, first.ended) == (key.id, made, "finished")
    assert (first.paid, first.calls[0].usage.media_ms) == (500_000, 1000)
    assert (second.request, second.ended) == (stopped, "abandoned")


async def test_a_key_over_its_budget_is_refused_at_once(config, store) -> None:
    headers, _ = added(store, day_money=MOST - 1)
    async with serving(config) as live:
        got = await post(live, headers, prompt=WORDS)
        assert (got.status, got.error["code"]) == (429, "insufficient_quota")
        got = await form(live, ("prompt", "x"), ("input_reference", GIF), headers=headers)
        assert (got.status, got.error["code"]) == (402, "budget_exceeded")
        assert (await call(live, "GET", "/v1/videos", headers=headers)).json["data"] == []
        assert (await post(live, headers)).status == 200
        assert live.scripted("film").runs <= 1


async def test_a_job_whose_money_is_gone_when_it_runs_fails_with_that(config, store) -> None:
    rich, _ = added(store)
    poor, _ = added(store, "b", day_money=MOST + MOST // 4)
    async with serving(config) as live:
        blocking = (await post(live, rich, model="slow")).json["id"]
        await running(live)
        ids = [(await post(live, poor, prompt=WORDS)).json["id"] for _ in range(2)]
        await call(live, "DELETE", f"/v1/videos/{blocking}", headers=rich)
        first, second = [await ended(live, id, poor) for id in ids]
    assert first["status"] == "completed"
    assert (second["status"], second["error"]["code"]) == ("failed", "insufficient_quota")
    assert sum(body.paid for body in bookings(store) if body.caller != "local") >= 500_000


async def test_a_key_that_asks_too_fast_waits_and_is_told_so(config, store, tmp_path) -> None:
    rich, _ = added(store)
    slow, key = added(store, "b", requests_per_minute=1)
    async with serving(config) as live:
        blocking = (await post(live, rich, model="slow")).json["id"]
        await running(live)
        first, second = [(await post(live, slow)).json["id"] for _ in range(2)]
        await call(live, "DELETE", f"/v1/videos/{blocking}", headers=rich)
        assert (await ended(live, first, slow))["status"] == "completed"
        got = await post(live, slow)
        assert (got.status, got.error["code"]) == (429, "rate_limit_exceeded")
        assert int(got.headers["retry-after"]) > 1
        table = Table(tmp_path / "videos" / "jobs.sqlite3")
        job = partial(table.find, second, key.id)
        await until(lambda: job().status == "queued" and job().started)
        assert (job().tries, job().code) == (0, None)
        soon = {"until": 0.0, "tries": 2}
        assert table.claim("other", ["film"], now=time.time() + 30, **soon) is None
        assert table.claim("other", ["film"], now=time.time() + 61, **soon).id == second
        table.close()
    assert live.scripted("film").runs == 1


# --- the Idempotency-Key -------------------------------------------------------------------------

KEY = {"Idempotency-Key": "once"}


async def test_who_repeats_a_request_is_given_the_same_job(tmp_path) -> None:
    async with serving(FILM + kept(tmp_path)) as live:
        first = await post(live, KEY)
        await ended(live, first.json["id"])
        again = await post(live, KEY)
        assert (again.json["id"], again.json["status"]) == (first.json["id"], "completed")
        assert again.headers["idempotent-replayed"] == "true"
        assert "idempotent-replayed" not in first.headers
        other = await post(live, KEY, seed=1)
        assert (other.status, other.error["code"]) == (422, "idempotency_key_reused")
    async with serving(FILM + kept(tmp_path)) as live:
        assert (await post(live, KEY)).json["id"] == first.json["id"]
        assert live.scripted("film").runs == 0


async def test_many_who_ask_at_once_under_one_key_make_one_job(tmp_path) -> None:
    async with serving(FILM + kept(tmp_path)) as live:
        parts = ("prompt", "x"), ("input_reference", GIF)
        answers = await asyncio.gather(*(form(live, *parts, headers=KEY) for _ in range(5)))
        assert len({got.json["id"] for got in answers}) == 1
        assert sum("idempotent-replayed" in got.headers for got in answers) == 4
        await ended(live, answers[0].json["id"])
        assert live.scripted("film").runs == 1


async def test_a_clip_that_was_waited_for_is_given_again(tmp_path) -> None:
    async with serving(FILM + kept(tmp_path)) as live:
        first, again = [await post(live, KEY, path="/v1/videos/sync") for _ in range(2)]
        assert first.body == again.body == MP4
        assert again.headers["idempotent-replayed"] == "true"
        assert live.scripted("film").runs == 1
