"""Opens a book for reading alone and as one snapshot, for who trusts nothing that writes it."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from bicameral.errors import ConfigError, LedgerError

Read = Callable[[str], Iterable[tuple[Any, ...]]]


class Unreadable(LedgerError):
    """The database is damaged, or not a book at all."""


@contextmanager
def reading(url: str) -> Iterator[Read]:
    """Executes queries on the book at `url`; all see what was committed when the first began.

    LedgerError if it cannot be opened; the queries raise Unreadable.
    """
    opened = _sqlite if url.startswith("sqlite:") else _postgresql
    with opened(url) as read:
        yield read


@contextmanager
def _sqlite(url: str) -> Iterator[Read]:
    path = Path(url.removeprefix("sqlite:///")).absolute()
    if not path.is_file():
        raise LedgerError(f"there is no ledger {path}")
    # SQLite cannot share a book in a folder that it cannot write; then nobody else writes either.
    alone = not os.access(path.parent, os.W_OK) and not Path(f"{path}-wal").exists()
    uri = f"{path.as_uri()}?mode=ro{'&immutable=1' if alone else ''}"
    with closing(sqlite3.connect(uri, uri=True, isolation_level=None)) as connection:

        def read(query: str) -> Iterator[tuple[Any, ...]]:
            try:
                yield from connection.execute(query)
            except sqlite3.Error as error:
                raise Unreadable(f"the ledger {path} cannot be read: {error}") from error

        def checked(query: str) -> Iterator[tuple[Any, ...]]:
            if not connection.in_transaction:
                list(read("BEGIN"))
                for (found,) in read("PRAGMA integrity_check"):
                    if found != "ok":
                        raise Unreadable(f"the ledger {path} is damaged: {found}")
            yield from read(query)

        yield checked


@contextmanager
def _postgresql(url: str) -> Iterator[Read]:
    try:
        import psycopg
    except ModuleNotFoundError as error:
        raise ConfigError("PostgreSQL needs psycopg: pip install 'bicameral[postgres]'") from error
    try:
        connection = psycopg.connect(url, connect_timeout=10)
    except psycopg.OperationalError as error:
        raise LedgerError(f"the ledger's PostgreSQL cannot be used: {_first(error)}") from error
    except psycopg.Error:  # whose message may quote the URL, which has the password
        raise ConfigError("[ledger] url_env: that is no postgresql:// URL") from None
    connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
    connection.read_only = True
    with closing(connection):

        def read(query: str) -> Iterator[tuple[Any, ...]]:
            try:
                with connection.cursor(name="audit") as cursor:
                    yield from cursor.execute(query)
            except psycopg.Error as error:
                raise Unreadable(f"the ledger cannot be read: {_first(error)}") from error

        yield read


def _first(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
