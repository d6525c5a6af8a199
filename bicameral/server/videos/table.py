"""The table of jobs: SQLite, so that jobs outlive the server and several servers may share it.

Who runs a job has claimed it, in one statement, and says so again and again; a claim that has not
been renewed by its time is anybody's. All servers on a table run on one machine and one clock.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from bicameral.server.videos.job import STATES, Job

Failure = (sqlite3.Error, OSError)
_MARK = 0x42494356  # this file is ours: "BICV"
_FORM = 1
_PATIENCE = 5.0
_FIELDS = ", ".join(Job.__struct_fields__)
# `lease`: until when a claim holds; of a queued job, when it may be claimed. `repeat` is a digest
# of the Idempotency-Key and its caller, `asked` one of what was asked under it.
_SCHEMA = """
CREATE TABLE jobs (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    caller TEXT NOT NULL,
    model TEXT NOT NULL,
    created REAL NOT NULL,
    status TEXT NOT NULL,
    progress INTEGER NOT NULL,
    started REAL,
    completed REAL,
    expires REAL,
    deadline REAL,
    seconds REAL,
    size TEXT,
    tries INTEGER NOT NULL,
    code TEXT,
    message TEXT,
    media_type TEXT,
    stored INTEGER NOT NULL,
    owner TEXT NOT NULL DEFAULT '',
    lease REAL NOT NULL DEFAULT 0,
    repeat BLOB UNIQUE,
    asked BLOB
);
CREATE INDEX states ON jobs (status, lease);
CREATE INDEX callers ON jobs (caller, started);
"""
_LIVE = "('queued', 'in_progress')"
# Callers take turns: who was served last waits longest.
_NEXT = f"""
SELECT id FROM jobs WHERE status IN {_LIVE} AND lease <= :now AND tries < :tries
    AND model IN (SELECT value FROM json_each(:models))
ORDER BY (SELECT MAX(o.started) FROM jobs o WHERE o.caller = jobs.caller), seq LIMIT 1
"""  # noqa: S608
_CLAIM = f"""
UPDATE jobs SET status = 'in_progress', progress = 0, started = :now, tries = tries + 1,
    owner = :owner, lease = :until WHERE id = ({_NEXT}) RETURNING {_FIELDS}
