"""The book's tables, as an ordered list of steps: a new version appends one, and changes none.

Each step is its statements for SQLite and for PostgreSQL.
"""

from __future__ import annotations

from typing import Literal

Dialect = Literal["sqlite", "postgresql"]

# Three things are kept: the entries, which nobody may change; and, so that a budget can be checked
# without reading them all, what they add up to and which holds are open.
_FIRST_SQLITE = (
    """CREATE TABLE entry (
        seq INTEGER PRIMARY KEY,
        id TEXT NOT NULL UNIQUE,
        at INTEGER NOT NULL,
        body TEXT NOT NULL,
        hash BLOB NOT NULL
    ) STRICT""",
    "CREATE TABLE tally (name TEXT PRIMARY KEY, amount INTEGER NOT NULL) STRICT, WITHOUT ROWID",
    "CREATE TABLE open_hold (id TEXT PRIMARY KEY, until INTEGER NOT NULL, body TEXT NOT NULL) "
    "STRICT, WITHOUT ROWID",
    "CREATE TABLE api_key (digest TEXT PRIMARY KEY, body TEXT NOT NULL) STRICT, WITHOUT ROWID",
    "CREATE TABLE head (one INTEGER PRIMARY KEY CHECK (one = 1), seq INTEGER NOT NULL, "
    "hash BLOB NOT NULL) STRICT",
    "INSERT INTO head VALUES (1, 0, zeroblob(32))",
    "CREATE TRIGGER entry_stays BEFORE UPDATE ON entry "
    "BEGIN SELECT RAISE(ABORT, 'entries of the book are never changed'); END",
    "CREATE TRIGGER entry_remains BEFORE DELETE ON entry "
    "BEGIN SELECT RAISE(ABORT, 'entries of the book are never deleted'); END",
)
_FIRST_POSTGRESQL = (
    """CREATE TABLE entry (
        seq BIGINT PRIMARY KEY,
        id TEXT NOT NULL UNIQUE,
        at BIGINT NOT NULL,
        body TEXT NOT NULL,
        hash BYTEA NOT NULL
    )""",
    "CREATE TABLE tally (name TEXT PRIMARY KEY, amount BIGINT NOT NULL)",
    "CREATE TABLE open_hold (id TEXT PRIMARY KEY, until BIGINT NOT NULL, body TEXT NOT NULL)",
    "CREATE TABLE api_key (digest TEXT PRIMARY KEY, body TEXT NOT NULL)",
    "CREATE TABLE head (one INTEGER PRIMARY KEY CHECK (one = 1), seq BIGINT NOT NULL, "
    "hash BYTEA NOT NULL)",
    "INSERT INTO head VALUES (1, 0, decode(repeat('00', 32), 'hex'))",
    """CREATE FUNCTION entry_stays() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN RAISE EXCEPTION 'entries of the book are never changed or deleted'; END $$""",
    "CREATE TRIGGER entry_stays BEFORE UPDATE OR DELETE OR TRUNCATE ON entry "
    "FOR EACH STATEMENT EXECUTE FUNCTION entry_stays()",
)

STEPS: tuple[dict[Dialect, tuple[str, ...]], ...] = (
    {"sqlite": _FIRST_SQLITE, "postgresql": _FIRST_POSTGRESQL},
)
