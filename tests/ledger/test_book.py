"""The book of one process: two phases, each booking once, and nobody who waits for ever."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import pytest
from msgspec.structs import replace

from bicameral.errors import ConfigError, LedgerError, LimitError
from bicameral.ledger import writer
from bicameral.ledger.audit import audit
from bicameral.ledger.book import Book, void
from bicameral.ledger.entry import Booking, Void
from bicameral.ledger.store import Store
from tests.ledger.entries import NOON, asked, booking, deposit, key, put, set_key, wanted

KEY = key(ever_money=1000, day_tokens=100)


class Clock:
    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> int:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def book(url: str, clock: Clock) -> Iterator[Book]:
    book = Book(url, clock=clock)
    yield book
    book.close()
    assert audit(url).faults == ()


def tallies(url: str) -> dict[str, int]:
    store = Store(url, create=False)
    found = {name: amount for name, amount in store.tallies().items() if amount}
    store.close()
    return found


async def test_what_is_held_is_settled_and_the_rest_given_back(book: Book, url: str) -> None:
    held = await book.authorise(wanted("a", most=100, tokens=40), KEY)
    assert (held.money, held.tokens, held.day) == (100, 40, "2026-09-21")
    assert tallies(url) == {"held/key_ann/money": 100, "held/key_ann/tokens": 40}
    assert await book.settle(booking("a", held=held)) is True
    now = tallies(url)
    assert now["spent/key_ann/money/2026-09-21"] == 50
    assert now["spent/key_ann/tokens/2026-09"] == 10
    assert now["account/caller/key_ann"] == -50
    assert not any(name.startswith("held/") for name in now)


async def test_a_booking_is_written_once_whatever_it_says(book: Book, url: str) -> None:
    held = await book.authorise(wanted("a"), KEY)
    assert await book.settle(booking("a", held=held)) is True
    before = tallies(url)
    assert await book.settle(booking("a", held=held)) is False
    assert await book.settle(booking("a", held=held, cost=40, paid=90)) is False
    assert await book.settle(booking("a")) is False
    assert await book.settle(void(held)) is False
    both = await asyncio.gather(*(book.settle(booking("b")) for _ in range(5)))
    assert sorted(both) == [False] * 4 + [True]
    assert tallies(url)["account/caller/key_ann"] == before["account/caller/key_ann"] - 50


async def test_a_hundred_at_once_never_spend_more_than_there_is(book: Book, url: str) -> None:
    async def ask(number: int) -> bool:
        try:
            await asked(book, f"n{number}", key(ever_money=1000), cost=60, paid=100)
        except LimitError:
            return False
        return True

    answers = await asyncio.gather(*(ask(number) for number in range(100)))
    assert sum(answers) == 10
    assert tallies(url)["spent/key_ann/money/ever"] == 1000


async def test_a_refused_request_leaves_nothing(book: Book, url: str) -> None:
    with pytest.raises(LimitError):
        await book.authorise(wanted("a", tokens=101), KEY)
    assert tallies(url) == {}


async def test_who_goes_away_while_it_is_held_gets_it_back(book: Book, url: str) -> None:
    for _ in range(2):  # also where another request has been given the id since
        task = asyncio.create_task(book.authorise(wanted("a"), KEY))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    await book.settle(booking("after"))
    assert not any(name.startswith("held/") for name in tallies(url))


async def test_an_id_is_held_once_and_a_second_request_does_not_void_the_first(
    book: Book, url: str
) -> None:
    await book.authorise(wanted("a"), KEY)
    with pytest.raises(LedgerError, match="made before"):
        await book.authorise(wanted("a"), KEY)
    task = asyncio.create_task(book.authorise(wanted("a"), KEY))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await book.settle(booking("after"))
    assert tallies(url)["held/key_ann/money"] == 100
    assert audit(url).open_holds == 1


async def test_one_that_cannot_be_booked_does_not_hurt_the_others(
    book: Book, url: str, caplog: pytest.LogCaptureFixture
) -> None:
    held = await book.authorise(wanted("a"), KEY)
    wrong = booking("x", held=replace(held, id="never made"))
    many = [deposit(f"much {n}", 2**60, "rich") for n in range(9)]
    bodies = [booking("b"), wrong, *many, booking("a", held=held), booking("c")]
    results = await asyncio.gather(*map(book.settle, bodies), return_exceptions=True)
    assert [results[0], *results[-2:]] == [True, True, True]
    assert isinstance(results[1], LedgerError)
    assert "is not open" in str(results[1])
    assert sum(result is True for result in results[2:-2]) == 7
    assert not book.fault
    assert "could not be booked" in caplog.text
    await asked(book, "d", KEY)


async def test_a_hold_expires_as_spent_and_what_comes_later_is_the_operators_loss(
    url: str, clock: Clock
) -> None:
    book = Book(url, clock=clock, hold_seconds=60)
    held = await book.authorise(wanted("a"), KEY)
    book.close()
    clock.now += 62_000
    book = Book(url, clock=clock, hold_seconds=60)
    spent = tallies(url)
    assert spent["spent/key_ann/money/ever"] == 100
    assert "account/caller/key_ann" not in spent
    assert await book.settle(booking("a", held=held, cost=30)) is True
    assert await book.settle(booking("a", held=held, cost=30)) is False
    book.close()
    now = tallies(url)
    assert now["account/owner/smalls"] == 30
    assert now["account/overrun/operator"] == -30
    assert now["spent/key_ann/money/ever"] == 100
    store = Store(url, create=False)
    late = store.find("a/end/late")
    assert isinstance(late, Booking)
    assert late.late
    assert isinstance(store.find("a/end"), Void)
    store.close()
    assert audit(url).faults == ()


async def test_unused_names_the_first_id_that_may_be_asked_under(book: Book) -> None:
    ids = ["a", "b", "c"]
    assert await book.unused(ids) == "a"
    held = await book.authorise(wanted("a"), KEY)
    assert await book.unused(ids) is None
    await book.settle(booking("a", held=held, ended="failed", cost=0, paid=0))
    assert await book.unused(ids) == "b"
    await book.settle(booking("b"))
    assert await book.unused(ids) is None


async def test_a_book_that_is_closed_says_so(url: str) -> None:
    book = Book(url)
    first = [asyncio.create_task(book.settle(booking(f"n{n}"))) for n in range(50)]
    await asyncio.sleep(0)
    await asyncio.to_thread(book.close)
    assert await asyncio.gather(*first) == [True] * 50
    with pytest.raises(LedgerError, match="closed"):
        await book.settle(booking("late"))
    book.settle_soon(booking("later"))
    book.close()
    assert audit(url).entries == 50


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
async def test_nobody_waits_for_a_thread_that_has_broken_off(url: str) -> None:
    broken = False

    def clock() -> int:
        if broken:
            raise RuntimeError("no time")
        return NOON

    book = Book(url, clock=clock)
    broken = True
    many = (book.settle(booking(f"n{n}")) for n in range(5))
    for result in await asyncio.gather(*many, return_exceptions=True):
        assert isinstance(result, LedgerError)
    with pytest.raises(LedgerError, match="broken off"):
        book.check()
    with pytest.raises(LedgerError, match="broken off"):
        await book.settle(booking("after"))
    book.close()


async def test_keys_are_seen_when_the_book_is_opened(url: str) -> None:
    store = Store(url)
    set_key(store, KEY)
    store.close()
    book = Book(url)
    assert book.keyring.by_id == {"key_ann": KEY}
    book.close()


def test_a_book_that_cannot_be_opened_leaves_no_thread(tmp_path: object) -> None:
    import threading

    before = threading.active_count()
    for url in (f"sqlite:///{tmp_path}", "postgresql://x:y@z@127.0.0.1/q"):
        with pytest.raises((LedgerError, ConfigError)):
            Book(url)
    assert threading.active_count() == before


class Ambiguous(Store):
    """Its connection is lost after each first commit, before anybody hears of it."""

    lost = 0

    @contextmanager
    def _begin(self):
        with super()._begin() as cursor:
            yield cursor
        type(self).lost += 1
        if type(self).lost % 2:
            raise psycopg.OperationalError("the connection is lost")


async def test_a_commit_whose_answer_is_lost_is_not_done_again(
    server, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = server.database()
    put(store := Store(url), deposit("paid in", 100))
    store.close()
    monkeypatch.setattr(writer, "Store", Ambiguous)
    Ambiguous.lost = 1
    book = Book(url)
    for number in range(2):
        held = await book.authorise(wanted(f"n{number}", most=100), key(prepaid=True))
        assert held.money == 100 - 50 * number
        await book.settle(booking(f"n{number}", held=held))
    await asyncio.gather(*(book.settle(booking(f"m{n}", cost=0, paid=0)) for n in range(5)))
    book.close()
    assert Ambiguous.lost > 8
    report = audit(url)
    assert report.faults == ()
    assert report.entries == 1 + 2 * 2 + 5
    assert report.balances["caller/key_ann"] == 0