"""  # noqa: S608
_MINE = "id = ? AND owner = ? AND status = 'in_progress'"


class Full(Exception):
    """So many jobs wait already."""

    def __init__(self, waiting: int) -> None:
        super().__init__(f"{waiting} jobs wait already")
        self.waiting = waiting


class NoRoom(Exception):
    """So many bytes are kept, and more would be too much."""

    def __init__(self, stored: int) -> None:
        super().__init__(f"{stored} bytes are kept already")
        self.stored = stored


class Reused(Exception):
    """The Idempotency-Key stands for another request."""


class Repeat(Struct, frozen=True):
    """Digests: of whose Idempotency-Key it is, and of what was asked."""

    who: bytes
    asked: bytes


class Table:
    """The open table, which threads may share. Its methods raise what `Failure` lists, and wait."""

    def __init__(self, path: Path) -> None:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        self._lock = threading.Lock()
        self._db = sqlite3.connect(
            path, timeout=_PATIENCE, isolation_level=None, check_same_thread=False
        )
        try:
            _prepare(self._db, path)
        except BaseException:
            self._db.close()
            raise

    def close(self) -> None:
        """Nothing can be done with it after this."""
        with self._lock:
            self._db.close()

    # --- what callers do -------------------------------------------------------------------------

    def known(self, repeat: Repeat) -> Job | None:
        """The job that was made under that Idempotency-Key; Reused if it is another request's."""
        with self._lock:
            return self._known(repeat)

    def add(self, job: Job, repeat: Repeat | None, *, queue: int, room: int) -> Job:
        """Put it in the queue; under a known Idempotency-Key: the job that is there.

        Full if `queue` jobs wait, NoRoom if more than `room` bytes would be kept, Reused.
        """
        values = msgspec.structs.asdict(job)
        with self._changing():
            if repeat is not None and (before := self._known(repeat)) is not None:
                return before
            waiting = self._number("SELECT COUNT(*) FROM jobs WHERE status = 'queued'")
            if waiting >= queue:
                raise Full(waiting)
            self._make_room(job.stored, room)
            columns = [*values, "repeat", "asked"]
            keys = (None, None) if repeat is None else (repeat.who, repeat.asked)
            marks = ", ".join("?" * len(columns))
            insert = f"INSERT INTO jobs ({', '.join(columns)}) VALUES ({marks})"  # noqa: S608
            self._db.execute(insert, (*values.values(), *keys))
        return job

    def find(self, id: str, caller: str) -> Job | None:
        """That job, if it is `caller`'s."""
        with self._lock:
            return self._one("id = ? AND caller = ?", (id, caller))

    def page(
        self, caller: str, *, after: str | None, limit: int, newest: bool
    ) -> tuple[list[Job], bool]:
        """Jobs of `caller` by age, those that follow the job `after`; whether there are more."""
        than, order = ("<", "DESC") if newest else (">", "ASC")
        where, values = "caller = ?", [caller]
        if after is not None:
            where += f" AND seq {than} (SELECT seq FROM jobs WHERE id = ? AND caller = ?)"  # noqa: S608
            values += [after, caller]
        select = f"SELECT {_FIELDS} FROM jobs WHERE {where} ORDER BY seq {order} LIMIT ?"  # noqa: S608
        with self._lock:
            rows = self._db.execute(select, (*values, limit + 1)).fetchall()
        return [_job(row) for row in rows[:limit]], len(rows) > limit

    def cancel(self, id: str, caller: str, *, now: float, expires: float) -> Job | None:
        """The job, cancelled if it had not ended; None if it is not `caller`'s."""
        change = f"""UPDATE jobs SET status = 'cancelled', completed = ?, expires = ?, stored = 0
            WHERE id = ? AND caller = ? AND status IN {_LIVE}"""  # noqa: S608
        with self._changing():
            self._db.execute(change, (now, expires, id, caller))
            return self._one("id = ? AND caller = ?", (id, caller))

    def delete(self, id: str, caller: str) -> bool:
        """Forget the job; False if it is not `caller`'s."""
        with self._changing():
            found = self._db.execute("DELETE FROM jobs WHERE id = ? AND caller = ?", (id, caller))
            return found.rowcount > 0

    def counts(self) -> dict[str, int]:
        """How many jobs there are of each status."""
        with self._lock:
            rows = self._db.execute("SELECT status, COUNT(*) FROM jobs GROUP BY status").fetchall()
        found: dict[str, int] = dict.fromkeys(STATES, 0)
        return found | dict(rows)

    # --- what runs them --------------------------------------------------------------------------

    def claim(
        self, owner: str, models: Collection[str], *, now: float, until: float, tries: int
    ) -> Job | None:
        """The next job that one of `models` is to do, `owner`'s now; None if there is none."""
        names = msgspec.json.encode(list(models)).decode()
        given = {"owner": owner, "models": names, "now": now, "until": until, "tries": tries}
        with self._changing():
            row = self._db.execute(_CLAIM, given).fetchone()
        return None if row is None else _job(row)

    def renew(self, id: str, owner: str, *, until: float, progress: int) -> bool:
        """Say that `owner` is still at it; False if it is not its job any more."""
        with self._changing():
            change = f"UPDATE jobs SET lease = ?, progress = ? WHERE {_MINE}"  # noqa: S608
            return self._db.execute(change, (until, progress, id, owner)).rowcount > 0

    def give_back(self, id: str, owner: str, *, at: float) -> None:
        """Queue it again as if it had not been begun, for anybody to claim from `at` on."""
        change = f"""UPDATE jobs SET status = 'queued', progress = 0, owner = '', lease = ?,
            tries = tries - 1 WHERE {_MINE}"""  # noqa: S608
        with self._changing():
            self._db.execute(change, (at, id, owner))

    def complete(self, job: Job, owner: str, *, room: int) -> bool:
        """Note that its clip is there; False if it is not `owner`'s any more. NoRoom."""
        change = f"""UPDATE jobs SET status = 'completed', progress = 100, completed = ?,
            expires = ?, seconds = ?, media_type = ?, stored = ? WHERE {_MINE}"""  # noqa: S608
        with self._changing():
            self._db.execute(f"UPDATE jobs SET stored = 0 WHERE {_MINE}", (job.id, owner))  # noqa: S608
            self._make_room(job.stored, room)
            values = job.completed, job.expires, job.seconds, job.media_type, job.stored
            return self._db.execute(change, (*values, job.id, owner)).rowcount > 0

    def fail(
        self, id: str, owner: str, *, code: str, message: str, now: float, expires: float
    ) -> bool:
        """Note why `owner` could not do it; False if it is not its job any more."""
        with self._changing():
            return bool(self._failed(_MINE, (id, owner), code, message, now, expires))

    def lives(self, id: str) -> bool:
        """Whether the job is there and was neither cancelled nor failed."""
        with self._lock:
            found = self._one("id = ?", (id,))
        return found is not None and found.status not in ("cancelled", "failed")

    # --- what is cleared away --------------------------------------------------------------------

    def abandoned(self, *, tries: int, now: float, expires: float) -> list[str]:
        """Fail the jobs whose server went away for the last time; their ids."""
        where = "status = 'in_progress' AND lease <= ? AND tries >= ?"
        message = f"it was begun {tries} times, and each time the server went away"
        with self._changing():
            return self._failed(where, (now, tries), "interrupted", message, now, expires)

    def unwanted(self, *, before: float, now: float, expires: float) -> list[str]:
        """Fail the jobs that have waited since `before`; their ids."""
        message = "nobody took it up: its model is gone, or the queue was too long"
        where = "status = 'queued' AND created <= ?"
        with self._changing():
            return self._failed(where, (before,), "not_taken_up", message, now, expires)

    def expired(self, *, now: float, before: float) -> list[str]:
        """Note that clips are gone which expired, and forget jobs that expired at `before`."""
        gone = "completed IS NOT NULL AND expires <= ?"
        with self._changing():
            clips = f"UPDATE jobs SET stored = 0 WHERE {gone} AND stored > 0 RETURNING id"  # noqa: S608
            ids = [row[0] for row in self._db.execute(clips, (now,)).fetchall()]
            self._db.execute(f"DELETE FROM jobs WHERE {gone}", (before,))  # noqa: S608
        return ids

    def ids(self, *, live: bool = False) -> set[str]:
        """Of every job there is, or of those that have not ended."""
        where = f"status IN {_LIVE}" if live else "TRUE"
        with self._lock:
            rows = self._db.execute(f"SELECT id FROM jobs WHERE {where}").fetchall()  # noqa: S608
        return {row[0] for row in rows}

    # --- inside a transaction --------------------------------------------------------------------

    def _known(self, repeat: Repeat) -> Job | None:
        found = self._one("repeat = ?", (repeat.who,))
        if found is not None and self._one("repeat = ? AND asked = ?", (repeat.who, repeat.asked)):
            return found
        if found is not None:
            raise Reused
        return None

    def _make_room(self, bytes: int, room: int) -> None:
        stored = self._number("SELECT COALESCE(SUM(stored), 0) FROM jobs")
        if stored + bytes > room:
            raise NoRoom(stored)

    def _failed(
        self,
        where: str,
        values: tuple[Any, ...],
        code: str,
        message: str,
        now: float,
        expires: float,
    ) -> list[str]:
        change = f"""UPDATE jobs SET status = 'failed', code = ?, message = ?, completed = ?,
            expires = ?, stored = 0 WHERE {where} RETURNING id"""  # noqa: S608
        rows = self._db.execute(change, (code, message, now, expires, *values)).fetchall()
        return [row[0] for row in rows]

    def _one(self, where: str, values: tuple[Any, ...]) -> Job | None:
        select = f"SELECT {_FIELDS} FROM jobs WHERE {where}"  # noqa: S608
        row = self._db.execute(select, values).fetchone()
        return None if row is None else _job(row)

    def _number(self, query: str) -> int:
        return int(self._db.execute(query).fetchone()[0])

    @contextmanager
    def _changing(self) -> Iterator[None]:
        """All of the block or nothing of it, and nobody else's in between."""
        with self._lock:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    with suppress(sqlite3.Error):  # the error that led here is the one to tell
                        self._db.execute("ROLLBACK")
                raise


