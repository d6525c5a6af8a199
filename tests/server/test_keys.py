"""Keys of the ledger over HTTP: who may ask what, who sees what, and who pays for it."""

from __future__ import annotations

import logging
import time
from typing import Any

import aiohttp
import pytest
from msgspec.structs import replace

from bicameral.config import ServerOptions
from bicameral.errors import ConfigError
from bicameral.ledger import entry
from bicameral.ledger.book import Book
from bicameral.ledger.entry import Booking, KeySet
from bicameral.ledger.keys import Key, Limits, make
from bicameral.ledger.store import Store
from bicameral.ledger.till import Till
from bicameral.server.access import Access
from tests.right.streams import movie, save_video
from tests.server.client import Got, call, chat, embed, until
from tests.server.live import Live, serving

CONFIG = """
[models.echo]
engine = "scripted"
emits = ["text", "embedding"]
price_input = "1"
price_output = "2"
[models.other]
engine = "scripted"
[models.ears]
engine = "scripted"
accepts = ["audio"]
emits = ["percept"]
percepts = [{{ kind = "speech", text = "Hello.", start = 0.0, end = 1.0 }}]
[models.eyes]
engine = "scripted"
reply = "yes, a box"
accepts = ["text", "image", "audio"]
[minds.mind]
policy = "vote"
members = ["echo", "other"]
[ledger]
path = "{folder}/ledger.sqlite3"
[journal]
path = "{folder}/journal.sqlite3"
"""
ENVIRONMENT = "sk-0123456789abcdef"
PATHS = ("/v1/chat/completions", "/v1/embeddings", "/v1/audio/transcriptions", "/v1/watch")


@pytest.fixture
def config(tmp_path) -> str:
    return CONFIG.format(folder=tmp_path)


@pytest.fixture
def store(tmp_path):
    store = Store(f"sqlite:///{tmp_path}/ledger.sqlite3")
    yield store
    store.close()


def put(store: Store, key: Key) -> None:
    body = KeySet(id=f"{key.id}/{time.monotonic_ns()}", key=key)
    store.write(lambda draft: draft.put(body, 0))


def added(store: Store, name: str = "a", **fields: Any) -> tuple[dict[str, str], Key]:
    """A key in the book, and the headers that it asks with."""
    secret, key = make(name, **{f: v for f, v in fields.items() if f != "revoked"})
    put(store, replace(key, revoked=fields.get("revoked", False)))
    return {"Authorization": f"Bearer {secret}"}, key


def bookings(store: Store) -> list[Booking]:
    bodies = (entry.read(written.body) for written in store.entries())
    return [body for body in bodies if isinstance(body, Booking)]


async def test_a_key_that_may_not_ask_is_told_why(config, store) -> None:
    good, _ = added(store)
    expired, _ = added(store, "old", expires=1)
    revoked, _ = added(store, "gone", revoked=True)
    wrong = {"Authorization": "Bearer bic_" + "x" * 32}
    async with serving(config) as live:
        assert (await chat(live, good)).status == 200
        said = set()
        for headers, code in (
            ({}, "invalid_api_key"),
            (wrong, "invalid_api_key"),
            (expired, "expired_api_key"),
            (revoked, "revoked_api_key"),
        ):
            for got in (
                await chat(live, headers),
                await call(live, "GET", "/v1/models", None, headers),
            ):
                assert (got.status, got.error["code"]) == (401, code)
                assert got.error["type"] == "authentication_error"
                assert got.headers["www-authenticate"] == "Bearer"
            said.add(got.error["message"])
        assert len(said) == 4


async def test_a_key_in_the_url_does_not_count(config, store) -> None:
    headers, _ = added(store)
    secret = headers["Authorization"].split()[1]
    async with serving(config) as live:
        path = f"/v1/models?api_key={secret}&key={secret}&access_token={secret}"
        assert (await call(live, "GET", path)).status == 401
        assert (await call(live, "GET", "/v1/models", headers={"x-api-key": secret})).status == 401


