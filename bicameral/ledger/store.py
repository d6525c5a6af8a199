"""The book's database: SQLite by default, PostgreSQL by URL, both through SQLAlchemy Core.

All writing happens in `write`: one transaction that holds the head of the chain, so writers of
several processes take turns and each sees what the one before did. Methods raise LedgerError and
may wait.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from bicameral.config import LedgerOptions
from bicameral.errors import ConfigError, LedgerError
from bicameral.ledger import entry
from bicameral.ledger.entry import Body, Booking, Hold, KeySet, Void, Written
from bicameral.ledger.keys import Key
from bicameral.ledger.migrations import STEPS, Dialect

T = TypeVar("T")
_PATIENCE = 10.0
_TRIES = 4
_PAGE = 5000


class Store:
    """The open database. One thread at a time may use it."""

    def __init__(self, url: str) -> None:
        import sqlalchemy

        self._sql = sqlalchemy
        self.url = url
        self._engine = _engine(url)
        self._dialect: Dialect = "sqlite" if self._engine.dialect.name == "sqlite" else "postgresql"
        self._texts: dict[str, str] = {}
        try:
            with self._told():
                self._migrate()
        except LedgerError:
            self._engine.dispose()
            raise

    def write(self, work: Callable[[Draft], T]) -> T:
        """Call `work` with a draft and commit what it put in; all of it or, if it raises, nothing.

        It may be called again, if another writer or a lost connection undid the first attempt. An
        entry whose id is there already is not written again.
        """
        for attempt in range(_TRIES):
            try:
                with self._told(), self._begin() as connection:
                    draft = Draft(self, connection)
                    result = work(draft)
                    draft.finish()
                return result
            except LedgerError as error:
                if attempt + 1 == _TRIES or not _again(error.__cause__):
                    raise
                time.sleep(0.05 * 4**attempt)
        raise AssertionError("unreachable")

    def tally(self, name: str) -> int:
        """What the entries add up to under that name; 0 if there are none."""
        with self._told(), self._read() as connection:
            return _amount(self.run(connection, _TALLY, (name,)).fetchone())

    def tallies(self, prefix: str = "") -> dict[str, int]:
        """All that begin with `prefix`."""
        with self._told(), self._read() as connection:
            rows = self.run(connection, "SELECT name, amount FROM tally ORDER BY name")
            return {name: amount for name, amount in rows if name.startswith(prefix)}

    def keys(self) -> dict[str, Key]:
        """Every key by its digest, revoked ones too."""
        with self._told(), self._read() as connection:
            rows = self.run(connection, "SELECT digest, body FROM api_key")
            return {digest: msgspec.json.decode(body, type=Key) for digest, body in rows}

    def head(self) -> tuple[int, bytes]:
        """The number and the hash of the last entry: once published, no entry can go missing."""
        with self._told(), self._read() as connection:
            seq, digest = self.run(connection, _HEAD).fetchone()
            return seq, bytes(digest)

    def entries(self, first: int = 1, last: int | None = None) -> Iterator[Written]:
        """The entries from `first` to `last`, by default all, in order."""
        while True:
            with self._told(), self._read() as connection:
                end = first + _PAGE - 1 if last is None else min(last, first + _PAGE - 1)
                rows = self.run(connection, _ENTRIES, (first, end)).fetchall()
            if not rows:
                return
            for seq, id, at, body, digest in rows:
                yield Written(seq=seq, id=id, at=at, body=body, hash=bytes(digest))
            first = end + 1

    def find(self, id: str) -> Body | None:
        """The entry of that id."""
        with self._told(), self._read() as connection:
            row = self.run(connection, "SELECT body FROM entry WHERE id = ?", (id,)).fetchone()
        return None if row is None else entry.read(row[0])

    def open_holds(self, until: int | None = None) -> list[Hold]:
        """The holds that nobody has resolved; only those that expire before `until`, if given."""
        with self._told(), self._read() as connection:
            rows = self.run(
                connection, "SELECT body, until FROM open_hold ORDER BY until, id"
            ).fetchall()
        holds = (entry.read(body) for body, end in rows if until is None or end < until)
        return [hold for hold in holds if isinstance(hold, Hold)]

    def close(self) -> None:
        """Nothing can be done with it after this."""
        self._engine.dispose()

    # --- under it ----------------------------------------------------------------------------

    def run(self, connection: Any, text: str, values: Any = None) -> Any:
        """Execute a statement written with ? for a value, past SQLAlchemy's compiler: it is hot."""
        if self._dialect == "postgresql":
            text = self._texts.setdefault(text, text.replace("?", "%s"))
        return connection.exec_driver_sql(text, values)

    @contextmanager
    def _begin(self) -> Iterator[Any]:
        with self._engine.begin() as connection:
            if self._dialect == "sqlite":
                connection.exec_driver_sql("BEGIN IMMEDIATE")
            yield connection

    @contextmanager
    def _read(self) -> Iterator[Any]:
        with self._engine.connect() as connection:
            yield connection

    @contextmanager
    def _told(self) -> Iterator[None]:
        """The one border where the database's errors become ours; a URL may hold a password."""
        try:
            yield
        except (self._sql.exc.SQLAlchemyError, sqlite3.Error, OSError) as error:
            cause = getattr(error, "orig", None) or error
            raise LedgerError(
                f"the ledger {self._engine.url.render_as_string(hide_password=True)} cannot be "
                f"used: {str(cause).strip().splitlines()[0] if str(cause).strip() else cause!r}"
            ) from cause

    def _migrate(self) -> None:
        with self._begin() as connection:
            if self._dialect == "postgresql":
                self.run(connection, "SELECT pg_advisory_xact_lock(4277490211)")
            self.run(connection, "CREATE TABLE IF NOT EXISTS step (done INTEGER NOT NULL)")
            done = self.run(connection, "SELECT COUNT(*) FROM step").fetchone()[0]
            if done > len(STEPS):
                raise LedgerError(f"the ledger {self.url} was written by a newer Bicameral")
            for number, step in enumerate(STEPS[done:], start=done + 1):
                for statement in step[self._dialect]:
                    connection.exec_driver_sql(statement)
                self.run(connection, "INSERT INTO step VALUES (?)", (number,))


