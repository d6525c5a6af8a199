"""The journal beside the answers: it never stops one, and says once what it could not keep."""

from __future__ import annotations

import logging
import resource
import shutil
import signal
import threading
from pathlib import Path

import pytest

from bicameral.config import JournalOptions
from bicameral.errors import JournalError
from bicameral.journal import writer
from bicameral.journal.store import Store
from bicameral.journal.writer import Journal
from tests.journal.test_store import entry


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "journal.sqlite3"


@pytest.fixture
def journal(path):
    journal = Journal(JournalOptions(path=str(path), keep=100))
    yield journal
    journal.close()


def found(path: Path, *names: str) -> list[bool]:
    store = Store(path)
    kept = [store.find(name) is not None for name in names]
    store.close()
    return kept


def rate(journal: Journal, name: str, caller: str | None = "") -> bool:
    return journal.rate(name, 1.0, caller).result(20)


def test_closing_writes_all_that_was_noted(journal, path):
    names = [str(n) for n in range(90)]
    for name in names:
        journal.note(entry(name))
    journal.close()
    assert all(found(path, *names))


def test_nothing_is_made_before_the_first_answer(journal, path):
    assert not path.parent.exists()
    assert not journal.started


def test_a_rating_finds_the_answer_noted_just_before(journal):
    for name in ("one", "two", "three"):
        journal.note(entry(name, "A"))
        assert rate(journal, name, "A")
        assert not rate(journal, name, "B")


def test_it_goes_on_after_it_was_closed(journal, path):
    """A stream may outlive the config it began with."""
    journal.note(entry("one"))
    journal.close()
    journal.note(entry("two"))
    journal.close()
    assert found(path, "one", "two") == [True, True]


def test_more_than_can_wait_is_dropped_and_said_once(journal, path, caplog, monkeypatch):
    reached, held, add = threading.Event(), threading.Event(), Store.add

    def slow(*args):
        reached.set()
        assert held.wait(20)
        add(*args)

    monkeypatch.setattr(Store, "add", slow)
    journal.note(entry("first"))
    assert reached.wait(20)
    with caplog.at_level(logging.WARNING):
        for number in range(2 * writer.WAITING):
            journal.note(entry(str(number)))
    assert journal.dropped == writer.WAITING
    assert [r.message for r in caplog.records] == [
        "the journal cannot keep up, so decisions are dropped"
    ]
    with pytest.raises(JournalError, match="cannot keep up"):
        rate(journal, "1")
    held.set()
    journal.close()
    assert not journal.fault
    assert found(path, "first", str(writer.WAITING - 1), str(writer.WAITING)) == [
        False,  # pruned: 100 are kept
        True,
        False,
    ]


def broken(path: Path, how: str) -> None:
    path.parent.mkdir(parents=True)
    match how:
        case "garbage":
            path.write_bytes(b"this is no database " * 500)
        case "folder":
            path.mkdir()
        case "damaged":
            store = Store(path)
            store.add([entry(str(n), prompt="x" * 4000) for n in range(50)], keep=1000)
            store.close()
            data = path.read_bytes()
            path.write_bytes(data[:4096] + b"\xff" * (len(data) - 4096))


@pytest.mark.parametrize("how", ["garbage", "folder", "damaged"])
def test_a_file_that_cannot_be_written_is_told_once_and_mended(
    journal, path, caplog, monkeypatch, how
):
    broken(path, how)
    with caplog.at_level(logging.INFO):
        for name in ("a", "b", "c"):
            journal.note(entry(name))
            with pytest.raises(JournalError, match="cannot be written now"):
                rate(journal, name)
    assert journal.fault
    assert journal.dropped == 3
    (said,) = caplog.messages
    assert str(path) in said
    assert "move the file away" in said
    monkeypatch.setattr(writer, "_RETRY", 0.0)
    with pytest.raises(JournalError):
        rate(journal, "c")
    shutil.rmtree(path) if how == "folder" else path.unlink()
    caplog.clear()
    with caplog.at_level(logging.INFO):
        journal.note(entry("d"))
        assert rate(journal, "d")
        assert not rate(journal, "a")
    assert caplog.messages == ["the journal is written again; 3 decisions were not kept"]
    assert not journal.fault


def test_a_file_that_was_deleted_is_made_anew(journal, path):
    """Who deletes the journal wants it forgotten, not the next answers lost."""
    journal.note(entry("old"))
    assert rate(journal, "old")
    for file in path.parent.iterdir():
        file.unlink()
    journal.note(entry("new"))
    assert rate(journal, "new")
    assert not rate(journal, "old")


def test_a_full_disk_stops_the_journal_and_nothing_else(journal, path, monkeypatch):
    """A limit on the size of files stands in for the disk."""
    monkeypatch.setattr(writer, "_RETRY", 0.0)
    journal.note(entry("before"))
    assert rate(journal, "before")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        for number in range(50):
            journal.note(entry(str(number), prompt="x" * 10_000))
        with pytest.raises(JournalError):
            rate(journal, "49")
        assert journal.fault
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)
    journal.note(entry("after"))
    assert rate(journal, "before")
    assert not journal.fault


def test_two_journals_on_one_file(journal, path):
    other = Journal(journal.options)
    for number in range(40):
        journal.note(entry(f"a{number}"))
        other.note(entry(f"b{number}"))
    journal.close()
    other.close()
    assert journal.dropped == other.dropped == 0
    assert all(found(path, *(f"{x}{n}" for x in "ab" for n in range(40))))


def test_a_rating_nobody_waits_for_any_more_does_no_harm(journal):
    held = journal.rate("x", 1.0, "")
    held.cancel()
    journal.note(entry("one"))
    assert rate(journal, "one")