async def test_without_any_key_this_machine_may_ask(config) -> None:
    async with serving(config) as live:
        assert (await chat(live)).status == 200
        assert (await chat(live, {"Host": "evil.example"})).status == 403


async def test_a_key_made_or_revoked_meanwhile_counts_soon(config, store) -> None:
    async with serving(config) as live:
        assert (await chat(live)).status == 200
        headers, key = added(store)
        ring = live.brain.till.book
        await until(lambda: key.id in ring.keyring.by_id)
        assert (await chat(live)).error["code"] == "invalid_api_key"
        assert (await chat(live, headers)).status == 200
        put(store, replace(key, revoked=True))
        await until(lambda: ring.keyring.by_id[key.id].revoked)
        assert (await chat(live, headers)).error["code"] == "revoked_api_key"
        assert (await chat(live)).status == 401


async def test_environment_keys_work_beside_and_have_no_limits(config, store, monkeypatch) -> None:
    monkeypatch.setenv("TEST_KEYS", ENVIRONMENT)
    poor, _ = added(store, limits=Limits(day_money=0))
    async with serving(config, keys_env="TEST_KEYS") as live:
        assert (await chat(live, poor, max_tokens=3)).status == 429
        got = await chat(live, {"Authorization": f"Bearer {ENVIRONMENT}"})
        assert got.status == 200
    (booked,) = bookings(store)
    assert booked.caller not in (ENVIRONMENT, "local")
    assert booked.paid > 0


def test_an_address_others_reach_needs_a_ledger_or_keys(tmp_path) -> None:
    access = Access(ServerOptions(host="192.0.2.1"))
    with pytest.raises(ConfigError, match=r"keys_env.*bicameral keys new"):
        access.open(None)
    book = Book(f"sqlite:///{tmp_path}/ledger.sqlite3")
    try:
        access.open(Till(book))
        assert access.locked
        assert not Access(ServerOptions()).locked
    finally:
        book.close()


# --- what each key sees --------------------------------------------------------------------------


async def listed(live: Live, headers: dict[str, str]) -> set[str]:
    got = await call(live, "GET", "/v1/models", headers=headers)
    return {model["id"] for model in got.json["data"]}


async def asked(live: Live, path: str, model: str, headers: dict[str, str]) -> Got:
    """One request to `model` on any route that asks one."""
    if path == "/v1/audio/transcriptions":
        form = aiohttp.FormData({"model": model})
        form.add_field("file", b"RIFF....WAVE", filename="a.wav", content_type="audio/wav")
        async with (
            aiohttp.ClientSession() as session,
            session.post(live.url + path, data=form, headers=headers) as response,
        ):
            found = {k.lower(): v for k, v in response.headers.items()}
            return Got(response.status, found, await response.read())
    bodies = {
        "/v1/chat/completions": {"messages": [{"role": "user", "content": "hello"}]},
        "/v1/embeddings": {"input": "hello"},
        "/v1/watch": {"ask": "a box moves", "source": "door"},
    }
    return await call(live, "POST", path, {"model": model, **bodies[path]}, headers)


async def test_a_key_sees_its_own_minds_only(config, store) -> None:
    a, _ = added(store, "a", minds=("echo",))
    b, _ = added(store, "b", minds=("mind", "other"))
    every, _ = added(store, "c")
    async with serving(config) as live:
        assert await listed(live, a) == {"echo"}
        assert await listed(live, b) == {"mind", "other"}
        assert await listed(live, every) == {"echo", "other", "ears", "eyes", "mind"}
        assert (await call(live, "GET", "/v1/models/echo", headers=a)).status == 200
        for headers, status in ((a, 403), (b, 403), (every, 200)):
            assert (await call(live, "GET", "/metrics", headers=headers)).status == status


async def test_anothers_mind_is_as_if_there_were_none(config, store) -> None:
    """Its name is not guessed from a nearly right one either."""
    a, _ = added(store, "a", minds=("echo",))
    b, _ = added(store, "b", minds=("mind", "other"))
    async with serving(config) as live:
        for headers, theirs in ((a, ("mind", "other", "mine")), (b, ("echo", "ears", "ech"))):
            for model in theirs:
                told = [await asked(live, path, model, headers) for path in PATHS]
                told.append(await call(live, "GET", f"/v1/models/{model}", headers=headers))
                for got in told:
                    assert (got.status, got.error["code"]) == (404, "model_not_found")
                    assert got.error["message"] == f"there is no model '{model}' for this key"
    assert not bookings(store)