_HEAD = "SELECT seq, hash FROM head"
_TALLY = "SELECT amount FROM tally WHERE name = ?"
_ENTRIES = "SELECT seq, id, at, body, hash FROM entry WHERE seq BETWEEN ? AND ? ORDER BY seq"
_ADD = (
    "INSERT INTO tally VALUES (?, ?) "
    "ON CONFLICT (name) DO UPDATE SET amount = tally.amount + excluded.amount"
)


class Draft:
    """What one transaction is about to write; it sees what it has put in itself."""

    def __init__(self, store: Store, connection: Any) -> None:
        self._store = store
        self._connection = connection
        lock = " FOR UPDATE" if connection.dialect.name == "postgresql" else ""
        self.seq, head = self._run(_HEAD + lock).fetchone()
        self._hash = bytes(head)
        self._rows: list[tuple[int, str, int, str, bytes]] = []
        self._known: dict[str, bool] = {}
        self._deltas: dict[str, int] = {}
        self._base: dict[str, int] = {}
        self._opened: dict[str, Hold] = {}
        self._closed: list[str] = []
        self._keys: dict[str, Key] = {}

    def expect(self, ids: Iterable[str]) -> None:
        """Look up all `ids` at once that `put` will be given."""
        ids = list(ids)
        found: set[str] = set()
        for start in range(0, len(ids), 500):
            some = ids[start : start + 500]
            marks = ",".join("?" * len(some))
            text = f"SELECT id FROM entry WHERE id IN ({marks})"  # noqa: S608
            found |= {row[0] for row in self._run(text, tuple(some))}
        self._known |= {id: id in found for id in ids}

    def known(self, id: str) -> bool:
        """Whether an entry of that id is written, or about to be."""
        if id not in self._known:
            self.expect([id])
        return self._known[id]

    def put(self, body: Body, at: int) -> bool:
        """Append `body`, at Unix millisecond `at`; False if an entry of its id is there already."""
        if self.known(body.id):
            return False
        if sum(amount for _, amount in body.postings) != 0:
            raise LedgerError(f"the postings of {body.id} do not sum to zero")
        text = entry.canonical(body)
        self.seq += 1
        self._hash = entry.link(self._hash, self.seq, body.id, at, text)
        self._rows.append((self.seq, body.id, at, text, self._hash))
        self._known[body.id] = True
        for name, amount in entry.effects(body):
            self._deltas[name] = self._deltas.get(name, 0) + amount
        self._hold(body)
        return True

    def tally(self, name: str) -> int:
        """What it stands at, with what was put in before."""
        if name not in self._base:
            self._base[name] = _amount(self._run(_TALLY, (name,)).fetchone())
        return self._base[name] + self._deltas.get(name, 0)

    def hold(self, id: str) -> Hold | None:
        """The hold of that id, if it has been made and not been resolved."""
        if id in self._opened or id in self._closed:
            return self._opened.get(id)
        row = self._run("SELECT body FROM open_hold WHERE id = ?", (id,)).fetchone()
        body = None if row is None else entry.read(row[0])
        return body if isinstance(body, Hold) else None

    def finish(self) -> None:
        """Send it all; the commit is the store's."""
        if not self._rows:
            return
        self._run("INSERT INTO entry VALUES (?, ?, ?, ?, ?)", self._rows)
        if changed := [(n, d) for n, d in sorted(self._deltas.items()) if d]:
            self._run(_ADD, changed)
        if self._opened:
            opened = [(h.id, h.until, entry.canonical(h)) for h in self._opened.values()]
            self._run("INSERT INTO open_hold VALUES (?, ?, ?)", opened)
        if self._closed:
            self._run("DELETE FROM open_hold WHERE id = ?", [(id,) for id in self._closed])
        for key in self._keys.values():
            body = msgspec.json.encode(key).decode()
            text = (
                "INSERT INTO api_key VALUES (?, ?) "
                "ON CONFLICT (digest) DO UPDATE SET body = excluded.body"
            )
            self._run(text, (key.digest, body))
        self._run("UPDATE head SET seq = ?, hash = ?", (self.seq, self._hash))

    def _run(self, text: str, values: Any = None) -> Any:
        return self._store.run(self._connection, text, values)

    def _hold(self, body: Body) -> None:
        match body:
            case Hold():
                self._opened[body.id] = body
            case Booking() | Void() if body.held is not None:
                if self._opened.pop(body.held.id, None) is None:
                    self._closed.append(body.held.id)
            case KeySet():
                self._keys[body.key.digest] = body.key


