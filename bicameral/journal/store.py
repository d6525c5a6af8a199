"""The journal's file: SQLite, one row per answer of a mind, with its decisions and its score.

Several processes may use one file at once (WAL, so all on one machine). Nobody but its owner can
read it. Deleting its rows, or the file with its -wal and -shm, forgets them for good.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from bicameral.config import JournalOptions
from bicameral.decision import Decision
from bicameral.errors import JournalError

Failure = (sqlite3.Error, OSError)
ANSWER = "chatcmpl-"

_MARK = 0x42494341  # this file is ours: "BICA"
_FORM = 1
_PATIENCE = 5.0
_SCHEMA = """
CREATE TABLE IF NOT EXISTS answers (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL,
    alias TEXT NOT NULL,
    caller TEXT NOT NULL,
    at REAL NOT NULL,
    decisions TEXT NOT NULL,
    prompt TEXT,
    answer TEXT,
    score REAL,
    rated_at REAL,
    UNIQUE (id, caller)
);
CREATE INDEX IF NOT EXISTS aliases ON answers (alias) WHERE alias <> '';
"""
_FIELDS = "id, alias, caller, at, decisions, prompt, answer, score, rated_at"
_PUT = f"INSERT OR REPLACE INTO answers ({_FIELDS}) VALUES (?, ?, ?, ?, ?, ?, ?, NULL, NULL)"  # noqa: S608
_encode = msgspec.json.Encoder().encode
_decisions = msgspec.json.Decoder(tuple[Decision, ...]).decode


class Entry(Struct, frozen=True, kw_only=True):
    """One answer: the decisions behind it, the outer mind's first, and its score if it was rated.

    `id` is the request's, `alias` the id that the answer itself bore if that was another's.
    `caller` is a digest of the key it was given to, "" without keys. Times are Unix seconds.
    """

    id: str
    decisions: tuple[Decision, ...]
    at: float
    alias: str = ""
    caller: str = ""
    prompt: str | None = None
    answer: str | None = None
    score: float | None = None
    rated_at: float | None = None


class Store:
    """The open file. Its methods raise what `Failure` lists, or JournalError; they may wait."""

    def __init__(self, path: Path, *, create: bool = True) -> None:
        if create:
            _create(path)
        elif not path.exists():
            raise JournalError(f"there is no journal at {path}: no mind has answered yet")
        self.path = path
        self._file = os.stat(path).st_ino
        self._db = sqlite3.connect(
            path, timeout=_PATIENCE, isolation_level=None, check_same_thread=False
        )
        try:
            _prepare(self._db, path)
        except BaseException:
            self._db.close()
            raise

    @property
    def moved(self) -> bool:
        """Whether the file is no longer where it was, so that nobody would find what is written."""
        try:
            return os.stat(self.path).st_ino != self._file
        except FileNotFoundError:
            return True

    def add(self, entries: Sequence[Entry], keep: int) -> None:
        """Write `entries` in one transaction; only the last `keep` rows stay."""
        rows = [
            (e.id, e.alias, e.caller, e.at, _encode(e.decisions).decode(), e.prompt, e.answer)
            for e in entries
        ]
        with self._transaction():
            self._db.executemany(_PUT, rows)
            last = "(SELECT MAX(seq) FROM answers)"
            self._db.execute(f"DELETE FROM answers WHERE seq <= {last} - ?", (keep,))  # noqa: S608

    def rate(self, answer_id: str, score: float, caller: str | None) -> bool:
        """Set the score of that answer; False if there is none, or it was not given to `caller`."""
        seq = self._seq(answer_id, caller)
        if seq is None:
            return False
        change = "UPDATE answers SET score = ?, rated_at = ? WHERE seq = ?"
        self._db.execute(change, (score, time.time(), seq))
        return True

    def find(self, answer_id: str = "", caller: str | None = None) -> Entry | None:
        """The answer of that id, the latest without one; None if there is none for `caller`."""
        seq = self._seq(answer_id, caller) if answer_id else self._last()
        rows = self._rows("seq = ?", (seq,)) if seq is not None else ()
        return next(iter(rows), None)

    def rated(self) -> Iterator[Entry]:
        """Every answer that has a score, in the order they were given."""
        return self._rows("score IS NOT NULL", ())

    def close(self) -> None:
        """Nothing can be done with it after this."""
        self._db.close()

    def _seq(self, answer_id: str, caller: str | None) -> int | None:
        answer_id = answer_id.encode("utf-8", "replace").decode()  # a shell may give any bytes
        bare = answer_id.removeprefix(ANSWER)
        mine = "" if caller is None else "AND caller = ?"
        who = () if caller is None else (caller,)
        for column, name in (("id", answer_id), ("id", bare), ("alias", answer_id)):
            find = f"SELECT MAX(seq) FROM answers WHERE {column} = ? {mine}"  # noqa: S608
            if column == "alias":
                find += " AND alias <> ''"
            found = self._db.execute(find, (name, *who)).fetchone()[0]
            if found is not None:
                return int(found)
        return None

    def _last(self) -> int | None:
        return self._db.execute("SELECT MAX(seq) FROM answers").fetchone()[0]  # type: ignore[no-any-return]

    def _rows(self, where: str, values: tuple[Any, ...]) -> Iterator[Entry]:
        select = f"SELECT {_FIELDS} FROM answers WHERE {where} ORDER BY seq"  # noqa: S608
        for row in self._db.execute(select, values):
            fields = dict(zip(_FIELDS.split(", "), row, strict=True))
            try:
                fields["decisions"] = _decisions(row[4])
            except msgspec.DecodeError as error:
                raise JournalError(f"{self.path}: the record of {row[0]} is unreadable") from error
            yield Entry(**fields)

    def _transaction(self) -> _Transaction:
        return _Transaction(self._db)


class _Transaction:
    """All of the block or nothing of it."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def __enter__(self) -> None:
        self._db.execute("BEGIN IMMEDIATE")

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self._db.execute("COMMIT")
        elif self._db.in_transaction:
            with suppress(sqlite3.Error):  # the error that led here is the one to tell
                self._db.execute("ROLLBACK")


