"""The header Idempotency-Key: whoever repeats a request is given its answer, and pays once.

An answer that came whole, with 200, is kept for a day and given again to the byte, header
`idempotent-replayed: true`, without asking a model. Nothing else is kept: after an error, or when
the client hung up, the same key runs the request anew, as a booking of its own; what the first try
consumed until then is charged as well. Answers are in memory only, as users' text is not written
to disk; what outlives the process is the book, which knows the keys that were answered.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from typing import Any

from msgspec import Struct

from bicameral.ledger.book import Book
from bicameral.server.errors import Refused

Headers = tuple[tuple[bytes, bytes], ...]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

KEY = b"idempotency-key"
REPLAYED = (b"idempotent-replayed", b"true")
DAY = 86_400.0
TRIES = 100
_PRINTABLE = re.compile(rb"[ -~]{1,255}")
_BOUNDARY = re.compile(rb'multipart/form-data;.*?boundary=(?:"([^"]+)"|([^\s;,]+))', re.I)
_LARGE = 1 << 20
# Headers of the exchange, not of the answer: a repeat has its own.
_ITS_OWN = (b"x-request-id", b"x-bicameral-model", b"x-ratelimit-")
_FINAL = [(b"x-should-retry", b"false")]


class Kept(Struct, frozen=True):
    """An answer as it was given; `model` and `by` are for the log."""

    model: str
    by: str
    headers: Headers
    body: bytes


class Repeats:
    """Which keys are being answered, which were, and the answers: at most `room` bytes of them.

    An answer longer than `each` is not kept, and of the keys the last `keys` only. `who` is a
    caller's key, `asked` what was asked under it.
    """

    def __init__(
        self,
        *,
        room: int = 64 << 20,
        each: int = 4 << 20,
        keys: int = 100_000,
        seconds: float = DAY,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.each = each
        self.used = 0
        self._room = room
        self._keys = keys
        self._seconds = seconds
        self._clock = clock
        self._running: dict[bytes, bytes] = {}
        self._ended: OrderedDict[bytes, tuple[bytes, float]] = OrderedDict()
        self._kept: OrderedDict[bytes, Kept] = OrderedDict()
        self._timer: asyncio.TimerHandle | None = None

    def begin(self, who: bytes, asked: bytes) -> Kept | None:
        """The answer to give again; None: it has to be asked, until `end` says that it is over.

        Refused if the key stands for something else, is being answered, or its answer has gone.
        """
        self._expire()
        running, ended = self._running.get(who), self._ended.get(who)
        before = running or (ended and ended[0])
        if before is None:
            self._running[who] = asked
            return None
        if before != asked:
            raise other()
        if running is not None:
            raise _busy()
        if (kept := self._kept.get(who)) is None:
            raise answered()
        return kept

    def end(self, who: bytes, whole: bool, kept: Kept | None) -> None:
        """It is over: `whole` if its answer came whole; None if that is not to be kept."""
        asked = self._running.pop(who)
        if not whole:
            return
        self._ended[who] = asked, self._clock()
        if len(self._ended) > self._keys:
            self._forget()
        if kept is not None:
            self._keep(who, kept)
        if self._timer is None:
            self._wait()

    def _keep(self, who: bytes, kept: Kept) -> None:
        self._kept[who] = kept
        self.used += _size(kept)
        while self.used > self._room:
            self.used -= _size(self._kept.popitem(last=False)[1])

    def _forget(self) -> None:
        who, _ = self._ended.popitem(last=False)
        if (kept := self._kept.pop(who, None)) is not None:
            self.used -= _size(kept)

    def _expire(self) -> None:
        oldest = self._clock() - self._seconds
        while self._ended and next(iter(self._ended.values()))[1] <= oldest:
            self._forget()

    def _wait(self) -> None:
        """No text stays longer because nobody asks any more."""
        self._expire()
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(self._seconds, self._wait) if self._ended else None


class Turn:
    """One request that has a key, from its claim to its end; it takes down what is answered."""

    def __init__(self, repeats: Repeats, who: bytes) -> None:
        self._repeats = repeats
        self._who = who
        self._headers: Headers = ()
        self._parts: list[bytes] = []
        self._size = 0

    async def booking(self, book: Book) -> str:
        """The booking to run it under; Refused if the book says that it has been answered.

        Derived from the key, so that a repeat finds it in the book after a restart.
        """
        first = self._who.hex()[:32]
        ids = (first, *(f"{first}/{number}" for number in range(2, TRIES + 1)))
        if (id := await book.unused(ids)) is None:
            raise answered()
        return id

    def recording(self, send: Send) -> Send:
        """`send`, and what goes out is taken down, if it is not too much to be kept."""

        async def taken(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                self._headers = tuple(
                    h for h in message["headers"] if not h[0].startswith(_ITS_OWN)
                )
            else:
                self._take(message["body"])
            await send(message)

        return taken

    def _take(self, data: bytes) -> None:
        self._size += len(data)
        if self._size > self._repeats.each:
            self._parts.clear()
        else:
            self._parts.append(data)

    def end(self, whole: bool, model: str, by: str) -> None:
        """It is over: `whole` if its answer came whole and is none of an error."""
        kept = None
        if whole and self._size <= self._repeats.each:
            kept = Kept(model, by, self._headers, b"".join(self._parts))
        self._repeats.end(self._who, whole, kept)


def named(key: bytes, caller: str) -> bytes:
    """What `caller`'s `key` is known by here; Refused if it is none."""
    if not _PRINTABLE.fullmatch(key):
        raise Refused(
            400, "Idempotency-Key: give 1 to 255 printable ASCII characters",
            "invalid_idempotency_key", param="Idempotency-Key",
        )  # fmt: skip
    return hashlib.sha256(b"\0".join((caller.encode(), key))).digest()


