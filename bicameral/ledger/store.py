"""The book's database: SQLite by default, PostgreSQL by URL, both through SQLAlchemy Core.

All writing happens in `write`: one transaction that holds the head of the chain, so writers of
several processes take turns and each sees what the one before did. Methods raise LedgerError and
may wait.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from functools import lru_cache
from typing import Any, TypeVar

import msgspec

from bicameral.errors import LedgerError
from bicameral.ledger import entry
from bicameral.ledger.engine import PATIENCE, engine
from bicameral.ledger.entry import Body, Booking, Hold, KeySet, Void, Written
from bicameral.ledger.keys import Key
from bicameral.ledger.migrations import STEPS, Dialect

T = TypeVar("T")
_PAGE = 5000
_MOST = 2**60  # of an entry, in nano-dollars or tokens: what seven of them add up to still fits


class Unfit(LedgerError):
    """The database takes no such entry; it works, and to try again will not help."""


class Store:
    """The open database. One thread at a time may use it.

    `create` False: it is only read, may be read-only, and LedgerError if there is none. Nothing
    waits for other writers, or for a server that is away, much longer than `patience` seconds.
    """

    def __init__(self, url: str, *, create: bool = True, patience: float = PATIENCE) -> None:
        import sqlalchemy

        self._sql = sqlalchemy
        self._patience = patience
        self.name, self._engine = engine(url, create, patience)
        self._dbapi = self._engine.dialect.loaded_dbapi
        self.dialect: Dialect = "sqlite" if self._engine.dialect.name == "sqlite" else "postgresql"
        self._texts: dict[str, str] = {}
        try:
            with self._told():
                self._migrate() if create else self._recognise()
        except LedgerError:
            self._engine.dispose()
            raise

    def write(self, work: Callable[[Draft], T]) -> T:
        """Call `work` with a draft and commit what it put in; all of it or, if it raises, nothing.

        It may be called again, if another writer or a lost connection undid the first attempt. An
        entry whose id is there already is not written again: whether one is, is asked only once the
        database has refused it, as that is rare. Unfit if it takes no such entry.
        """
        careful = doubtful = False
        end, pause = time.monotonic() + self._patience, 0.05
        while True:
            try:
                with self._told(), self._begin() as cursor:
                    draft = Draft(self, cursor, careful=careful, doubtful=doubtful)
                    result = work(draft)
                    draft.finish()
                return result
            except LedgerError as error:
                twice = not careful and isinstance(error.__cause__, self._dbapi.IntegrityError)
                if not twice and (time.monotonic() + pause > end or not _again(error.__cause__)):
                    raise
                careful = True
            if not twice:
                doubtful = True
                time.sleep(pause)
                pause = min(2 * pause, 1.0)

    def tally(self, name: str) -> int:
        """What the entries add up to under that name; 0 if there are none."""
        with self._told(), self._read() as cursor:
            return _amount(self.run(cursor, _TALLY, (name,)).fetchone())

    def tallies(self, prefix: str = "") -> dict[str, int]:
        """All that begin with `prefix`."""
        with self._told(), self._read() as cursor:
            rows = self.run(cursor, "SELECT name, amount FROM tally ORDER BY name")
            return {name: amount for name, amount in rows if name.startswith(prefix)}

    def keys(self) -> dict[str, Key]:
        """Every key by its digest, revoked ones too."""
        with self._told(), self._read() as cursor:
            rows = self.run(cursor, "SELECT digest, body FROM api_key")
            return {digest: msgspec.json.decode(body, type=Key) for digest, body in rows}

    def head(self) -> tuple[int, bytes]:
        """The number and the hash of the last entry: once published, no entry can go missing."""
        with self._told(), self._read() as cursor:
            seq, digest = self.run(cursor, _HEAD).fetchone()
            return seq, bytes(digest)

    def entries(self, first: int = 1, last: int | None = None) -> Iterator[Written]:
        """The entries from `first` to `last`, by default all, in order."""
        while True:
            with self._told(), self._read() as cursor:
                end = first + _PAGE - 1 if last is None else min(last, first + _PAGE - 1)
                rows = self.run(cursor, _ENTRIES, (first, end)).fetchall()
            if not rows:
                return
            for seq, id, at, body, digest in rows:
                yield Written(seq=seq, id=id, at=at, body=body, hash=bytes(digest))
            first = end + 1

    def find(self, id: str) -> Body | None:
        """The entry of that id."""
        with self._told(), self._read() as cursor:
            row = self.run(cursor, _FIND, (id,)).fetchone()
            return None if row is None else entry.read(row[0])

    def open_holds(self, until: int | None = None) -> list[Hold]:
        """The holds that nobody has resolved; only those that expire before `until`, if given."""
        with self._told(), self._read() as cursor:
            rows = self.run(cursor, "SELECT body, until FROM open_hold ORDER BY until, id")
            holds = (entry.read(body) for body, end in rows if until is None or end < until)
            return [hold for hold in holds if isinstance(hold, Hold)]

    def close(self) -> None:
        """Nothing can be done with it after this."""
        self._engine.dispose()

    # --- under it ----------------------------------------------------------------------------

    def run(self, cursor: Any, text: str, values: tuple[Any, ...] | list[Any] = ()) -> Any:
        """Execute a statement written with ? for a value; a list of values: once for each.

        On the driver's own cursor: SQLAlchemy's share of a small transaction was two thirds.
        """
        if self.dialect == "postgresql":
            text = self._texts.setdefault(text, text.replace("?", "%s"))
        if isinstance(values, list):
            return cursor.executemany(text, values)
        return cursor.execute(text, values) if values else cursor.execute(text)

    @contextmanager
    def _begin(self) -> Iterator[Any]:
        with closing(self._engine.raw_connection()) as connection:
            with closing(connection.cursor()) as cursor:
                if self.dialect == "sqlite":
                    cursor.execute("BEGIN IMMEDIATE")
                yield cursor
            connection.commit()

    @contextmanager
    def _read(self) -> Iterator[Any]:
        """What is not committed when a connection goes back to the pool is rolled back there."""
        with (
            closing(self._engine.raw_connection()) as connection,
            closing(connection.cursor()) as cursor,
        ):
            yield cursor

    @contextmanager
    def _told(self) -> Iterator[None]:
        """The one border where the database's errors become ours."""
        try:
            yield
        except (self._sql.exc.SQLAlchemyError, self._dbapi.Error, OSError) as error:
            cause = getattr(error, "orig", None) or error
            why = str(cause).strip().splitlines() or [type(cause).__name__]
            unfit = isinstance(cause, (self._dbapi.DataError, self._dbapi.IntegrityError))
            kind = Unfit if unfit else LedgerError
            raise kind(f"the ledger {self.name} cannot be used: {why[0]}") from cause
        except OverflowError as error:  # of sqlite3, where entries together come to too much
            raise Unfit(f"the ledger {self.name} cannot keep a sum: {error}") from error
        except msgspec.MsgspecError as error:
            raise LedgerError(
                f"the ledger {self.name} has a row that cannot be read; `bicameral ledger verify` "
                "says which"
            ) from error

    def _migrate(self) -> None:
        with self._begin() as cursor:
            if self.dialect == "postgresql":
                self.run(cursor, "SELECT pg_advisory_xact_lock(4277490211)")
            self.run(cursor, "CREATE TABLE IF NOT EXISTS step (done INTEGER NOT NULL)")
            done = self._steps(cursor)
            for number, step in enumerate(STEPS[done:], start=done + 1):
                for statement in step[self.dialect]:
                    cursor.execute(statement)
                self.run(cursor, "INSERT INTO step VALUES (?)", (number,))

    def _recognise(self) -> None:
        with self._read() as cursor:
            if self._steps(cursor) < len(STEPS):
                raise LedgerError(f"the ledger {self.name} is an older Bicameral's: write it first")

    def _steps(self, cursor: Any) -> int:
        done: int = self.run(cursor, "SELECT COUNT(*) FROM step").fetchone()[0]
        if done > len(STEPS):
            raise LedgerError(f"the ledger {self.name} was written by a newer Bicameral")
        return done


