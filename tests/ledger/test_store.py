"""The store on both databases: all or nothing, once, never changed, and refused where it must."""

from __future__ import annotations

import asyncio
import sqlite3
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from bicameral.config import LedgerOptions
from bicameral.errors import ConfigError, LedgerError
from bicameral.ledger.audit import audit
from bicameral.ledger.engine import where
from bicameral.ledger.entry import Booking
from bicameral.ledger.store import Draft, Store
from tests.ledger.entries import DAY, NOON, deposit, key, put, set_key
from tests.ledger.postgres import Server


@pytest.fixture
def store(url: str):
    store = Store(url)
    yield store
    store.close()


def test_what_is_put_is_there_in_order_and_once(store: Store) -> None:
    assert put(store, deposit("a", 5), deposit("b", 7)) == [True, True]
    assert put(store, deposit("b", 9), deposit("c", 1)) == [False, True]
    assert [(w.seq, w.id) for w in store.entries()] == [(1, "a"), (2, "b"), (3, "c")]
    assert [w.seq for w in store.entries(2, 2)] == [2]
    assert store.head() == (3, list(store.entries())[-1].hash)
    assert store.tallies("account/") == {
        "account/caller/key_ann": 13,
        "account/cash/operator": -13,
    }
    assert store.tally("account/caller/key_ann") == 13
    assert store.tally("account/caller/nobody") == 0
    assert store.find("a") == deposit("a", 5)
    assert store.find("z") is None


def test_an_id_is_written_once_within_a_transaction_too(store: Store) -> None:
    assert put(store, deposit("a", 5), deposit("a", 5)) == [True, False]


def test_work_that_raises_leaves_nothing(store: Store) -> None:
    def work(draft: Draft) -> None:
        draft.put(deposit("a", 5), NOON)
        raise LedgerError("no")

    with pytest.raises(LedgerError, match="no"):
        store.write(work)
    assert store.head()[0] == 0
    assert store.tallies() == {}


@pytest.mark.parametrize(
    "body",
    [
        Booking(id="x", caller="c", mind="m", day=DAY, ended="failed", postings=(("a", 1),)),
        deposit("x", 2**61),
        deposit("x", 2**80),
        deposit("zero\0byte", 1),
        deposit("half a pair \ud800", 1),
    ],
    ids=["unbalanced", "large", "huge", "zero byte", "surrogate"],
)
def test_what_is_wrong_is_refused(store: Store, body: object) -> None:
    with pytest.raises(LedgerError):
        put(store, deposit("a", 5), body)
    assert store.head()[0] == 0


def test_balances_that_would_not_fit_are_refused_and_the_store_goes_on(store: Store) -> None:
    for number in range(7):
        put(store, deposit(str(number), 2**60))
    with pytest.raises(LedgerError):
        put(store, deposit("8", 2**60), deposit("9", 2**60))
    assert put(store, deposit("10", 1)) == [True]


def test_keys_are_as_last_set(store: Store) -> None:
    set_key(store, key(day_money=5), 1)
    set_key(store, key(day_money=6), 2)
    set_key(store, key("bob"), 1)
    assert store.keys() == {"digest of ann": key(day_money=6), "digest of bob": key("bob")}


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE entry SET body = '{}' WHERE seq = 1",
        "UPDATE entry SET at = 0",
        "DELETE FROM entry WHERE seq = 2",
        "DELETE FROM entry",
        "TRUNCATE entry",
        "INSERT INTO entry VALUES (1, 'z', 0, '{}', '') ON CONFLICT (seq) DO UPDATE SET at = 0",
    ],
)
def test_the_database_itself_refuses_to_change_entries(store: Store, statement: str) -> None:
    put(store, deposit("a", 5), deposit("b", 5))
    before = list(store.entries())
    with pytest.raises(LedgerError), store._told(), store._begin() as cursor:
        cursor.execute(statement)
    assert list(store.entries()) == before