async def test_an_answer_is_rated_by_its_own_key_only(config, store) -> None:
    a, _ = added(store, "a")
    b, _ = added(store, "b")
    async with serving(config) as live:
        ids = {}
        for name, headers in (("a", a), ("b", b)):
            ids[name] = (await chat(live, headers, model="mind")).json["id"]
        for name, headers in (("a", a), ("b", b)):
            for owner, id in ids.items():
                body = {"id": id, "score": 1}
                got = await call(live, "POST", "/v1/feedback", body, headers)
                assert got.status == (200 if owner == name else 404)


async def test_an_answer_is_repeated_to_its_own_key_only(config, store) -> None:
    a, _ = added(store, "a")
    b, _ = added(store, "b")
    async with serving(config) as live:
        told = [await chat(live, {**headers, "Idempotency-Key": "1"}) for headers in (a, b, a)]
    ids = [got.json["id"] for got in told]
    assert ["idempotent-replayed" in got.headers for got in told] == [False, False, True]
    assert ids[0] == ids[2] != ids[1]
    assert len(bookings(store)) == 2


# --- who pays ------------------------------------------------------------------------------------


async def test_every_route_is_booked_for_its_key(config, store, tmp_path) -> None:
    door = save_video(tmp_path / "door.avi", movie(10, [(4.0, 6.0)]))
    config += f'[watch]\nfps = 1000.0\n[watch.sources]\ndoor = "{door}"\n'
    keys = [added(store, name) for name in ("a", "b")]
    models = ("echo", "echo", "ears", "eyes")
    async with serving(config) as live:
        for headers, key in keys:
            for path, model in zip(PATHS, models, strict=True):
                before = len(bookings(store))
                assert (await asked(live, path, model, headers)).status == 200
                new = bookings(store)[before:]
                assert {(b.caller, b.mind) for b in new} == {(key.id, model)}


async def test_a_secret_is_kept_nowhere_and_told_nowhere(config, store, caplog, tmp_path) -> None:
    caplog.set_level(logging.DEBUG)
    headers, key = added(store, limits=Limits(day_money=0, requests_per_minute=2))
    secret = headers["Authorization"].split()[1]
    async with serving(config) as live:
        told = [await chat(live, headers, max_tokens=2) for _ in range(3)]
        told.append(await chat(live, {"Authorization": f"Bearer {secret}x"}))
        told.append(await call(live, "GET", "/metrics", None, headers))
        told.append(await call(live, "GET", f"/v1/models/{secret}?key={secret}", None, {}))
    texts = [got.body.decode() + str(got.headers) for got in told]
    texts += [caplog.text, *(written.body for written in store.entries())]
    texts += [path.read_bytes().decode("latin-1") for path in tmp_path.iterdir()]
    assert not [text for text in texts if secret in text]
    assert not [text for text in texts[:-1] if key.digest in text and '"type":"key"' not in text]


async def test_embeddings_are_limited_too(config, store) -> None:
    headers, key = added(store, limits=Limits(requests_per_minute=1))
    async with serving(config) as live:
        assert (await embed(live, headers, model="echo", input="hello")).status == 200
        got = await embed(live, headers, model="echo", input="hello")
        assert (got.status, got.error["code"]) == (429, "rate_limit_exceeded")
        assert got.error["param"] == "requests_per_minute"
        assert 1 <= int(got.headers["retry-after"]) <= 60
        assert dict(live.server.app.desk.access.quota(key.id)) | {
            b"x-ratelimit-reset-requests": b""
        } == {
            b"x-ratelimit-limit-requests": b"1",
            b"x-ratelimit-remaining-requests": b"0",
            b"x-ratelimit-reset-requests": b"",
        }