_HEAD = "SELECT seq, hash FROM head"
_FIND = "SELECT body FROM entry WHERE id = ?"
_TALLY = "SELECT amount FROM tally WHERE name = ?"
_ENTRIES = "SELECT seq, id, at, body, hash FROM entry WHERE seq BETWEEN ? AND ? ORDER BY seq"
_ADD = (
    "INSERT INTO tally VALUES {} "
    "ON CONFLICT (name) DO UPDATE SET amount = tally.amount + excluded.amount"
)


class Draft:
    """What one transaction is about to write; it sees what it has put in itself.

    `doubtful`: an attempt at the same broke off before, and may be committed all the same.
    """

    def __init__(self, store: Store, cursor: Any, *, careful: bool, doubtful: bool) -> None:
        self.doubtful = doubtful
        self._store = store
        self._cursor = cursor
        self._careful = careful
        lock = " FOR UPDATE" if store.dialect == "postgresql" else ""
        self.seq, head = self._run(_HEAD + lock).fetchone()
        self._hash = bytes(head)
        self._rows: list[tuple[int, str, int, str, bytes]] = []
        self._ids: set[str] = set()
        self._open: set[str] = set()
        self._deltas: dict[str, int] = {}
        self._base: dict[str, int] = {}
        self._opened: dict[str, Hold] = {}
        self._closed: set[str] = set()
        self._keys: dict[str, Key] = {}

    def expect(self, holds: Sequence[str]) -> None:
        """Look up at once which of `holds` are open: those that entries to come will resolve."""
        for start in range(0, len(holds), 500):
            some = tuple(holds[start : start + 500])
            marks = ",".join("?" * len(some))
            rows = self._run(f"SELECT id FROM open_hold WHERE id IN ({marks})", some)  # noqa: S608
            self._open |= {row[0] for row in rows}

    def known(self, id: str) -> bool:
        """Whether an entry of that id is written, or about to be."""
        if id in self._ids:
            return True
        return self._run("SELECT 1 FROM entry WHERE id = ?", (id,)).fetchone() is not None

    def find(self, id: str) -> Body | None:
        """The entry of that id, written or about to be."""
        text = next((row[3] for row in self._rows if row[1] == id), None)
        if text is None:
            row = self._run(_FIND, (id,)).fetchone()
            text = row and row[0]
        return None if text is None else entry.read(text)

    def put(self, body: Body, at: int) -> bool:
        """Append `body`, at Unix millisecond `at`; False if an entry of its id is there already.

        LedgerError, and nothing is appended, if it is wrong.
        """
        if body.id in self._ids or (self._careful and self.known(body.id)):
            return False
        text, effects = _checked(body)
        self.seq += 1
        self._hash = entry.link(self._hash, self.seq, body.id, at, text)
        self._rows.append((self.seq, body.id, at, text, self._hash))
        self._ids.add(body.id)
        deltas = self._deltas
        for name, amount in effects:
            deltas[name] = deltas.get(name, 0) + amount
        self._hold(body)
        return True

    def tally(self, name: str) -> int:
        """What it stands at, with what was put in before."""
        if name not in self._base:
            self._base[name] = _amount(self._run(_TALLY, (name,)).fetchone())
        return self._base[name] + self._deltas.get(name, 0)

    def is_open(self, hold: str) -> bool:
        """Whether that hold has been made and not been resolved."""
        if hold in self._opened or hold in self._closed:
            return hold in self._opened
        return hold in self._open or self.hold(hold) is not None

    def hold(self, id: str) -> Hold | None:
        """The hold of that id, if it has been made and not been resolved."""
        if id in self._opened or id in self._closed:
            return self._opened.get(id)
        row = self._run("SELECT body FROM open_hold WHERE id = ?", (id,)).fetchone()
        body = None if row is None else entry.read(row[0])
        return body if isinstance(body, Hold) else None

    def touch(self) -> None:
        """Write something that comes to nothing: it fails where an entry would.

        There and back, as SQLite writes no page that has not changed.
        """
        self._run("UPDATE head SET seq = seq + 1")
        self._run("UPDATE head SET seq = seq - 1")

    def finish(self) -> None:
        """Send it all; the commit is the store's."""
        if not self._rows:
            return
        self._insert("INSERT INTO entry VALUES {}", self._rows)
        self._insert(_ADD, [(n, d) for n, d in sorted(self._deltas.items()) if d])
        opened = [(h.id, h.until, entry.canonical(h)) for h in self._opened.values()]
        self._insert("INSERT INTO open_hold VALUES {}", opened)
        self._insert("DELETE FROM open_hold WHERE id IN (VALUES {})", [(c,) for c in self._closed])
        for key in self._keys.values():
            body = msgspec.json.encode(key).decode()
            text = (
                "INSERT INTO api_key VALUES (?, ?) "
                "ON CONFLICT (digest) DO UPDATE SET body = excluded.body"
            )
            self._run(text, (key.digest, body))
        self._run("UPDATE head SET seq = ?, hash = ?", (self.seq, self._hash))

    def _run(self, text: str, values: tuple[Any, ...] | list[Any] = ()) -> Any:
        return self._store.run(self._cursor, text, values)

    def _insert(self, text: str, rows: Sequence[tuple[Any, ...]]) -> None:
        """Execute `text` on `rows`, as many at once as the largest power of two that is left.

        Row by row the driver lets go of the interpreter each time, and gets it back late where the
        event loop is busy; powers of two, so that few statements have to be prepared.
        """
        start = 0
        while start < len(rows):
            size = min(128, 1 << (len(rows) - start).bit_length() - 1)
            some = rows[start : start + size]
            values = tuple(value for row in some for value in row)
            self._run(text.format(_marks(len(rows[0]), size)), values)
            start += size

    def _hold(self, body: Body) -> None:
        match body:
            case Hold():
                self._opened[body.id] = body
            case Booking() | Void() if body.held is not None:
                if self._opened.pop(body.held.id, None) is None:
                    self._closed.add(body.held.id)
            case KeySet():
                self._keys[body.key.digest] = body.key