def _job(row: tuple[Any, ...]) -> Job:
    return Job(**dict(zip(Job.__struct_fields__, row, strict=True)))


def _prepare(db: sqlite3.Connection, path: Path) -> None:
    """Make it ours if it is new; sqlite3.DatabaseError if it is somebody else's."""
    end = time.monotonic() + _PATIENCE
    while True:  # SQLite does not wait here for who opens a new file at the same time
        try:
            db.execute("PRAGMA journal_mode = WAL").fetchone()
            break
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > end:
                raise
            time.sleep(0.02)
    db.execute("PRAGMA synchronous = FULL")  # a job that was accepted survives a loss of power
    db.execute("BEGIN IMMEDIATE")
    mark = db.execute("PRAGMA application_id").fetchone()[0]
    form = db.execute("PRAGMA user_version").fetchone()[0]
    tables = db.execute("SELECT COUNT(*) FROM sqlite_master").fetchone()[0]
    if mark != _MARK and tables:
        raise sqlite3.DatabaseError(f"{path} is another program's database")
    if form > _FORM:
        raise sqlite3.DatabaseError(f"{path} was written by a newer version of Bicameral")
    if mark != _MARK:
        for statement in filter(str.strip, _SCHEMA.split(";")):
            db.execute(statement)
        db.execute(f"PRAGMA application_id = {_MARK}")
        db.execute(f"PRAGMA user_version = {_FORM}")
    db.execute("COMMIT")
