"""Events that wait to be asked about: bounded, on disk as soon as they are many.

They lie in a private temporary database of SQLite, which keeps a few megabytes in memory and the
rest in a file without a name, gone with the process: pictures of people must not stay behind.
"""

from __future__ import annotations

import sqlite3

import msgspec

from bicameral.right.stream.evidence import Sighting

_MEMORY_KB = 8192
_BYTES = 256 * 2**20
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Sighting).decode


class Pending:
    """At most `limit` sightings and `most` bytes; `newest_first` for what is live."""

    def __init__(self, limit: int, *, newest_first: bool, most: int = _BYTES) -> None:
        self._limit = limit
        self._most = most
        self._order = "DESC" if newest_first else "ASC"
        self._bytes = 0
        self._count = 0
        # An empty name is a database on disk that only this connection knows.
        self._db = sqlite3.connect("", isolation_level=None)
        self._db.execute(f"PRAGMA cache_size = -{_MEMORY_KB}")
        self._db.execute(
            "CREATE TABLE waiting (seq INTEGER PRIMARY KEY, born REAL, size INTEGER, body BLOB)"
        )

    def __len__(self) -> int:
        return self._count

    def add(self, sighting: Sighting) -> list[Sighting]:
        """Keep it; gives the oldest ones that had to make room."""
        body = _encode(sighting)
        insert = "INSERT INTO waiting (born, size, body) VALUES (?, ?, ?)"
        self._db.execute(insert, (sighting.born, len(body), body))
        self._bytes += len(body)
        self._count += 1
        shed = []
        while self._count > self._limit or (self._bytes > self._most and self._count > 1):
            shed += self._pop("SELECT seq, size, body FROM waiting ORDER BY born, seq LIMIT 1")
        return shed

    def take(self) -> Sighting | None:
        """The next to be asked about; None if there is none."""
        order = f"born {self._order}, seq {self._order}"
        found = self._pop(f"SELECT seq, size, body FROM waiting ORDER BY {order} LIMIT 1")  # noqa: S608
        return found[0] if found else None

    def older(self, born: float) -> list[Sighting]:
        """Those seen before `born`, taken out: nobody shall be asked about them any more."""
        return self._pop("SELECT seq, size, body FROM waiting WHERE born < ? ORDER BY born", born)

    def close(self) -> None:
        """Forget all that is left."""
        self._db.close()

    def _pop(self, select: str, *values: float) -> list[Sighting]:
        rows = self._db.execute(select, values).fetchall()
        for seq, size, _ in rows:
            self._db.execute("DELETE FROM waiting WHERE seq = ?", (seq,))
            self._bytes -= size
            self._count -= 1
        return [_decode(body) for _, _, body in rows]