def _checked(body: Body) -> tuple[str, list[tuple[str, int]]]:
    """Its canonical JSON and its effects; LedgerError if no database could keep them."""
    total = 0
    for _, amount in body.postings:
        total += amount
    if total:
        raise LedgerError(f"the postings of {body.id} do not sum to zero")
    effects = entry.effects(body)
    most = 0
    for _, amount in effects:
        if amount > most or -amount > most:
            most = abs(amount)
    if "\0" in body.id or most > _MOST:
        raise LedgerError(f"{body.id!r} cannot be booked: its id or an amount is out of bounds")
    try:
        return entry.canonical(body), effects
    except (OverflowError, UnicodeEncodeError) as error:
        raise LedgerError(f"{body.id!r} cannot be booked: {error}") from error


@lru_cache(maxsize=64)
def _marks(width: int, rows: int) -> str:
    row = "(" + ",".join("?" * width) + ")"
    return ",".join([row] * rows)


def _amount(row: Any) -> int:
    return 0 if row is None else int(row[0])


def _again(cause: BaseException | None) -> bool:
    """Whether trying again may help: a lost connection, a deadlock, a serialization failure."""
    state = getattr(cause, "sqlstate", None)
    return type(cause).__module__.startswith("psycopg") and (
        state is None or state[:2] in ("08", "40", "57")
    )
