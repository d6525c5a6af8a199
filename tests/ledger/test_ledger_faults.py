"""What goes wrong under a book: it says so, refuses what is new, and loses nothing that is owed."""

from __future__ import annotations

import asyncio
import logging
import os
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from bicameral.errors import LedgerError
from bicameral.ledger.audit import audit
from bicameral.ledger.book import Book
from bicameral.ledger.store import Store
from tests.ledger.entries import asked, booking, deposit, key, put, wanted
from tests.ledger.postgres import PASSWORD, Server

ROOT = Path(__file__).parents[2]
KEY = key(ever_money=10**9)


async def until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + 30
    while not true():
        assert time.monotonic() < end
        await asyncio.sleep(0.02)


async def fails_and_recovers(book: Book, url: str, stop: Callable[[], None]) -> None:
    """While the fault lasts nothing is authorised; what was owed is written once it has gone."""
    held = await book.authorise(wanted("before"), KEY)
    stop()
    results = await asyncio.gather(
        book.settle(booking("before", held=held)),
        *(book.settle(booking(f"owed{n}")) for n in range(20)),
        return_exceptions=True,
    )
    assert all(isinstance(result, LedgerError) for result in results), results
    assert book.fault
    assert PASSWORD not in book.fault
    with pytest.raises(LedgerError):
        await book.authorise(wanted("refused"), KEY)
    with pytest.raises(LedgerError):
        book.check()
    book.settle_soon(booking("gone"))


async def recovered(book: Book, url: str) -> None:
    await until(lambda: not book.fault)
    assert await book.settle(booking("owed0")) is False
    assert await book.settle(booking("gone")) is False
    await asked(book, "after", KEY)
    report = audit(url)
    assert report.faults == ()
    assert report.open_holds == 0
    assert report.balances["caller/key_ann"] == -50 * 23


async def test_another_process_holds_the_lock_for_too_long(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'book'}"
    book = Book(url, patience=0.2)
    with closing(sqlite3.connect(tmp_path / "book", isolation_level=None)) as other:
        await fails_and_recovers(book, url, lambda: other.execute("BEGIN IMMEDIATE"))
        assert "locked" in book.fault
        with closing(Store(url, create=False)) as store:
            assert store.head()[0] == 1, "reads go on"
    await recovered(book, url)
    book.close()


@contextmanager
def small_files() -> Iterator[None]:
    """No file of this process may be written beyond its first page: none of the book's log fits."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


async def test_files_may_not_grow(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'book'}"
    book = Book(url, patience=0.2)
    stop = small_files()
    await fails_and_recovers(book, url, stop.__enter__)
    await asyncio.sleep(1.5)
    assert book.fault, "the disk is as full as it was"
    stop.__exit__(None, None, None)
    await recovered(book, url)
    book.close()


@pytest.fixture
def small_disk() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="bic-disk-"))
    options = ["-t", "tmpfs", "-o", "size=600k", "none", folder]
    if subprocess.run(["mount", *options], check=False, capture_output=True).returncode:
        folder.rmdir()
        pytest.skip("may not mount a disk of its own")
    yield folder
    subprocess.run(["umount", folder], check=True)
    folder.rmdir()


async def test_the_disk_is_full(small_disk: Path) -> None:
    url = f"sqlite:///{small_disk / 'book'}"
    book = Book(url, patience=0.2)
    ballast = small_disk / "ballast"

    def fill() -> None:
        room = os.statvfs(small_disk)
        ballast.write_bytes(bytes(room.f_bavail * room.f_bsize))

    await fails_and_recovers(book, url, fill)
    assert "full" in book.fault
    ballast.unlink()
    await recovered(book, url)
    book.close()


async def test_a_full_disk_with_nothing_owed_is_found_to_have_room_again(tmp_path: Path) -> None:
    book = Book(f"sqlite:///{tmp_path / 'book'}", patience=0.2)
    with small_files():
        with pytest.raises(LedgerError):
            await book.authorise(wanted("refused"), KEY)
        await asyncio.sleep(1.5)
        assert book.fault
    await until(lambda: not book.fault)
    await asked(book, "after", KEY)
    book.close()


READ_ONLY = """
import os, sys
from bicameral.errors import LedgerError
from bicameral.ledger.audit import audit
from bicameral.ledger.store import Store
from tests.ledger.entries import deposit, put
url, other = sys.argv[1:]
Store(other).close()  # imports all that is needed, before nobody may read it
if os.geteuid() == 0:
    os.setuid(65534)
store = Store(url, create=False)
assert store.head()[0] == 1 and len(list(store.entries())) == 1
store.close()
assert audit(url).faults == ()
try:
    store = Store(url)
    put(store, deposit("b", 1))
except LedgerError as error:
    print(error)
