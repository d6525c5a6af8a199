"""Hard budgets over HTTP: two hundred at once never spend more than their key may."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from typing import Any

import aiohttp
import pytest

from bicameral.ledger.keys import Limits, make
from bicameral.ledger.store import Store
from tests.ledger.entries import deposit, put, set_key
from tests.server.client import until
from tests.server.live import Live, serving

CONFIG = """
[models.a]
engine = "scripted"
reply = "yes it is so"
confidence = 0.3
price_input = "1"
price_output = "1"
[models.b]
engine = "scripted"
reply = "no it is not"
delay = 0.002
price_input = "2"
price_output = "2"
[models.slow]
engine = "scripted"
reply = "{long}"
delay = 0.01
price_input = "1"
price_output = "1"
[minds.vote]
policy = "vote"
members = ["a", "b"]
markup = "0.5"
[minds.cascade]
policy = "cascade"
members = ["a", "b"]
[ledger]
path = "{folder}/ledger.sqlite3"
[journal]
enabled = false
"""
BODY = {"messages": [{"role": "user", "content": "is it so?"}], "max_tokens": 4}
COST = {"a": 7000, "vote": 31_500, "cascade": 21_000}  # 3 words asked and 4 said, of each member
MANY = 200


@pytest.fixture
def config(tmp_path) -> str:
    return CONFIG.format(folder=tmp_path, long="word " * 100)


@pytest.fixture
def store(tmp_path):
    store = Store(f"sqlite:///{tmp_path}/ledger.sqlite3")
    yield store
    store.close()


def added(store: Store, **limits: Any) -> tuple[dict[str, str], str]:
    """A key in the book: the headers that it asks with, and its id."""
    secret, key = make("ann", limits=Limits(**limits))
    set_key(store, key)
    return {"Authorization": f"Bearer {secret}"}, key.id


async def many(lives: list[Live], headers: dict[str, str], name: str) -> list[tuple[int, Any, Any]]:
    """Status, body and headers of all that were asked at once, of one server after the other."""
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, headers=headers) as session:

        async def one(number: int) -> tuple[int, Any, Any]:
            url = lives[number % len(lives)].base_url + "/chat/completions"
            async with session.post(url, json={**BODY, "model": name}) as response:
                return response.status, await response.json(), response.headers

        return await asyncio.gather(*(one(number) for number in range(MANY)))


def spent(store: Store, id: str) -> int:
    assert store.tally(f"held/{id}/money") == 0
    assert store.tally(f"account/caller/{id}") <= 0
    return store.tally(f"spent/{id}/money/ever")


def refusals(told: list[tuple[int, Any, Any]]) -> Counter[str]:
    """The codes of those that were refused, each with all that a client needs to know."""
    codes: Counter[str] = Counter()
    for status, body, headers in told:
        if status == 200:
            continue
        error = body["error"]
        assert status == 429
        assert error["param"] == "day_money"
        assert "day budget of the key ann" in error["message"]
        if error["code"] == "insufficient_quota":
            assert error["type"] == "insufficient_quota"
            assert headers["x-should-retry"] == "false"
            assert "renewed in" in error["message"]
        else:
            assert error["type"] == "rate_limit_error"
            assert "try again when they have ended" in error["message"]
        assert int(headers["retry-after"]) >= 1
        codes[error["code"]] += 1
    return codes


@pytest.mark.parametrize("name", ["a", "vote", "cascade"])
async def test_two_hundred_at_once_spend_no_more_than_the_day_allows(config, store, name):
    budget = 10 * COST[name]
    headers, id = added(store, day_money=budget)
    async with serving(config) as live:
        told = await many([live], headers, name)
        codes = refusals(told)
        answered = MANY - codes.total()
        assert codes.keys() <= {"insufficient_quota", "rate_limit_exceeded"}
        assert 1 <= answered <= 10
        assert spent(store, id) <= budget
        assert spent(store, id) == -store.tally(f"account/caller/{id}")
        refusals(await many([live], headers, name))
        assert spent(store, id) <= budget


async def test_two_servers_on_one_book_keep_one_budget(config, store):
    headers, id = added(store, day_money=10 * COST["a"])
    async with serving(config) as one, serving(config) as two:
        for _ in range(3):
            refusals(await many([one, two], headers, "a"))
    assert 0 < spent(store, id) <= 10 * COST["a"]


async def test_streams_that_the_client_leaves_are_within_the_budget(config, store):
    headers, id = added(store, day_money=500_000)
    async with serving(config) as live, aiohttp.ClientSession(headers=headers) as session:

        async def left(pieces: int) -> int:
            body = {**BODY, "model": "slow", "max_tokens": 50, "stream": True}
            async with session.post(live.base_url + "/chat/completions", json=body) as response:
                if response.status == 200:
                    for _ in range(pieces):
                        await response.content.readline()
                response.close()
                return response.status

        told = await asyncio.gather(*(left(n % 5) for n in range(60)))
        assert set(told) == {200, 429}
        await until(lambda: not live.server.app.desk.tasks)
        await until(lambda: not store.open_holds())
        assert live.scripted("slow").cancelled == told.count(200)
    assert spent(store, id) <= 500_000


async def test_prepaid_at_once_spends_no_more_than_was_paid_in(config, store):
    headers, id = added(store, prepaid=True)
    put(store, deposit("d", 10 * COST["a"], id))
    async with serving(config) as live:
        told = await many([live], headers, "a")
    assert {status for status, *_ in told} == {200, 429}
    assert {b["error"]["param"] for s, b, _ in told if s == 429} == {"prepaid_money"}
    assert 0 <= store.tally(f"account/caller/{id}") < 10 * COST["a"]
    assert store.tally(f"held/{id}/money") == 0


async def test_a_request_may_be_dearer_than_its_limit_only_in_what_it_might_cost(config, store):
    """Of a vote only so many are asked as the limit of a request pays for."""
    headers, id = added(store, request_money=200_000)
    async with serving(config) as live:
        told = await many([live], headers, "vote")
    assert {status for status, *_ in told} == {200}
    assert spent(store, id) <= MANY * 200_000


async def test_requests_a_minute_hold_at_once(config, store):
    headers, id = added(store, requests_per_minute=7)
    async with serving(config) as live:
        told = await many([live], headers, "a")
    assert sum(status == 200 for status, *_ in told) == 7
    for status, body, got in told:
        if status == 429:
            assert body["error"]["param"] == "requests_per_minute"
            assert body["error"]["code"] == "rate_limit_exceeded"
            assert 1 <= int(got["retry-after"]) <= 60
            assert "7 requests a minute" in body["error"]["message"]
    assert store.tally(f"spent/{id}/money/ever") == 7 * COST["a"]


async def test_the_clients_own_budget_is_kept_within_the_keys(config, store):
    headers, _ = added(store, day_money=10**9)
    async with serving(config) as live, aiohttp.ClientSession(headers=headers) as session:
        url = live.base_url + "/chat/completions"
        own = {"x-bicameral-budget": "0.000001"}
        async with session.post(url, json={**BODY, "model": "a"}, headers=own) as response:
            assert response.status == 402
            assert json.loads(await response.read())["error"]["code"] == "budget_exceeded"
