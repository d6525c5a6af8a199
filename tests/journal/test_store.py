"""The journal's file: whose it is, what is found in it, how big it gets, what spoils it."""

from __future__ import annotations

import sqlite3
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from bicameral.config import JournalOptions
from bicameral.decision import Asked, Considered, Decision, Turn
from bicameral.errors import JournalError
from bicameral.journal.store import Entry, Store, home


def entry(name: str, caller: str = "", **fields) -> Entry:
    decision = Decision(
        id=name,
        mind="m",
        policy="vote",
        settings={"bar": 0.5},
        considered=(Considered(model="a", quality=0.7), Considered(model="b", refused="no tools")),
        turns=(Turn(models=("a",)),),
        asked=(Asked(model="a", key="k", share=1.0),),
        by="a",
    )
    return Entry(id=name, caller=caller, at=1.0, decisions=(decision,), **fields)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "deep" / "state" / "journal.sqlite3"


@pytest.fixture
def store(path):
    store = Store(path)
    yield store
    store.close()


def test_what_is_written_is_read_back(store):
    kept = entry("one", prompt="why?\x00\n", answer="because")
    store.add([kept, entry("two")], keep=10)
    assert store.find("one") == kept
    assert store.find() == entry("two")
    assert store.find("three") is None


def test_an_answer_is_found_by_each_of_its_ids(store):
    store.add([entry("req_1", alias="chatcmpl-remote")], keep=10)
    for name in ("req_1", "chatcmpl-req_1", "chatcmpl-remote"):
        assert store.find(name).id == "req_1"
    assert store.find("remote") is None
    assert store.find("chatcmpl-") is None


def test_the_last_score_counts(store):
    store.add([entry("one")], keep=10)
    assert store.rate("one", 0.25, None)
    assert store.rate("chatcmpl-one", 1.0, None)
    assert store.find("one").score == 1.0
    assert [e.id for e in store.rated()] == ["one"]
    assert not store.rate("two", 1.0, None)


def test_nobody_rates_or_finds_anothers_answer(store):
    """Even under an id that both chose."""
    store.add([entry("same", "A"), entry("same", "B"), entry("mine", "A")], keep=10)
    assert store.rate("same", 0.0, "B")
    assert not store.rate("mine", 0.0, "B")
    assert not store.rate("mine", 0.0, "")
    assert store.find("same", "A").score is None
    assert store.find("mine", "B") is None


def test_an_id_that_comes_again_means_the_newer_answer(store):
    store.add([entry("same", prompt="old")], keep=10)
    store.rate("same", 1.0, None)
    store.add([entry("same", prompt="new")], keep=10)
    found = store.find("same")
    assert (found.prompt, found.score) == ("new", None)


def test_only_the_last_are_kept(store):
    for number in range(7):
        store.add([entry(f"{number}")], keep=3)
    assert [bool(store.find(str(n))) for n in range(7)] == [False] * 4 + [True] * 3


def test_nobody_else_can_read_it(store, path):
    store.add([entry("one")], keep=10)
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    files = list(path.parent.iterdir())
    assert {f.suffix for f in files} >= {".sqlite3", ".sqlite3-wal"}
    assert {stat.S_IMODE(f.stat().st_mode) for f in files} == {0o600}


def test_a_transaction_is_all_or_nothing(store):
    bad = Entry(id="bad", at=1.0, decisions=(), prompt=object())
    with pytest.raises(sqlite3.Error):
        store.add([entry("good"), bad], keep=10)
    assert store.find("good") is None
    store.add([entry("later")], keep=10)
    assert store.find("later")


def test_a_file_of_another_program_is_left_alone(path):
    path.parent.mkdir(parents=True)
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE answers (x)")
    db.close()
    before = path.read_bytes()
    with pytest.raises(JournalError, match="another program's"):
        Store(path)
    assert path.read_bytes() == before


def test_a_newer_file_is_refused(store, path):
    store._db.execute("PRAGMA user_version = 99")
    with pytest.raises(JournalError, match="newer version"):
        Store(path)


def test_reading_makes_no_file(path):
    with pytest.raises(JournalError, match="no mind has answered yet"):
        Store(path, create=False)
    assert not path.parent.exists()


def test_an_unreadable_record_is_named(store):
    store.add([entry("one")], keep=10)
    store._db.execute("UPDATE answers SET decisions = '[{}]'")
    with pytest.raises(JournalError, match="the record of one"):
        store.find("one")


def test_where_it_lies(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert home(JournalOptions(path="~/j.sqlite3")) == tmp_path / "j.sqlite3"
    monkeypatch.setenv("XDG_STATE_HOME", "/state")
    assert home(JournalOptions()) == Path("/state/bicameral/journal.sqlite3")
    for none in ("", "relative/is/ignored"):
        monkeypatch.setenv("XDG_STATE_HOME", none)
        assert home(JournalOptions()) == tmp_path / ".local/state/bicameral/journal.sqlite3"


def test_many_open_a_new_file_at_once_and_write(path):
    def work(number: int) -> None:
        store = Store(path)
        for turn in range(20):
            store.add([entry(f"{number}-{turn}")], keep=1000)
        store.close()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    found = Store(path)
    assert all(found.find(f"{n}-{t}") for n in range(8) for t in range(20))
    found.close()


WRITER = """
import sys
from pathlib import Path
from bicameral.decision import Decision
from bicameral.journal.store import Entry, Store
store = Store(Path(sys.argv[1]))
number = 0
while True:
    decision = Decision(id=str(number), mind="m", policy="p", why="x" * 500)
    store.add([Entry(id=str(number), at=1.0, decisions=(decision,))] , keep=50)
    print(number, flush=True)
    number += 1
"""


def test_a_killed_writer_loses_nothing_it_had_written(path):
    """And another process reads the file meanwhile."""
    command = [sys.executable, "-c", WRITER, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
        for _ in range(200):
            written = writer.stdout.readline().strip()
        reader = Store(path)
        assert reader.find(written)
        writer.kill()
        last = max(map(int, [written, *writer.stdout.read().split()]))
    assert reader.find(str(last))
    assert reader._db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    reader.close()