"""


@pytest.mark.parametrize("writable", ["file", "folder", "nothing"])
def test_a_book_that_may_not_be_written_is_read(writable: str) -> None:
    folder = Path(tempfile.mkdtemp(prefix="bic-ro-"))
    path = folder / "book"
    store = Store(f"sqlite:///{path}")
    put(store, deposit("a", 5))
    store.close()
    path.chmod(0o666 if writable == "file" else 0o444)
    folder.chmod(0o777 if writable == "folder" else 0o555)
    with tempfile.TemporaryDirectory() as other:
        command = [sys.executable, "-c", READ_ONLY, f"sqlite:///{path}", f"sqlite:///{other}/b"]
        said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    folder.chmod(0o700)
    shutil.rmtree(folder)
    assert said.stderr == ""
    assert f"the ledger {path} cannot be used: " in said.stdout


async def test_a_book_that_is_damaged_while_open_fails_closed(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'book'}"
    book = Book(url, patience=0.2)
    with closing(sqlite3.connect(tmp_path / "book")) as other:
        other.execute("DROP TABLE head")
        other.commit()
    with pytest.raises(LedgerError):
        await book.settle(booking("a"))
    with pytest.raises(LedgerError):
        await book.authorise(wanted("b"), KEY)
    book.close()


async def test_a_row_that_makes_no_sense_fails_closed(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'book'}"
    book = Book(url)
    await book.authorise(wanted("a"), KEY)
    book.close()
    with closing(sqlite3.connect(tmp_path / "book")) as other:
        other.execute("UPDATE open_hold SET body = '{', until = 1")
        other.commit()
    book = Book(url)
    assert "ledger verify" in book.fault
    with pytest.raises(LedgerError):
        await book.authorise(wanted("b"), KEY)
    book.close()


async def test_what_is_owed_when_the_process_ends_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    book = Book(f"sqlite:///{tmp_path / 'book'}", patience=0.1)
    with closing(sqlite3.connect(tmp_path / "book", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(LedgerError):
            await book.settle(booking("a"))
        book.close()
    assert "1 entries could not be written, and are lost" in caplog.text


# --- PostgreSQL -----------------------------------------------------------------------------------


async def test_the_server_is_away_for_a_while(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    url = server.database()
    book = Book(url, patience=0.3)
    try:
        await fails_and_recovers(book, url, server.stop)
    finally:
        server.start()
    await recovered(book, url)
    book.close()
    assert PASSWORD not in caplog.text
    assert "p+ss@" not in caplog.text


async def test_a_short_restart_is_not_noticed(server: Server) -> None:
    url = server.database()
    book = Book(url, patience=20)
    restart = threading.Thread(target=lambda: (server.stop(signal.SIGINT), server.start()))
    await asked(book, "before", KEY)
    restart.start()
    await asyncio.gather(*(asked(book, f"n{n}", KEY) for n in range(200)))
    restart.join()
    assert not book.fault
    book.close()
    assert audit(url).entries == 402
    assert audit(url).faults == ()


async def test_connections_are_killed_in_transactions(server: Server) -> None:
    url = server.database()
    book = Book(url)
    kill = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = ''"
    kill += " AND pid <> pg_backend_pid() AND backend_type = 'client backend'"
    for round_ in range(10):
        work = [asyncio.create_task(asked(book, f"{round_}-{n}", KEY)) for n in range(40)]
        for _ in range(5):
            await asyncio.to_thread(server.execute, kill, "postgres")
        await asyncio.gather(*work)
    book.close()
    report = audit(url)
    assert report.faults == ()
    assert report.entries == 800


async def test_a_lock_is_held_too_long(server: Server) -> None:
    import psycopg

    url = server.database()
    book = Book(url, patience=0.3)
    with psycopg.connect(url) as other:

        def lock() -> None:
            other.execute("SELECT * FROM head FOR UPDATE")

        await fails_and_recovers(book, url, lock)
        other.rollback()
        await recovered(book, url)
    book.close()


async def test_a_deadlock_is_tried_again(server: Server) -> None:
    import psycopg

    url = server.database()
    book = Book(url, patience=10)
    await book.settle(booking("first"))
    with psycopg.connect(url) as other:
        other.execute("UPDATE tally SET amount = amount")
        waiting = asyncio.create_task(book.settle(booking("second")))
        await asyncio.sleep(0.3)
        await asyncio.to_thread(other.execute, "SELECT * FROM head FOR UPDATE")
        other.rollback()
    assert await waiting
    book.close()
    assert audit(url).faults == ()
    assert "deadlock detected" in (server.folder / "log").read_text()


def test_where_the_server_hides_nobody_waits_for_ever() -> None:
    import socket

    with closing(socket.create_server(("127.0.0.1", 0))) as deaf:
        url = f"postgresql://bicameral:{PASSWORD}@127.0.0.1:{deaf.getsockname()[1]}/book"
        with pytest.raises(LedgerError) as caught:
            Book(url, patience=1)
    assert PASSWORD not in str(caught.value)