def where(options: LedgerOptions) -> str:
    """The URL of the book; ConfigError if its environment variable or the home is missing."""
    if options.path is not None and options.url_env is not None:
        raise ConfigError("[ledger] path and url_env: give one, not both")
    if options.url_env is not None:
        url = os.environ.get(options.url_env, "").strip()
        if not url.startswith(("postgresql://", "postgres://")):
            raise ConfigError(
                f"[ledger] url_env: the environment variable {options.url_env} must hold a "
                "postgresql:// URL"
            )
        return url
    if options.path is not None:
        return f"sqlite:///{Path(options.path).expanduser()}"
    state = os.environ.get("XDG_STATE_HOME", "")
    folder = Path(state) if os.path.isabs(state) else Path("~/.local/state")
    try:
        return f"sqlite:///{(folder / 'bicameral' / 'ledger.sqlite3').expanduser()}"
    except RuntimeError as error:
        raise ConfigError("there is no home directory; set [ledger] path") from error


def _engine(url: str) -> Any:
    import sqlalchemy
    from sqlalchemy.pool import SingletonThreadPool

    if not url.startswith("sqlite:"):
        parsed = sqlalchemy.make_url(url).set(drivername="postgresql+psycopg")
        try:
            return sqlalchemy.create_engine(parsed, pool_size=2, pool_pre_ping=True)
        except ModuleNotFoundError as error:
            raise ConfigError(
                "[ledger] url_env: PostgreSQL needs psycopg: pip install 'bicameral[postgres]'"
            ) from error
    path = Path(url.removeprefix("sqlite:///"))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    except OSError as error:
        raise LedgerError(f"the ledger {path} cannot be used: {error.strerror}") from error
    engine = sqlalchemy.create_engine(
        url,
        poolclass=SingletonThreadPool,
        connect_args={"timeout": _PATIENCE, "isolation_level": None},
    )
    sqlalchemy.event.listen(engine, "connect", _prepare)
    return engine


def _prepare(connection: Any, _: Any) -> None:
    """Write-ahead logging, and a sync at each commit: what is booked survives a loss of power."""
    cursor = connection.cursor()
    end = time.monotonic() + _PATIENCE
    while True:
        try:
            cursor.execute("PRAGMA journal_mode = WAL").fetchone()
            break
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > end:
                raise
            time.sleep(0.02)
    cursor.execute("PRAGMA synchronous = FULL")
    cursor.close()


def _amount(row: Any) -> int:
    return 0 if row is None else int(row[0])


def _again(cause: BaseException | None) -> bool:
    """Whether trying again may help: a lost connection, a deadlock, a serialization failure."""
    state = getattr(cause, "sqlstate", None)
    return type(cause).__module__.startswith("psycopg") and (
        state is None or state[:2] in ("08", "40", "57")
    )
