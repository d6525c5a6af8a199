"""Typed edges between two processes, on one host or on two.

A message is a small body and handles of tensors that lie in the sender's pool. Its memory stays
as it is until the reader releases the message, which is the acknowledgement. What was not
acknowledged when a reader died waits, in its old place and with its old number, for the next one.
What a dead sender had sent stays readable.

A link neither blocks nor has a thread: `pump` it when `fileno` is readable and at least once a
`beat`, or use `take`, which waits. See `channel` for what it runs over.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterable, Sequence
from contextlib import suppress
from secrets import token_hex
from typing import Self

from bicameral.callosum import greeting
from bicameral.callosum.channel import Channel, Gone, Ready
from bicameral.callosum.edge import Counts, Edge, Incoming, Outgoing
from bicameral.callosum.packets import (
    PACKET,
    Ack,
    Beat,
    Bye,
    Hello,
    Item,
    Kind,
    LinkError,
    Packet,
    decode,
    encode,
)
from bicameral.callosum.pool import Loan, Pool
from bicameral.callosum.received import Received, blobs, in_place, landed
from bicameral.callosum.segment import SegmentError
from bicameral.callosum.tensor import Tensor, TensorError


class Link:
    """One end. It sends on the edges of `sends` and takes the kinds of `takes`, no others.

    Tensors are sent from `pool`. This end says something every `beat` seconds, if it is pumped; a
    peer that is silent for `misses` of its own beats counts as lost. One without a beat, or that
    has not greeted yet, is lost only with its process or its connection.
    """

    def __init__(
        self,
        *,
        sends: Iterable[Edge] = (),
        takes: Iterable[Kind] = (),
        pool: Pool | None = None,
        beat: float | None = 1.0,
        misses: int = 5,
    ) -> None:
        self.session = token_hex(8)
        self.lost = "not connected"
        self._pool = pool
        self._beat = beat
        self._misses = misses
        self._out = {edge.kind: Outgoing(edge, self._free) for edge in sends}
        self._in: dict[Kind, Incoming] = {kind: Incoming(kind) for kind in takes}
        self._inbox: deque[Received] = deque()
        self._acks: deque[Ack] = deque()
        self._channel: Channel | None = None
        self._ready: Ready | None = None
        self._peer: Hello | None = None
        self._knows = ""
        self._memory = memoryview(b"")
        self._skew = self._heard = self._said = 0.0
        self._spoke = False
        self._lock = threading.RLock()
        if pool:
            pool.attach(self)

    # --- the connection ------------------------------------------------------------------------

    def attach(self, channel: Channel) -> None:
        """Greet a peer, the first or the next; make sure that a lost one has let go before.

        A peer that was lost by its silence may still read what it holds: end its process first.
        """
        with self._lock:
            self._lose("another peer is attached")
            self._channel, self.lost = channel, ""
            self._heard = self._said = time.monotonic()
            self._ready = Ready(channel)
            out, into = self._out.values(), self._in.values()
            hello = greeting.hello(self.session, self._knows, self._pool, self._beat, out, into)
            try:
                channel.hello(encode(hello), self._pool.fd if self._pool else -1)
            except Gone:
                self._lose("the peer is gone")

    def close(self, why: str = "") -> None:
        """Say good-bye and let go of everything, also of what was not acknowledged."""
        with self._lock:
            self._part(why)
            self._drop(why or "closed")
            self._memory = memoryview(b"")
            self.forget()
            if self._pool:
                self._pool.detach(self)
            self._pool = None

    def forget(self) -> None:
        """Give up, and count as dropped, what a lost peer did not acknowledge."""
        with self._lock:
            if self._channel:
                raise LinkError("the peer may be reading what it has not released: close the link")
            for edge in self._out.values():
                edge.forget()

    def fileno(self) -> int:
        """What to poll; -1 while there is no connection."""
        return self._channel.fileno() if self._channel else -1

    @property
    def greeted(self) -> bool:
        """The peer has said who it is."""
        return self._peer is not None

    @property
    def paused(self) -> bool:
        """What comes next waits for room in the pool: do not poll for input."""
        return self._channel is not None and self._channel.paused

    # --- sending -------------------------------------------------------------------------------

    def send(
        self,
        kind: Kind,
        body: bytes = b"",
        tensors: Sequence[Tensor] = (),
        *,
        deadline: float | None = None,
        timeout: float = 0.0,
    ) -> int:
        """Queue a message and give its number; it takes over one hold on each tensor.

        `deadline` is a time.monotonic() reading: later it is not worth delivering. LinkError if
        there is no such edge, or `block` finds no room within `timeout` seconds; then nothing was
        taken over. A body beyond 4 KB is copied into the pool, which is counted.
        """
        edge = self._out.get(kind)
        if edge is None:
            raise LinkError(f"this link has no edge for {kind}; it has {', '.join(self._out)}")
        with self._lock:
            if edge.full or 2 * len(edge.flying) >= edge.edge.in_flight:
                self._until_room(edge, time.monotonic() + timeout)
            seq = edge.add(body, tuple(tensors), deadline, self._pool, timeout)
            self._write()
            return seq

    def _until_room(self, edge: Outgoing, deadline: float) -> None:
        self.pump()
        while edge.full:
            left = deadline - time.monotonic()
            if left <= 0:
                raise LinkError(
                    f"{len(edge.waiting)} messages wait on the edge {edge.edge.kind} already; "
                    "its reader is too slow" + (f" ({self.lost})" if self.lost else "")
                )
            self.wait(left)
            self.pump()

    # --- receiving -----------------------------------------------------------------------------

    def receive(self) -> Received | None:
        """The next message, if one is there. Release it, or its memory stays on lease."""
        with self._lock:
            if not self._inbox:
                self._guard(one=True)
            while self._inbox:
                message = self._inbox.popleft()
                edge = self._in[message.kind]
                if message.deadline is not None and time.monotonic() > message.deadline:
                    edge.counts.expired += 1
                    message.release()
                    continue
                edge.handed(message.age)
                return message
        return None

    def take(self, timeout: float) -> Received | None:
        """Wait for the next message; None if there is none, LinkError once the peer is lost."""
        deadline = time.monotonic() + timeout
        while (message := self.receive()) is None:
            if self.lost:
                raise LinkError(self.lost)
            left = deadline - time.monotonic()
            if left <= 0:
                return None
            self.wait(left)
        return message

    def wait(self, timeout: float) -> None:
        """Block until there is something to pump, a beat is due or `timeout` seconds are over."""
        seconds = min(timeout, self._beat / 2) if self._beat else timeout
        if self._ready is None or self.paused:
            time.sleep(min(seconds, 0.01))
        else:
            self._ready.wait(seconds, writing=self.blocked)

    @property
    def blocked(self) -> bool:
        """The connection has no room: pump again when it can be written to."""
        with self._lock:
            if self._channel is None or self._peer is None:
                return False
            now = time.monotonic()
            ready = any(edge.next(now) for edge in self._out.values())
            return ready or bool(self._acks) or self._channel.backlog

    def pump(self) -> None:
        """Read what has come, send what may go, beat. Never blocks."""
        with self._lock:
            self._guard(one=False)

    def stats(self) -> dict[str, Counts]:
        """The counts of every edge, `out KIND` and `in KIND`."""
        with self._lock:
            out = {f"out {kind}": edge.snapshot() for kind, edge in self._out.items()}
            return out | {f"in {kind}": edge.snapshot() for kind, edge in self._in.items()}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # --- inside --------------------------------------------------------------------------------

    def _guard(self, *, one: bool) -> None:
        """One turn; whatever the peer does wrong ends the connection, not the caller."""
        channel = self._channel
        try:
            while channel and self._read(channel):
                if one and self._inbox:
                    return  # the rest can wait until somebody does not
            self._write()
            self._live()
        except Gone:
            self._lose("the peer is gone")
        except (LinkError, TensorError, SegmentError) as error:
            self._part(str(error))
            self._lose(str(error))

    def _read(self, channel: Channel) -> bool:
        """One packet; False if none is there."""
        if self._peer is None:
            first = channel.greeted()
            if first:
                self._meet(channel, *first)
            return first is not None
        found = channel.receive()
        if found is None:
            return False
        self._spoke = True
        try:
            self._handle(decode(found[0]), found[1])
        except (LinkError, TensorError):
            if found[1]:
                found[1].give_back()
            raise
        return self._channel is channel

    def _handle(self, packet: Packet, loan: Loan | None) -> None:
        match packet:
            case Item():
                self._arrive(packet, loan)
            case Ack(kind, seq) if kind in self._out and not loan:
                self._out[kind].acknowledged(seq)
            case Bye(why) if not loan:
                self._lose(why or "the peer has closed the link")
            case Beat() if not loan:
                pass
            case _:
                raise LinkError("the peer sent a packet that has no place here")

    def _meet(self, channel: Channel, data: memoryview, fd: int) -> None:
        """Learn who is there, and settle what became of messages of an earlier connection."""
        hello, self._memory = greeting.meet(data, fd, self._out, self._in)
        for mine in hello.sends:
            self._in[mine.kind].meet(mine.in_flight, anew=hello.session != self._knows)
        for had in hello.had if hello.knows == self.session else ():
            if had.kind in self._out:
                self._out[had.kind].known(had)
        self._knows = hello.session
        self._skew = time.monotonic() - hello.clock if channel.carries else 0.0
        self._peer, self._spoke = hello, True

    def _arrive(self, item: Item, loan: Loan | None) -> None:
        edge = self._in.get(item.kind)
        if edge is None or self._peer is None:
            raise LinkError(f"the peer sent {item.kind}, which is not taken here")
        if not edge.fresh(item.seq):
            self._again(item, edge, loan)
            return
        memory = self._memory
        if self._channel and self._channel.carries:
            item = landed(item, loan.seal() if loan else None)
            edge.copied(item)
            memory = self._pool.memory if self._pool else memory
        else:
            item = in_place(item, self._peer.pool, len(memory))
        received = Received(item, memory, self._skew, loan, self._knows, self._released)
        self._inbox.append(received)

    def _again(self, item: Item, edge: Incoming, loan: Loan | None) -> None:
        """A message that came before: acknowledged once more, unless its reader still has it."""
        if loan:
            loan.give_back()
        if item.seq not in edge.held:
            self._acks.append(Ack(item.kind, item.seq))

    def _released(self, message: Received) -> None:
        with self._lock:
            if message.loan:
                message.loan.give_back()
            if message.session != self._knows:
                return  # its sender is no more
            self._in[message.kind].held.discard(message.seq)
            if self._channel:
                self._acks.append(Ack(message.kind, message.seq))
                self._write()

    def _write(self) -> None:
        """Acknowledge, then send what is due, as far as there is room."""
        if self._channel is None or self._peer is None:
            return
        try:
            if not self._channel.flush():
                return
            while self._acks:
                if not self._post(self._acks[0]):
                    return
                self._acks.popleft()
            for edge in self._out.values():
                while item := edge.next(time.monotonic()):
                    if not self._post(item):
                        return
                    edge.sent(item)
            if self._beat and time.monotonic() - self._said >= self._beat:
                self._post(Beat())
        except Gone:
            # What the peer sent before it died is still to be read; the end of it comes after.
            self._acks.clear()

    def _post(self, packet: Packet) -> bool:
        channel, pool = self._channel, self._pool
        data = encode(packet)
        if channel is None or len(data) > PACKET:
            raise LinkError(f"a packet of {len(data)} bytes is too long")
        follows: list[memoryview] = []
        if pool and channel.carries and isinstance(packet, Item):
            follows = blobs(packet, pool)
        if not channel.send(data, follows):
            return False
        self._said = time.monotonic()
        return True

    def _live(self) -> None:
        """Lose a peer that should have said something."""
        beat, now = self._peer.beat if self._peer else None, time.monotonic()
        if self._spoke:
            self._heard, self._spoke = now, False
        silent = now - self._heard
        if beat and silent > beat * self._misses and not self.paused and self._channel:
            self._drop(f"the peer has said nothing for {silent:.1f} s")

    def _part(self, why: str) -> None:
        """Tell the peer why, if it listens."""
        if self._channel and self._peer:
            with suppress(Gone):
                self._post(Bye(why[:200]))

    def _lose(self, why: str) -> None:
        """The peer has let go: what it did not acknowledge waits for the next."""
        self._drop(why)
        for edge in self._out.values():
            edge.requeue()

    def _drop(self, why: str) -> None:
        """End the connection. A silent peer may still be reading, so its leases stay."""
        if self._channel:
            self._channel.close()
            self.lost = why
        self._channel = self._peer = self._ready = None
        self._acks.clear()

    def _free(self, tensor: Tensor) -> None:
        if self._pool:
            self._pool.release(tensor)
