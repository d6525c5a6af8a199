"""The till: what a key may spend holds whatever its requests do, and errors say what to do."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
from msgspec.structs import replace

from bicameral.brain import Brain
from bicameral.config import parse
from bicameral.errors import BudgetError, LimitError, NotFound
from bicameral.ledger.book import Book
from bicameral.ledger.keys import Key
from bicameral.ledger.store import Store
from bicameral.ledger.till import Till
from bicameral.types import Message, Request, Sampling, Text, Video
from tests.ledger.entries import DAY, NOON, deposit, key, put, set_key
from tests.server.client import until

CONFIG = """
[models.a]
engine = "scripted"
reply = "one two three"
price_input = "1"
price_output = "1"
[models.slow]
engine = "scripted"
reply = "one two three"
delay = 0.05
price_input = "1"
price_output = "1"
[models.open]
engine = "scripted"
price_input = "1"
price_output = "1"
accepts = ["text", "video"]
[models.unpriced]
engine = "scripted"
[minds.marked]
policy = "route"
members = ["a"]
markup = "1"
[journal]
enabled = false
"""
HOUR = 3_600_000
ASK = Request.ask("which?", sampling=Sampling(max_tokens=3))
BOUND = 27_000  # nano-dollars that a may cost for it: 24 bytes and 3 tokens
COST = 4000  # and costs: 1 word and 3


class Clock:
    """Unix milliseconds that stand still."""

    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> int:
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def path(tmp_path) -> str:
    return f"sqlite:///{tmp_path / 'book.sqlite3'}"


@pytest.fixture
def store(path):
    store = Store(path)
    yield store
    store.close()


@asynccontextmanager
async def brain(path: str, clock: Clock | None = None, **options: Any):
    """A brain whose book has that clock."""
    book = await asyncio.to_thread(lambda: Book(path, clock=clock or Clock(), **options))
    till = Till(book)
    async with Brain.open(parse(CONFIG, "test"), note=till.note) as opened:
        opened._till = till
        yield opened
    await asyncio.to_thread(book.close)


async def ask(
    brain: Brain, name: str = "a", caller: str = "key_ann", request: Request = ASK
) -> None:
    async for _ in brain.run(request, name, caller=caller):
        pass


def spent(store: Store, window: str = "ever", unit: str = "money") -> int:
    return store.tally(f"spent/key_ann/{unit}/{window}")


async def known(brain: Brain, wanted: Key) -> None:
    await until(lambda: brain.till.key(wanted.id) == wanted)


# --- one request ---------------------------------------------------------------------------------


async def test_the_requests_own_budget_and_the_hold_combine_by_the_lesser(path, store):
    set_key(store, key(request_money=BOUND + 7, prepaid=True))
    put(store, deposit("d", 10**9))
    async with brain(path) as opened:
        for own, granted in ((None, BOUND), (BOUND - 1, BOUND - 1), (10**9, BOUND)):
            request = replace(ASK, budget=own)
            parts = request, opened.model("a"), opened.models, opened.config, "key_ann"
            tab = await opened.till.open(*parts)
            assert tab.request.budget == granted
            tab.abandon()


async def test_a_markup_leaves_less_for_the_members(path, store):
    set_key(store, key(day_money=10**9))
    async with brain(path) as opened:
        tab = await opened.till.open(
            ASK, opened.model("marked"), opened.models, opened.config, "key_ann"
        )
        assert tab.request.budget == BOUND
        tab.abandon()
        await ask(opened, "marked")
    assert spent(store) == 2 * COST


async def test_a_request_above_its_own_limit_is_refused_before_it_is_asked(path, store):
    set_key(store, key(request_money=BOUND - 1))
    async with brain(path) as opened:
        with pytest.raises(LimitError, match=r"per-request budget.*max_tokens") as caught:
            await ask(opened)
        assert caught.value.limit == "request_money"
        assert opened.model("a")._model.runs == 0


@pytest.mark.parametrize(
    ("limits", "name", "says"),
    [
        ({"day_money": 10**9}, "open", "set max_tokens"),
        ({"day_money": 10**9}, "unpriced", "prices"),
        ({"day_tokens": 10**9}, "open", "set max_tokens"),
    ],
)
async def test_what_nothing_bounds_is_refused_and_says_what_to_set(path, store, limits, name, says):
    set_key(store, key(**limits))
    async with brain(path) as opened:
        with pytest.raises(BudgetError, match=says) as caught:
            await ask(opened, name, request=Request.ask("which?"))
        assert "ann" in str(caught.value)
        assert name in str(caught.value)


async def test_a_clip_has_no_bound(path, store):
    set_key(store, key(day_tokens=10**9))
    clip = Video(data=b"x", media_type="video/mp4")
    request = replace(ASK, messages=(Message("user", (Text("see"), clip)),))
    async with brain(path) as opened:
        with pytest.raises(BudgetError, match="send text alone"):
            await ask(opened, "open", request=request)


async def test_a_limit_of_tokens_needs_no_prices(path, store):
    set_key(store, key(day_tokens=60))
    async with brain(path) as opened:
        await ask(opened, "unpriced")
        assert spent(store, unit="tokens") > 0
        assert (await until_refused(opened, "unpriced")).limit == "day_tokens"
    assert spent(store, unit="tokens") <= 60


async def test_a_key_asks_its_own_minds_while_it_is_good(path, store):
    set_key(store, replace(key(), minds=("a",), expires=NOON // 1000 + 1))
    clock = Clock()
    async with brain(path, clock) as opened:
        await ask(opened)
        for name in ("slow", "none"):
            with pytest.raises(NotFound):
                await ask(opened, name)
        clock.now += 1000
        with pytest.raises(LimitError, match="expired"):
            await ask(opened)


async def test_tokens_of_the_minute_are_put_right(path, store):
    set_key(store, key(tokens_per_minute=100))
    async with brain(path) as opened:
        quota = lambda: opened.till.pace.quota(opened.till.key("key_ann"), "tokens")  # noqa: E731
        tab = await opened.till.open(
            ASK, opened.model("a"), opened.models, opened.config, "key_ann"
        )
        assert quota().remaining == 100 - 27
        tab.abandon()
        await ask(opened)
        assert quota().remaining == 100 - COST // 1000


async def test_who_is_refused_for_money_takes_no_tokens_of_the_minute(path, store):
    set_key(store, key(tokens_per_minute=100, day_money=1))
    async with brain(path) as opened:
        with pytest.raises(LimitError, match="day budget"):
            await ask(opened)
        quota = opened.till.pace.quota(opened.till.key("key_ann"), "tokens")
        assert quota.remaining == 100


# --- many, and what changes meanwhile ------------------------------------------------------------


async def many(brain: Brain, count: int, name: str = "a") -> list[BaseException | None]:
    return await asyncio.gather(*(ask(brain, name) for _ in range(count)), return_exceptions=True)


async def test_two_books_on_one_file_keep_one_budget(path, store):
    set_key(store, key(day_money=10 * COST + BOUND))
    async with brain(path) as one, brain(path) as two:
        for _ in range(5):
            told = await asyncio.gather(many(one, 20), many(two, 20))
            assert {type(e) for side in told for e in side} <= {LimitError, type(None)}
    assert BOUND < spent(store) <= 10 * COST + BOUND
    assert store.tally("account/caller/key_ann") == -spent(store)
    assert store.tally("held/key_ann/money") == 0


async def test_a_limit_lowered_while_requests_run_holds_for_the_next(path, store):
    set_key(store, key(day_money=4 * BOUND))
    lower = key(day_money=COST)
    async with brain(path) as opened:
        running = asyncio.create_task(many(opened, 4, "slow"))
        await until(lambda: opened.model("slow")._model.running == 4)
        set_key(store, lower, 2)
        await running
        await known(opened, lower)
        told = await many(opened, 4)
        assert [type(e) for e in told] == [LimitError] * 4
    assert spent(store) == 4 * COST


async def test_a_key_revoked_while_requests_run_asks_no_more(path, store):
    set_key(store, key(day_money=10**9))
    gone = replace(key(day_money=10**9), revoked=True)
    async with brain(path) as opened:
        running = asyncio.create_task(ask(opened, "slow"))
        await until(lambda: opened.model("slow")._model.running)
        set_key(store, gone, 2)
        await running
        await known(opened, gone)
        with pytest.raises(LimitError, match="revoked") as caught:
            await ask(opened)
        assert (caught.value.limit, caught.value.resets) == ("key", None)
    assert spent(store) == COST


async def test_prepaid_spends_no_more_than_was_paid_in(path, store):
    set_key(store, key(prepaid=True))
    async with brain(path) as opened:
        with pytest.raises(LimitError) as caught:
            await ask(opened)
        assert caught.value.limit == "prepaid_money"
        put(store, deposit("d", 3 * COST + BOUND))
        for _ in range(10):
            with suppress(LimitError):
                await ask(opened)
    assert 0 <= store.tally("account/caller/key_ann") < BOUND
    assert spent(store) == 3 * COST + BOUND - store.tally("account/caller/key_ann")


# --- the clock -----------------------------------------------------------------------------------


async def until_refused(brain: Brain, name: str = "a") -> LimitError:
    while True:
        try:
            await ask(brain, name)
        except LimitError as error:
            return error


async def test_days_and_months_have_budgets_of_their_own_by_the_books_clock(path, store, clock):
    set_key(store, key(day_money=2 * COST + BOUND, month_money=5 * COST + BOUND))
    async with brain(path, clock) as opened:
        assert (await until_refused(opened)).limit == "day_money"
        first = spent(store, DAY)
        clock.now += 24 * HOUR
        await until_refused(opened)
        clock.now += 24 * HOUR
        assert (await until_refused(opened)).limit == "month_money"
        assert spent(store, DAY[:7]) <= 5 * COST + BOUND
        clock.now += 10 * 24 * HOUR
        await ask(opened)
    assert spent(store, DAY) == first <= 2 * COST + BOUND


@pytest.mark.parametrize("jumps", [(1, -1, 1, -1), (-1, 1, -1, 1), (12, -1, 1, -1)])
async def test_a_clock_that_jumps_gives_no_day_more(path, store, clock, jumps):
    set_key(store, key(day_money=2 * COST + BOUND))
    async with brain(path, clock) as opened:
        await until_refused(opened)
        for hours in jumps:
            clock.now += hours * HOUR
            await until_refused(opened)
    days = store.tallies("spent/key_ann/money/2026-09-2")
    assert all(amount <= 2 * COST + BOUND for amount in days.values())
    assert len(days) == (2 if jumps[0] == 12 else 1)


async def test_a_hold_that_a_clock_ran_out_counts_as_spent_and_is_not_charged_again(path, store):
    set_key(store, key(day_money=BOUND))
    clock, ahead = Clock(), Clock()
    ahead.now += HOUR + 1000
    async with brain(path, clock) as opened:
        running = asyncio.create_task(ask(opened, "slow"))
        await until(lambda: opened.model("slow")._model.running)
        async with brain(path, ahead):
            pass  # it sweeps when it is opened
        await running
        assert spent(store) == BOUND
        with pytest.raises(LimitError):
            await ask(opened)
    assert store.tally("held/key_ann/money") == 0
