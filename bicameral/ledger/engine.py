"""Connects to the book's database so that what is committed is on disk and no wait is endless."""

from __future__ import annotations

import os
import sqlite3
import time
from pathlib import Path
from typing import Any

from bicameral.config import LedgerOptions
from bicameral.errors import ConfigError, LedgerError

PATIENCE = 10.0


def engine(url: str, create: bool, patience: float) -> tuple[str, Any]:
    """What to call the database in a message, without user or password; and SQLAlchemy's engine.

    `create`: make a SQLite file that is not there; else it is opened for reading alone. LedgerError
    if it cannot be, ConfigError if `url` is none.
    """
    if url.startswith("sqlite:"):
        path = Path(url.removeprefix("sqlite:///"))
        return str(path), _sqlite(path, create, patience)
    import sqlalchemy

    try:
        parsed = sqlalchemy.make_url(url).set(drivername="postgresql+psycopg")
    except (sqlalchemy.exc.ArgumentError, ValueError):  # their messages may quote the password
        raise ConfigError("[ledger] url_env: that is no postgresql:// URL") from None
    if "@" in (parsed.host or ""):
        raise ConfigError("[ledger] url_env: write an @ in the password as %40")
    return f"postgresql://{parsed.host or ''}/{parsed.database or ''}", _postgresql(
        parsed, patience
    )


def _postgresql(url: Any, patience: float) -> Any:
    """Whatever the server is set to: a commit is on its disk, and waits for locks end."""
    import sqlalchemy

    wait = max(2, round(patience))
    settings = {
        "synchronous_commit": "on",
        "lock_timeout": f"{round(patience * 1000)}ms",
        "idle_in_transaction_session_timeout": f"{6 * wait}s",
    }
    try:
        return sqlalchemy.create_engine(
            url,
            pool_size=2,
            pool_pre_ping=True,
            isolation_level="READ COMMITTED",
            connect_args={
                "connect_timeout": wait,
                "tcp_user_timeout": 1000 * wait,
                "options": " ".join(f"-c {name}={value}" for name, value in settings.items()),
            },
        )
    except ModuleNotFoundError as error:
        raise ConfigError(
            "[ledger] url_env: PostgreSQL needs psycopg: pip install 'bicameral[postgres]'"
        ) from error


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


def _sqlite(path: Path, create: bool, patience: float) -> Any:
    import sqlalchemy
    from sqlalchemy.pool import QueuePool

    try:
        if create:
            _create(path)
        elif not path.is_file():
            raise LedgerError(f"there is no ledger {path}")
    except OSError as error:
        raise LedgerError(f"the ledger {path} cannot be used: {error.strerror}") from error

    def connect() -> sqlite3.Connection:
        """Each is used by one thread at a time, but not always by the same."""
        connection = sqlite3.connect(
            path if create else _read_only(path),
            uri=not create,
            timeout=patience,
            isolation_level=None,
            check_same_thread=False,
        )
        try:
            _prepare(connection, create, patience)
        except sqlite3.Error:
            connection.close()
            raise
        return connection

    return sqlalchemy.create_engine("sqlite://", creator=connect, poolclass=QueuePool)


def _create(path: Path) -> None:
    """Make the file, for us alone, if there is none.

    One that is there is not even opened: to close it again would free the locks that other
    connections of this process have on it (https://sqlite.org/howtocorrupt.html, 2.2).
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    except FileExistsError:
        return


def _read_only(path: Path) -> str:
    """In a folder that cannot be written SQLite cannot share a book; nor can anybody write it."""
    alone = not os.access(path.parent, os.W_OK) and not Path(f"{path}-wal").exists()
    return f"{path.absolute().as_uri()}?mode=ro{'&immutable=1' if alone else ''}"


def _prepare(connection: sqlite3.Connection, create: bool, patience: float) -> None:
    """Write-ahead logging, and a sync at each commit: what is booked survives a loss of power."""
    tables = {row[0] for row in connection.execute("SELECT name FROM sqlite_master")}
    if "step" not in tables and (tables or not create):
        raise sqlite3.DatabaseError("it is the database of another program")
    if not create:
        return
    end = time.monotonic() + patience
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL").fetchone()
            break
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > end:
                raise
            time.sleep(0.02)
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA wal_autocheckpoint = 4000")  # the same few pages change each time
