"""Processes that book are killed at any moment: what was acknowledged is in the book, once."""

from __future__ import annotations

import multiprocessing
import random
import time
from pathlib import Path

import pytest

from bicameral.ledger.audit import audit
from bicameral.ledger.book import Book, wall
from bicameral.ledger.entry import Hold, Void, read
from bicameral.ledger.store import Store
from tests.ledger import program
from tests.ledger.postgres import Server

# The program is imported once, and each process forks from there.
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["tests.ledger.program"])


class Process:
    """One that books; what it acknowledges goes into a file."""

    def __init__(self, url: str, prefix: str, log: Path, count: int = 10**6) -> None:
        self._log = log
        log.write_text("")
        self._process = FORKS.Process(
            target=program.run, args=(url, prefix, count, log), daemon=True
        )
        self._process.start()

    def told(self) -> list[str]:
        lines = self._log.read_text().splitlines(keepends=True)
        return [line.strip() for line in lines if line.endswith("\n")]

    def work(self, least: int) -> None:
        """Returns when so many are acknowledged."""
        while len(self.told()) < least:
            assert self._process.is_alive()
            time.sleep(0.005)

    def kill(self) -> list[str]:
        self._process.kill()
        self._process.join()
        return self.told()

    def wait(self) -> int | None:
        self._process.join()
        return self._process.exitcode


def checked(url: str, told: list[str]) -> None:
    """Each is there, no entry is there twice, all adds up."""
    assert audit(url).faults == ()
    store = Store(url, create=False)
    ids = [written.id for written in store.entries()]
    paid = -store.tally("account/caller/key_ann")
    store.close()
    assert len(ids) == len(set(ids))
    assert set(told) <= set(ids)
    assert paid == 50 * sum(id.endswith("/end") for id in ids)


def swept(url: str) -> None:
    """Holds left open count as spent when their time is over, and the book is whole again."""
    store = Store(url, create=False)
    left = store.open_holds()
    before = store.tally("spent/key_ann/money/ever")
    assert store.tally("held/key_ann/money") == sum(hold.money or 0 for hold in left)
    store.close()
    Book(url, clock=lambda: wall() + 2 * 3_600_000).close()
    store = Store(url, create=False)
    assert store.open_holds() == []
    assert store.tally("held/key_ann/money") == 0
    spent = store.tally("spent/key_ann/money/ever") - before
    assert spent == sum(hold.money or 0 for hold in left)
    ends = [body for w in store.entries() if isinstance(body := read(w.body), Void)]
    assert {body.held.id for body in ends if body.expired} >= {hold.id for hold in left}
    assert all(isinstance(store.find(hold.id), Hold) for hold in left)
    store.close()
    assert audit(url).faults == ()


@pytest.mark.slow
def test_a_process_is_killed_again_and_again(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'book'}"
    seed = random.randrange(10**9)
    print(f"seed {seed}")  # noqa: T201
    moments = random.Random(seed)
    told: list[str] = []
    Store(url).close()
    for number in range(20):
        process = Process(url, f"r{number}", tmp_path / "log")
        process.work(moments.choice((0, 1, 20, 200, 200)))
        time.sleep(moments.random() * 0.05)
        told += process.kill()
        checked(url, told)
    assert len(set(told)) > 100
    assert len(told) > len(set(told)), "bookings were sent again"
    swept(url)


@pytest.mark.slow
def test_a_process_or_its_connections_or_the_server_are_killed(
    server: Server, tmp_path: Path
) -> None:
    url = server.database()
    database = url.partition("@/")[2].partition("?")[0]
    others = "pg_stat_activity WHERE pid <> pg_backend_pid()"
    told: list[str] = []
    for number in range(5):
        process = Process(url, f"r{number}", tmp_path / "log")
        process.work(30)
        for _ in range(5):
            kill = f"SELECT pg_terminate_backend(pid) FROM {others} AND datname = '{database}'"
            server.execute(kill, "postgres")
            process.work(len(process.told()) + 5)
        if number % 2:
            server.stop()
            time.sleep(0.2)
            server.start()
            process.work(len(process.told()) + 30)
        told += process.kill()
        checked(url, told)
    assert len(told) > 150
    swept(url)


def test_processes_write_one_book_together(url: str, tmp_path: Path) -> None:
    processes = [Process(url, f"p{n}", tmp_path / f"log{n}", 500) for n in range(4)]
    assert [process.wait() for process in processes] == [0] * 4
    told = [id for process in processes for id in process.told()]
    assert len(told) == 4 * 500
    checked(url, told)
    assert len(set(told)) == 4 * 333 + 167
    assert audit(url).entries == 2 * 4 * 333 + 167
