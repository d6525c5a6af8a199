"""Writes the journal beside the answers: a thread takes entries from a bounded queue, in batches.

No answer ever waits for it or fails with it. What it cannot write it counts and drops, says so
once in the log, and tries again after a while.
"""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future
from hashlib import blake2b
from queue import Empty, Full, Queue

from msgspec import Struct
from msgspec.structs import replace

from bicameral.config import JournalOptions
from bicameral.decision import Asked
from bicameral.errors import JournalError
from bicameral.journal.store import Entry, Failure, Store, home

log = logging.getLogger("bicameral.journal")

WAITING = 2000
_BATCH = 500
_LINGER = 0.2
_RETRY = 30.0


class _Rating(Struct, frozen=True):
    id: str
    score: float
    caller: str | None
    done: Future[bool]


class Journal:
    """The journal of one Brain; `options` are the config's, enabled."""

    def __init__(self, options: JournalOptions) -> None:
        self.options = options
        self.fault = ""
        self.dropped = 0
        self._queue: Queue[Entry | _Rating | None] = Queue(WAITING)
        self._hurry = threading.Event()
        self._thread: threading.Thread | None = None
        self._store: Store | None = None
        self._retry_at = 0.0
        self._secret = secrets.token_bytes(16)
        self._full = False

    def note(self, entry: Entry) -> None:
        """Keep `entry`, soon; never waits, and drops it if too many are waiting already."""
        try:
            self._put(entry)
        except Full:
            self.dropped += 1
            if not self._full:
                self._full = True
                log.warning("the journal cannot keep up, so decisions are dropped")

    def rate(self, answer_id: str, score: float, caller: str | None) -> Future[bool]:
        """Score an answer, after all that was noted before; the last score counts.

        False if `caller` was given no such answer. JournalError if it cannot be written.
        """
        rating = _Rating(answer_id, score, caller, Future())
        self._hurry.set()
        try:
            self._put(rating)
        except Full:
            rating.done.set_exception(JournalError("the journal cannot keep up; try again"))
        return rating.done

    @property
    def started(self) -> bool:
        """Whether there was anything to write yet."""
        return self._thread is not None

    def close(self) -> None:
        """Write what waits and end."""
        if self._thread is not None and self._thread.is_alive():
            self._hurry.set()
            self._queue.put(None)
            self._thread.join()

    def _put(self, item: Entry | _Rating) -> None:
        if self._thread is None or not self._thread.is_alive():
            self._thread = threading.Thread(target=self._work, name="journal", daemon=True)
            self._thread.start()
        self._queue.put_nowait(item)

    # --- in the thread ---------------------------------------------------------------------------

    def _work(self) -> None:
        open_ = True
        while open_:
            first = self._queue.get()
            if isinstance(first, Entry):
                self._hurry.wait(_LINGER)
            self._hurry.clear()
            batch = [first, *self._more()]
            self._full = False
            open_ = None not in batch
            self._take(batch)
        self._shut()

    def _more(self) -> list[Entry | _Rating | None]:
        more: list[Entry | _Rating | None] = []
        while len(more) < _BATCH:
            try:
                more.append(self._queue.get_nowait())
            except Empty:
                break
        return more

    def _take(self, batch: list[Entry | _Rating | None]) -> None:
        """In the order they came, so that a rating finds the answer it is for."""
        entries: list[Entry] = []
        for item in batch:
            if isinstance(item, Entry):
                entries.append(item)
            elif item is not None:
                self._add(entries)
                entries = []
                self._rate(item)
        self._add(entries)

    def _add(self, entries: list[Entry]) -> None:
        if not entries:
            return
        if self.fault and time.monotonic() < self._retry_at:
            self.dropped += len(entries)
            return
        try:
            self._opened().add(self._sealed(entries), self.options.keep)
        except (*Failure, JournalError) as error:
            self.dropped += len(entries)
            self._failed(error)
        else:
            self._mended()

    def _sealed(self, entries: Sequence[Entry]) -> list[Entry]:
        """With keys that nobody can test a guess at an answer against; equal ones stay equal."""

        def seal(asked: Asked) -> Asked:
            if asked.key is None:
                return asked
            key = blake2b(asked.key.encode(), key=self._secret, digest_size=8)
            return replace(asked, key=key.hexdigest())

        return [
            replace(
                entry,
                decisions=tuple(
                    replace(decision, asked=tuple(map(seal, decision.asked)))
                    for decision in entry.decisions
                ),
            )
            for entry in entries
        ]

    def _rate(self, rating: _Rating) -> None:
        if not rating.done.set_running_or_notify_cancel():
            return
        try:
            found = self._opened().rate(rating.id, rating.score, rating.caller)
        except (*Failure, JournalError) as error:
            self._failed(error)
            found = False
        if found:
            self._mended()
        if self.fault:  # the answer may be one of those that could not be kept
            rating.done.set_exception(JournalError("the journal cannot be written now"))
        else:
            rating.done.set_result(found)

    def _opened(self) -> Store:
        if self._store is not None and self._store.moved:
            self._shut()
        if self._store is None:
            self._store = Store(home(self.options))
        return self._store

    def _shut(self) -> None:
        if self._store is not None:
            self._store.close()
            self._store = None

    def _failed(self, error: Exception) -> None:
        """Say it once; the file may be mended or moved away while we run."""
        self._shut()
        self._retry_at = time.monotonic() + _RETRY
        if str(error) != self.fault:
            self.fault = str(error)
            log.error(
                "the journal %s cannot be written: %s. Answers go on without it; mend it, or move "
                "the file away and a new one is made",
                self.options.path or "in the state directory",
                error,
            )

    def _mended(self) -> None:
        if self.fault:
            self.fault = ""
            log.info("the journal is written again; %d decisions were not kept", self.dropped)
