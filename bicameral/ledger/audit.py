"""An auditor of the book. It shares no code with what writes it: it reads the tables itself.

Anybody can compute the chain again. The hash of an entry is SHA-256 over the 32 bytes of the hash
before it (zeros before the first) and then its seq, id, at and body, as UTF-8, seq and at in
decimal, with a zero byte between them. A head is "SEQ:HASH", HASH in hex: once it is published, no
entry up to SEQ can be changed or go missing unnoticed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any

from msgspec import Struct

from bicameral.errors import LedgerError
from bicameral.ledger.raw import Read, Unreadable, reading
from bicameral.ledger.replay import Replay

_ROWS = "SELECT seq, id, at, body, hash FROM entry ORDER BY seq"
_TWICE = "SELECT id, COUNT(*) FROM entry GROUP BY id HAVING COUNT(*) > 1"


class Report(Struct, frozen=True, kw_only=True):
    """What the entries add up to, and all that is wrong, with the numbers of the entries.

    `balances` are nano-dollars by account.
    """

    entries: int
    head: str
    balances: Mapping[str, int]
    open_holds: int
    faults: tuple[str, ...]


def audit(url: str, heads: Iterable[str] = ()) -> Report:
    """Read the book at `url` as it stands now, and check it all, `heads` published earlier too.

    It may be read-only, or be written meanwhile. LedgerError if it cannot be opened.
    """
    book = _Audit(dict(_head(text) for text in heads))
    with reading(url) as read:
        try:
            book.read(read)
        except Unreadable as error:
            book.faults.append(f"after entry {book.seq}: {error}")
    tally = book.replay.tally.items()
    return Report(
        entries=book.count,
        head=f"{book.seq}:{book.hash.hex()}",
        balances={n.removeprefix("account/"): a for n, a in tally if n.startswith("account/")},
        open_holds=len(book.replay.holds),
        faults=tuple(book.faults),
    )


class _Audit:
    def __init__(self, heads: dict[int, str]) -> None:
        self.faults: list[str] = []
        self.seq = self.count = 0
        self.hash = bytes(32)
        self.replay = Replay(self._wrong)
        self._heads = {seq: digest for seq, digest in heads.items() if seq}

    def read(self, read: Read) -> None:
        for row in read(_ROWS):
            self._chain(*row)
            self.replay.take(*row)
        self.faults += [f"the id {id} is there {n} times" for id, n in read(_TWICE)]
        for seq in self._heads:
            self.faults.append(f"the book ends at {self.seq}, before the published head {seq}")
        head = [(seq, bytes(digest)) for seq, digest in read("SELECT seq, hash FROM head")]
        self._same("head", dict(head), {self.seq: self.hash})
        opened = {id: (end, _json(body)) for id, end, body in read("SELECT * FROM open_hold")}
        holds = self.replay.holds.items()
        self._same("open_hold", opened, {id: (hold["until"], hold) for id, hold in holds})
        keys = {digest: _json(body) for digest, body in read("SELECT * FROM api_key")}
        self._same("api_key", keys, self.replay.keys)
        tallies = {name: amount for name, amount in read("SELECT * FROM tally") if amount}
        self._same("tally", tallies, {name: n for name, n in self.replay.tally.items() if n})

    def _same(self, table: str, is_: dict[Any, Any], should: dict[Any, Any]) -> None:
        wrong = sorted(key for key in {*is_, *should} if is_.get(key) != should.get(key))
        self.faults += [f"{table} {key}: not what the entries say" for key in wrong]

    def _wrong(self, what: str) -> None:
        self.faults.append(f"entry {self.seq}: {what}")

    def _chain(self, seq: int, id: str, at: int, body: str, digest: bytes) -> None:
        if seq != self.seq + 1:
            self.faults.append(f"entries {self.seq + 1} to {seq - 1} are missing")
        self.seq, self.count = seq, self.count + 1
        row = f"{seq}\0{id}\0{at}\0{body}".encode()
        if hashlib.sha256(self.hash + row).digest() != bytes(digest):
            self._wrong("its hash does not follow from the entry before and what it says")
        self.hash = bytes(digest)
        if self._heads.pop(seq, digest.hex()) != digest.hex():
            self._wrong("it is not the one that was published as head")


def _json(text: str) -> object:
    try:
        return json.loads(text)
    except ValueError:
        return None


def _head(text: str) -> tuple[int, str]:
    seq, _, digest = text.partition(":")
    if not seq.isdecimal() or len(digest) != 64:
        raise LedgerError(f"{text} is no head: SEQ:HASH, as `bicameral ledger head` prints it")
    return int(seq), digest.lower()