def home(options: JournalOptions) -> Path:
    """Where the journal lies; JournalError if there is no home directory to put it in."""
    if options.path is not None:
        return Path(options.path).expanduser()
    state = os.environ.get("XDG_STATE_HOME", "")
    if os.path.isabs(state):  # anything else is to be ignored, says the XDG specification
        return Path(state, "bicameral", "journal.sqlite3")
    try:
        return Path("~/.local/state/bicameral/journal.sqlite3").expanduser()
    except RuntimeError as error:
        raise JournalError("there is no home directory; set [journal] path") from error


def _create(path: Path) -> None:
    if not path.parent.exists():
        path.parent.parent.mkdir(parents=True, exist_ok=True)
        path.parent.mkdir(mode=0o700, exist_ok=True)
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))


def _prepare(db: sqlite3.Connection, path: Path) -> None:
    """Make it ours if it is new; JournalError if it is somebody else's."""
    db.execute("BEGIN")  # so that no other process makes it ours between these questions
    mark, form = (_value(db, f"PRAGMA {name}") for name in ("application_id", "user_version"))
    tables = _value(db, "SELECT COUNT(*) FROM sqlite_master")
    db.execute("COMMIT")
    if mark != _MARK and tables:
        raise JournalError(f"{path} is another program's database; set another [journal] path")
    if form > _FORM:
        raise JournalError(f"{path} was written by a newer version of Bicameral")
    _switch_to_wal(db)
    # Without a sync at each commit a loss of power may cost the last few records, never the file.
    db.execute("PRAGMA synchronous = NORMAL")
    db.execute("PRAGMA journal_size_limit = 16777216")
    if mark != _MARK:
        db.executescript(
            f"BEGIN IMMEDIATE; {_SCHEMA} PRAGMA application_id = {_MARK};"
            f"PRAGMA user_version = {_FORM}; COMMIT;"
        )


def _switch_to_wal(db: sqlite3.Connection) -> None:
    """Two that open a new file at once may find it locked, and SQLite does not wait here."""
    end = time.monotonic() + _PATIENCE
    while True:
        try:
            db.execute("PRAGMA journal_mode = WAL").fetchone()
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > end:
                raise
            time.sleep(0.02)


def _value(db: sqlite3.Connection, query: str) -> int:
    return int(db.execute(query).fetchone()[0])