async def asking(route: str, headers: Mapping[bytes, bytes], body: bytes) -> bytes:
    """A digest of all that decides the answer: the route, our own headers, the body."""
    kind = headers.get(b"content-type", b"")
    ours = sorted((k, v) for k, v in headers.items() if k.startswith(b"x-bicameral-"))
    parts = [route.encode(), *(k + b":" + v for k, v in ours)]
    if len(body) > _LARGE:
        return await asyncio.to_thread(_digest, parts, kind, body)
    return _digest(parts, kind, body)


def _digest(parts: Sequence[bytes], kind: bytes, body: bytes) -> bytes:
    """A client draws a new boundary for each time that it sends the same form."""
    if found := _BOUNDARY.match(kind):
        body = body.replace(b"--" + (found[1] or found[2]), b"--")
    digest = hashlib.sha256()
    for part in (*parts, body):
        digest.update(b"%d:" % len(part))
        digest.update(part)
    return digest.digest()


def _size(kept: Kept) -> int:
    return len(kept.body) + sum(len(k) + len(v) for k, v in kept.headers) + 512


def other() -> Refused:
    """The key was used for something else."""
    return Refused(
        422, "this Idempotency-Key came with another request before: use a new key",
        "idempotency_key_reused", param="Idempotency-Key", headers=_FINAL,
    )  # fmt: skip


def _busy() -> Refused:
    return Refused(
        409, "the request of this Idempotency-Key is still being answered: try again soon",
        "idempotency_key_in_use", param="Idempotency-Key", headers=[(b"retry-after", b"1")],
    )  # fmt: skip


def answered() -> Refused:
    """There is nothing left to give again, and to ask again would be charged again."""
    return Refused(
        409,
        "the request of this Idempotency-Key was run, and charged, before, and its answer is not "
        "kept: use a new key to ask, and pay, again",
        "idempotency_answer_gone", param="Idempotency-Key", headers=_FINAL,
    )  # fmt: skip