def test_another_thread_may_use_and_close_it(url: str) -> None:
    async def use() -> int:
        store = await asyncio.to_thread(Store, url)
        await asyncio.to_thread(put, store, deposit("a", 5))
        seq = store.head()[0]
        await asyncio.to_thread(store.close)
        return seq

    assert asyncio.run(use()) == 1


def test_a_book_to_be_read_is_not_made(tmp_path: Path, url: str) -> None:
    with pytest.raises(LedgerError):
        Store(url, create=False)
    assert list(tmp_path.iterdir()) == []
    Store(url).close()
    store = Store(url, create=False)
    assert store.head()[0] == 0
    if url.startswith("sqlite"):
        with pytest.raises(LedgerError, match="readonly"):
            put(store, deposit("a", 5))
    store.close()


def test_a_newer_book_is_refused(url: str) -> None:
    store = Store(url)
    with store._begin() as cursor:
        cursor.execute("INSERT INTO step VALUES (99)")
    store.close()
    for create in (True, False):
        with pytest.raises(LedgerError, match="newer Bicameral") as caught:
            Store(url, create=create)
        assert "secret" not in str(caught.value)


def test_the_file_is_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "a folder" / "b?%20#.sqlite3"
    store = Store(f"sqlite:///{path}")
    put(store, deposit("a", 5))
    modes = {stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()}
    assert path.exists()
    assert modes == {0o600}
    store.close()


def test_opening_it_twice_keeps_the_locks_of_the_first(tmp_path: Path) -> None:
    """SQLite's locks are the process's: one close() too many would free those of others.

    Another process would then take itself for the only one, and throw away the log it shares.
    """
    url = f"sqlite:///{tmp_path / 'book'}"
    first = Store(url)
    put(first, deposit("a", 5))
    Store(url).close()
    child = "import sqlite3,sys; sqlite3.connect(sys.argv[1]).execute('SELECT * FROM head')"
    subprocess.run([sys.executable, "-c", child, tmp_path / "book"], check=True)
    assert (tmp_path / "book-wal").exists()
    put(first, deposit("b", 5))
    assert audit(url).entries == 2
    first.close()


def test_another_programs_database_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "photos.sqlite3"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE photo (name TEXT)")
    connection.close()
    before = path.read_bytes()
    for create in (True, False):
        with pytest.raises(LedgerError, match="another program"):
            Store(f"sqlite:///{path}", create=create)
    assert path.read_bytes() == before


def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    path = tmp_path / "poem.txt"
    path.write_text("Shall I compare thee to a summer's day? " * 30)
    with pytest.raises(LedgerError, match="not a database"):
        Store(f"sqlite:///{path}")


@pytest.mark.parametrize("form", ["user", "query", "port", "at"])
def test_no_error_shows_the_password(server: Server, form: str) -> None:
    url = {
        "user": server.url("postgres", "s3cret"),
        "query": f"postgresql:///postgres?host={server.folder}&user=bicameral&password=s3cret",
        "port": "postgresql://bicameral:s3cret@127.0.0.1:s3cret/x",
        "at": "postgresql://bicameral:no@s3cret@127.0.0.1/x",
    }[form]
    with pytest.raises((LedgerError, ConfigError)) as caught:
        Store(url, patience=1)
    error: BaseException | None = caught.value
    while error is not None:
        assert "s3cret" not in f"{error} {error!r}"
        error = error.__cause__


def test_where_it_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert where(LedgerOptions()) == f"sqlite:///{tmp_path}/bicameral/ledger.sqlite3"
    assert where(LedgerOptions(path="/x/y")) == "sqlite:////x/y"
    monkeypatch.setenv("BOOK_URL", "postgresql://a:b@c/d")
    assert where(LedgerOptions(url_env="BOOK_URL")) == "postgresql://a:b@c/d"
    monkeypatch.setenv("BOOK_URL", "mysql://a:s3cret@c/d")
    for options in (LedgerOptions(url_env="BOOK_URL"), LedgerOptions(path="x", url_env="y")):
        with pytest.raises(ConfigError) as caught:
            where(options)
        assert "s3cret" not in str(caught.value)
