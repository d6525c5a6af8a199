"""One typed edge of a link: what waits, what is on its way, and what became of the rest."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import Annotated, Literal

from msgspec import Meta, Struct
from msgspec.structs import replace

from bicameral.callosum.packets import INLINE, TENSORS, Had, Item, Kind, LinkError
from bicameral.callosum.pool import Pool
from bicameral.callosum.tensor import Tensor

Policy = Literal["latest", "drop_oldest", "block"]
IN_FLIGHT = 4096  # messages of an edge, at most
_AGES = 256  # the last so many ages are kept for percentiles


class Edge(Struct, frozen=True, kw_only=True):
    """How a kind of message is sent: at most `in_flight` unacknowledged, at most `queue` waiting.

    When that is full `block` makes the sender wait or refuses it, `drop_oldest` gives up what has
    waited longest, and `latest` lets only the newest wait, whatever `queue` says.
    """

    kind: Kind
    policy: Policy = "block"
    queue: Annotated[int, Meta(ge=1)] = 64
    in_flight: Annotated[int, Meta(ge=1, le=IN_FLIGHT)] = 8


class Counts(Struct, kw_only=True):
    """What happened on one side of an edge; ages are seconds since the message was given to send.

    `entered`: accepted by send, or arrived. `left`: acknowledged, or handed to the reader.
    `missed` are sequence numbers a receiver never saw, dropped or expired on the other side.
    """

    entered: int = 0
    left: int = 0
    dropped: int = 0
    expired: int = 0
    resent: int = 0
    duplicates: int = 0
    missed: int = 0
    copies: int = 0
    bytes_copied: int = 0
    waiting: int = 0
    in_flight: int = 0
    age_p50: float | None = None
    age_p95: float | None = None


class Outgoing:
    """The sender's side. `free` releases the hold of a message on a tensor."""

    def __init__(self, edge: Edge, free: Callable[[Tensor], None]) -> None:
        self.edge = edge
        self.counts = Counts()
        self.waiting: deque[Item] = deque()
        self.flying: dict[int, Item] = {}
        self.seq = 0
        self._free = free
        self._room = 1 if edge.policy == "latest" else edge.queue

    @property
    def full(self) -> bool:
        """A sender has to wait."""
        return self.edge.policy == "block" and len(self.waiting) >= self._room

    def add(
        self,
        body: bytes,
        tensors: tuple[Tensor, ...],
        deadline: float | None,
        pool: Pool | None,
        timeout: float,
    ) -> int:
        """Let a message wait and number it; older ones make room as the policy says.

        A long body is copied into `pool`, for which it waits up to `timeout` seconds.
        """
        long = len(body) > INLINE
        _sendable(tensors, pool, long)
        if long and pool:
            tensors = (*tensors, pool.put_bytes(body, timeout=timeout))
            self.counts.copies += 1
            self.counts.bytes_copied += len(body)
            body = b""
        self.seq += 1
        now = time.monotonic()
        item = Item(self.edge.kind, self.seq, now, deadline, False, body, tensors, long)
        self.counts.entered += 1
        self.waiting.append(item)
        if len(self.waiting) > self._room:
            self._trim()
        return item.seq

    def next(self, now: float) -> Item | None:
        """The message to send now; what has expired is dropped on the way."""
        while self.waiting and len(self.flying) < self.edge.in_flight:
            item = self.waiting[0]
            if item.deadline is None or now <= item.deadline:
                return item
            self.waiting.popleft()
            self.counts.expired += 1
            self._let_go(item)
        return None

    def sent(self, item: Item) -> None:
        """The first that waited is on its way."""
        self.waiting.popleft()
        self.flying[item.seq] = item
        self.counts.resent += item.again

    def acknowledged(self, seq: int) -> None:
        """The receiver has released it."""
        item = self.flying.pop(seq, None)
        if item:
            self.counts.left += 1
            self._let_go(item)

    def requeue(self) -> None:
        """The receiver is gone: what it had not acknowledged waits again, in its old place."""
        again = [replace(item, again=True) for item in self.flying.values()]
        self.flying.clear()
        self.waiting.extendleft(reversed(again))
        self._trim()

    def known(self, had: Had) -> None:
        """The same receiver is back: what it has already need not be sent again."""
        while self.waiting and self.waiting[0].seq <= had.last:
            item = self.waiting.popleft()
            self.flying[item.seq] = item
            if item.seq not in had.held:
                self.acknowledged(item.seq)

    def snapshot(self) -> Counts:
        """The counts, with what is there now."""
        return replace(self.counts, waiting=len(self.waiting), in_flight=len(self.flying))

    def forget(self) -> None:
        """Give up everything that was not acknowledged."""
        self.requeue()
        while self.waiting:
            self._drop()

    def _trim(self) -> None:
        while self.edge.policy != "block" and len(self.waiting) > self._room:
            self._drop()

    def _drop(self) -> None:
        self.counts.dropped += 1
        self._let_go(self.waiting.popleft())

    def _let_go(self, item: Item) -> None:
        for tensor in item.tensors:
            self._free(tensor)


def _sendable(tensors: tuple[Tensor, ...], pool: Pool | None, long: bool) -> None:
    if pool is None and (tensors or long):
        raise LinkError("tensors and bodies beyond 4 KB need a pool: give the link one")
    for tensor in tensors:
        if pool and tensor.pool != pool.id:
            raise LinkError("a link sends tensors of its own pool only: put a copy into it")
    if len(tensors) > TENSORS:
        raise LinkError(f"a message has at most {TENSORS} tensors; send several")


class Incoming:
    """The receiver's side: which messages came, and which of them are not released yet."""

    def __init__(self, kind: Kind) -> None:
        self.kind: Kind = kind
        self.counts = Counts()
        self.last: int | None = None
        self.held: set[int] = set()
        self._most = 0
        self._ages: deque[float] = deque(maxlen=_AGES)

    def fresh(self, seq: int) -> bool:
        """Book an arrival; False if it came before."""
        if self.last is not None and seq <= self.last:
            self.counts.duplicates += 1
            return False
        if len(self.held) >= self._most:
            raise LinkError(f"the peer sent more than the {self._most} {self.kind} it may have out")
        self.counts.entered += 1
        self.counts.missed += 0 if self.last is None else seq - self.last - 1
        self.last = seq
        self.held.add(seq)
        return True

    def meet(self, in_flight: int, *, anew: bool) -> None:
        """A sender that may have so many out. `anew`: it is another, which counts from 1."""
        self._most = min(in_flight, IN_FLIGHT)
        if anew:
            self.last = None
            self.held.clear()

    def copied(self, item: Item) -> None:
        """The arrays of a message came by a byte stream: each was copied once."""
        self.counts.copies += len(item.tensors)
        self.counts.bytes_copied += sum(tensor.nbytes for tensor in item.tensors)

    def handed(self, age: float) -> None:
        """The reader has got one of that age."""
        self.counts.left += 1
        self._ages.append(age)

    def had(self) -> Had:
        """What to tell the sender when it comes back."""
        return Had(self.kind, self.last or 0, tuple(self.held))

    def snapshot(self) -> Counts:
        """The counts, with ages."""
        ages = sorted(self._ages)
        at = [ages[int(len(ages) * share)] if ages else None for share in (0.5, 0.95)]
        return replace(self.counts, in_flight=len(self.held), age_p50=at[0], age_p95=at[1])
