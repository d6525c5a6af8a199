"""A repeated request is answered as before and paid once: over HTTP, with the real server."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from bicameral.errors import LedgerError
from bicameral.ledger.book import Book, Wanted, void
from bicameral.ledger.entry import Booking
from bicameral.ledger.keys import Limits, make
from bicameral.ledger.store import Store
from bicameral.server.errors import Refused
from bicameral.server.idempotency import Kept, Repeats
from tests.server.client import HI, Got, call, chat, embed, raw, until
from tests.server.client import head as post_head
from tests.server.live import ECHO, Live, serving

KEY = {"Idempotency-Key": "6f1c 0001"}
CONFIG = (
    ECHO
    + """
price_input = "1"
price_output = "1"

[models.slow]
engine = "scripted"
reply = "a b c d e f g h i j k l m n o p"
delay = 0.5

[models.dies]
engine = "scripted"
reply = "one two three"
die_after = 2

[models.busy]
engine = "scripted"
fail = "broken"

[models.vec]
engine = "scripted"
emits = ["embedding"]
"""
)
EARS = """
[models.ears]
engine = "scripted"
accepts = ["audio"]
emits = ["percept"]
percepts = [{ kind = "speech", text = "Hello", start = 0.0, end = 1.0 }]
"""


def ledger(path: Path) -> str:
    return CONFIG + f'\n[ledger]\npath = "{path}"\n'


def bookings(path: Path) -> list[Booking]:
    store = Store(f"sqlite:///{path}")
    found = [store.find(row.id) for row in store.entries()]
    store.close()
    return [body for body in found if isinstance(body, Booking)]


def same(first: Got, again: Got) -> bool:
    """The same answer to the byte, but for the time and the id of the exchange."""
    own = {"x-request-id", "idempotent-replayed", "date"}
    heads = [{k: v for k, v in got.headers.items() if k not in own} for got in (first, again)]
    return (first.status, first.body, heads[0]) == (again.status, again.body, heads[1])


@pytest.mark.parametrize("stream", [False, True])
async def test_the_answer_is_given_again(stream: bool) -> None:
    async with serving(CONFIG) as live:
        first, again = [await chat(live, KEY, stream=stream) for _ in range(2)]
        assert same(first, again)
        assert first.status == 200
        assert again.headers["idempotent-replayed"] == "true"
        assert again.headers["x-bicameral-model"] == "echo"
        assert "idempotent-replayed" not in first.headers
        assert again.headers["x-request-id"] != first.headers["x-request-id"]
        assert live.scripted("echo").runs == 1


async def test_without_the_header_every_request_is_new() -> None:
    async with serving(CONFIG) as live:
        assert [(await chat(live)).status for _ in range(2)] == [200, 200]
        assert live.scripted("echo").runs == 2
        assert live.server.app.desk.repeats.used == 0


async def test_embeddings_too() -> None:
    async with serving(CONFIG) as live:
        first, again = [await embed(live, KEY, model="vec", input="a") for _ in range(2)]
        assert same(first, again)
        assert first.status == 200
        assert live.scripted("vec").runs == 1


async def test_a_form_is_the_same_whatever_its_boundary() -> None:
    async def send(live: Live, sound: bytes) -> Got:
        form = aiohttp.FormData()
        form.add_field("model", "ears")
        form.add_field("file", sound, filename="a.wav")
        async with (
            aiohttp.ClientSession() as session,
            session.post(f"{live.base_url}/audio/transcriptions", data=form, headers=KEY) as got,
        ):
            return Got(got.status, {k.lower(): v for k, v in got.headers.items()}, await got.read())

    async with serving(EARS) as live:
        first, again, other = (
            await send(live, b"RI"),
            await send(live, b"RI"),
            await send(live, b"R"),
        )
        assert same(first, again)
        assert first.json == {"text": "Hello"}
        assert (other.status, other.error["code"]) == (422, "idempotency_key_reused")
        assert live.scripted("ears").runs == 1


async def test_two_at_once_are_asked_once() -> None:
    async with serving(CONFIG) as live:
        got = await asyncio.gather(*(chat(live, KEY, model="slow", max_tokens=1) for _ in range(2)))
        good, refused = sorted(got, key=lambda g: g.status)
        assert (good.status, refused.status) == (200, 409)
        assert refused.error["code"] == "idempotency_key_in_use"
        assert refused.headers["retry-after"] == "1"
        assert live.scripted("slow").runs == 1
        assert same(good, await chat(live, KEY, model="slow", max_tokens=1))


async def test_another_request_under_the_same_key_is_refused() -> None:
    async with serving(CONFIG) as live:
        body = json.dumps({"model": "echo", "messages": HI}).encode()
        path = "/v1/chat/completions"
        assert (await call(live, "POST", path, body, KEY)).status == 200
        others = (
            await call(live, "POST", path, body + b" ", KEY),
            await call(live, "POST", path, body, {**KEY, "x-bicameral-budget": "1"}),
            await call(live, "POST", "/v1/embeddings", body, KEY),
        )
        assert [(g.status, g.error["code"]) for g in others] == [
            (422, "idempotency_key_reused")
        ] * 3
        assert live.scripted("echo").runs == 1


async def test_the_same_key_of_another_caller_is_another_key(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    keys = ["a-secret-of-anna-1", "a-secret-of-bert-2"]
    monkeypatch.setenv("BICAMERAL_KEYS", ",".join(keys))
    async with serving(CONFIG, keys_env="BICAMERAL_KEYS") as live:
        for runs, key in enumerate(keys, 1):
            headers = {**KEY, "Authorization": f"Bearer {key}"}
            got = await chat(live, headers, messages=[{"role": "user", "content": key[:11]}])
            assert "idempotent-replayed" not in got.headers
            assert live.scripted("echo").runs == runs


@pytest.mark.parametrize("key", ["", "x" * 256, "caf\u00e9", "a\tb"])
async def test_a_key_is_short_and_printable(key: str) -> None:
    async with serving(CONFIG) as live:
        got = await chat(live, {"Idempotency-Key": key})
        assert (got.status, got.error["code"]) == (400, "invalid_idempotency_key")
        assert (await chat(live, {"Idempotency-Key": "x" * 255})).status == 200
        assert live.scripted("echo").runs == 1


@pytest.mark.parametrize(
    ("fields", "statuses"),
    [
        ({"temperature": 9}, (400, 400)),
        ({"model": "none"}, (404, 404)),
        ({"model": "busy"}, (502, 502)),
        ({"model": "dies", "stream": True}, (200, 200)),
    ],
)
async def test_an_error_is_not_given_again(
    fields: dict[str, Any], statuses: tuple[int, int]
) -> None:
    async with serving(CONFIG) as live:
        got = [await chat(live, KEY, **fields) for _ in range(2)]
        assert tuple(g.status for g in got) == statuses
        assert not any("idempotent-replayed" in g.headers for g in got)
        if fields.get("model") in ("busy", "dies"):
            assert live.scripted(fields["model"]).runs == 2
        assert (await chat(live, KEY)).status == 200  # the key stands for nothing yet


async def test_a_cut_answer_is_asked_anew(tmp_path: Path) -> None:
    book = tmp_path / "book.sqlite3"
    async with serving(ledger(book)) as live:
        body = json.dumps({"model": "slow", "messages": HI, "max_tokens": 2}).encode()
        _, writer = await raw(live)
        writer.write(
            post_head(live, len(body), f"Idempotency-Key: {KEY['Idempotency-Key']}") + body
        )
        await until(lambda: live.scripted("slow").running == 1)
        writer.close()
        await until(lambda: not live.server.app.desk.tasks)
        got = await call(live, "POST", "/v1/chat/completions", body, KEY)
        assert got.status == 200
        assert "idempotent-replayed" not in got.headers
        assert live.scripted("slow").runs == 2
    first, second = bookings(book)
    assert (first.ended, second.ended) == ("abandoned", "finished")
    assert second.id == first.id.replace("/end", "/2/end")


async def test_a_repeat_is_charged_once_even_after_a_restart(tmp_path: Path) -> None:
    book = tmp_path / "book.sqlite3"
    async with serving(ledger(book)) as live:
        assert [(await chat(live, KEY)).status for _ in range(3)] == [200, 200, 200]
    async with serving(ledger(book)) as live:
        got = await chat(live, KEY)
        assert (got.status, got.error["code"]) == (409, "idempotency_answer_gone")
        assert got.headers["x-should-retry"] == "false"
        assert live.scripted("echo").runs == 0
        assert (await chat(live, {"Idempotency-Key": "other"})).status == 200
    assert [body.paid > 0 for body in bookings(book)] == [True, True]


async def test_after_a_failure_and_a_restart_it_may_be_tried_again(tmp_path: Path) -> None:
    book = tmp_path / "book.sqlite3"
    for _ in range(2):
        async with serving(ledger(book)) as live:
            assert [(await chat(live, KEY, model="busy")).status for _ in range(2)] == [502, 502]
    assert len({body.id for body in bookings(book)}) == 4


async def test_a_long_answer_is_not_kept() -> None:
    async with serving(CONFIG) as live:
        live.server.app.desk.repeats.each = 100
        assert (await chat(live, KEY)).status == 200
        got = await chat(live, KEY)
        assert (got.status, got.error["code"]) == (409, "idempotency_answer_gone")
        assert live.scripted("echo").runs == 1


async def test_what_a_crash_cut_is_not_run_again(tmp_path: Path) -> None:
    url, ids = f"sqlite:///{tmp_path / 'book.sqlite3'}", ("a", "a/2", "a/3")
    _, key = make("anna", limits=Limits(day_money=1000))
    book = Book(url)
    assert await book.unused(ids) == "a"
    held = await book.authorise(Wanted(id="a", caller=key.id, mind="m", most=10), key)
    assert await book.unused(ids) is None
    with pytest.raises(LedgerError, match="before"):
        await book.authorise(Wanted(id="a", caller=key.id, mind="m", most=10), key)
    await asyncio.to_thread(book.close)
    book = Book(url)
    assert await book.unused(ids) is None
    await book.settle(void(held))
    assert await book.unused(ids) == "a/2"
    held = await book.authorise(Wanted(id="a/2", caller=key.id, mind="m", most=10), key)
    await book.settle(void(held, expired=True))
    assert await book.unused(ids) is None
    await asyncio.to_thread(book.close)


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def answer(length: int = 1000) -> Kept:
    return Kept("m", "m", (), b"x" * length)


async def test_what_is_kept_is_bounded_in_bytes_and_in_number() -> None:
    repeats = Repeats(room=10_000, keys=20)
    for number in range(30):
        who = b"%d" % number
        assert repeats.begin(who, b"asked") is None
        repeats.end(who, True, answer())
        assert repeats.used <= 10_000
    assert repeats.begin(b"29", b"asked") == answer()
    with pytest.raises(Refused, match="not kept"):
        repeats.begin(b"15", b"asked")
    assert repeats.begin(b"5", b"asked") is None


async def test_what_is_kept_is_kept_for_a_day() -> None:
    clock = Clock()
    repeats = Repeats(clock=clock)
    for hour in range(0, 72, 6):
        clock.now = hour * 3600.0
        repeats.begin(b"%d" % hour, b"asked")
        repeats.end(b"%d" % hour, True, answer())
    assert repeats.begin(b"48", b"asked") == answer()
    assert repeats.begin(b"42", b"asked") is None
    assert repeats.used == 4 * len(answer().body) + 4 * 512


async def test_text_does_not_stay_because_nobody_asks_any_more() -> None:
    repeats = Repeats(seconds=0.05)
    repeats.begin(b"a", b"asked")
    repeats.end(b"a", True, answer())
    await until(lambda: repeats.used == 0)
