"""How packets travel: whole through the kernel on one host, as a byte stream between two.

On one host only packets travel and arrays stay where they lie. Between hosts the bytes of the
arrays follow their packet, raw, straight into a pool of the receiver: one copy.
"""

from __future__ import annotations

import os
import select
import socket
import struct
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

from bicameral.callosum.packets import PACKET, LinkError
from bicameral.callosum.pool import Loan, Pool, PoolFull

_HEAD = struct.Struct("!IQ")  # bytes of the packet, bytes of the arrays after it


class Gone(Exception):
    """The other end has closed, or its process has died."""


class Channel(Protocol):
    """What a link needs of a connection. Nothing blocks; Gone once the other end is."""

    def fileno(self) -> int:
        """What to poll."""
        ...

    def hello(self, packet: bytes, fd: int) -> None:
        """Send the first packet, with a descriptor where the channel can pass one."""
        ...

    def greeted(self) -> tuple[memoryview, int] | None:
        """The peer's first packet and its descriptor or -1; None: not yet."""
        ...

    def send(self, packet: bytes, blobs: Sequence[memoryview]) -> bool:
        """Send a packet, or take none of it: False while there is no room."""
        ...

    def flush(self) -> bool:
        """Send on what was taken; False while some of it is left."""
        ...

    def receive(self) -> tuple[memoryview, Loan | None] | None:
        """The next packet and the arrays that followed it; None: not yet, or no room for them.

        The packet is good until the next call.
        """
        ...

    @property
    def backlog(self) -> bool:
        """Some of what was taken is not sent yet."""
        ...

    @property
    def paused(self) -> bool:
        """What comes next waits for room in the pool; polling for input would spin."""
        ...

    @property
    def carries(self) -> bool:
        """The arrays' bytes travel with their packet."""
        ...

    def close(self) -> None:
        """Close the connection."""
        ...


class Ready:
    """Waits for a channel."""

    def __init__(self, channel: Channel) -> None:
        self._fd = channel.fileno()
        self._mask = select.POLLIN
        self._poll = select.poll()
        self._poll.register(self._fd, self._mask)

    def wait(self, seconds: float, *, writing: bool) -> None:
        """Until it can be read, or written to if that is wanted, or the time is over."""
        mask = select.POLLIN | (select.POLLOUT if writing else 0)
        if mask != self._mask:
            self._mask = mask
            self._poll.modify(self._fd, mask)
        self._poll.poll(seconds * 1000)


def pair() -> tuple[socket.socket, socket.socket]:
    """Two connected ends for processes of one host; pass one on to a child by its fileno."""
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)


class Local:
    """Packets of one host. The kernel keeps each whole, so none is ever half there."""

    carries = False
    paused = False
    backlog = False

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self._sock = sock
        self._buffer = memoryview(bytearray(PACKET))

    def fileno(self) -> int:
        """The socket's."""
        return self._sock.fileno()

    def hello(self, packet: bytes, fd: int) -> None:
        """With the pool's descriptor, if there is one."""
        with _as_gone():
            socket.send_fds(self._sock, [packet], [fd] if fd >= 0 else [])

    def greeted(self) -> tuple[memoryview, int] | None:
        """With the descriptor that came along."""
        try:
            with _as_gone():
                data, fds, _, _ = socket.recv_fds(self._sock, PACKET, 4)
        except BlockingIOError:
            return None
        for extra in fds[1:]:
            os.close(extra)
        if not data:
            raise Gone
        return memoryview(data), fds[0] if fds else -1

    def send(self, packet: bytes, blobs: Sequence[memoryview]) -> bool:
        """In one piece."""
        try:
            self._sock.send(packet)
        except BlockingIOError:
            return False
        except OSError as error:
            raise Gone from error
        return True

    def flush(self) -> bool:
        """Nothing is ever left."""
        return True

    def receive(self) -> tuple[memoryview, Loan | None] | None:
        """In one piece; no arrays follow."""
        try:
            count = self._read()
        except BlockingIOError:
            return None
        except OSError as error:
            raise Gone from error
        if not count:
            raise Gone
        return self._buffer[:count], None

    def _read(self) -> int:
        try:
            return self._sock.recv_into(self._buffer)
        except ConnectionResetError:
            # The peer died with packets of ours unread. The kernel says so once, before it gives
            # out what the peer had sent.
            return self._sock.recv_into(self._buffer)

    def close(self) -> None:
        """Close the socket."""
        self._sock.close()


class Stream:
    """Packets over a byte stream such as TCP; arrays land in `pool`.

    A length that no honest peer sends is refused before anything is reserved for it.
    """

    carries = True

    def __init__(self, sock: socket.socket, pool: Pool) -> None:
        sock.setblocking(False)
        if sock.family in (socket.AF_INET, socket.AF_INET6):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._sock = sock
        self._pool = pool
        self._out: deque[memoryview] = deque()
        self._head = _Filling(memoryview(bytearray(_HEAD.size)))
        self._packet: _Filling | None = None
        self._blob: _Filling | None = None
        self._loan: Loan | None = None
        self._follows = 0
        self.paused = False

    def fileno(self) -> int:
        """The socket's."""
        return self._sock.fileno()

    def hello(self, packet: bytes, fd: int) -> None:
        """A stream passes no descriptors."""
        self.send(packet, ())

    def greeted(self) -> tuple[memoryview, int] | None:
        """A stream passes no descriptors."""
        found = self.receive()
        if found and found[1]:
            raise LinkError("the peer's first packet is no greeting")
        return (found[0], -1) if found else None

    def send(self, packet: bytes, blobs: Sequence[memoryview]) -> bool:
        """Taken whole, sent as far as it goes."""
        if not self.flush():
            return False
        head = _HEAD.pack(len(packet), sum(map(len, blobs)))
        self._out += (memoryview(head + packet), *filter(len, blobs))
        self.flush()
        return True

    @property
    def backlog(self) -> bool:
        """The socket's buffer was full."""
        return bool(self._out)

    def flush(self) -> bool:
        """As much as the socket takes."""
        while self._out:
            try:
                with _as_gone():
                    sent = self._sock.send(self._out[0])
            except BlockingIOError:
                return False
            self._out[0] = self._out[0][sent:]
            if not self._out[0]:
                self._out.popleft()
        return True

    def receive(self) -> tuple[memoryview, Loan | None] | None:
        """As much as has come; the arrays in one loan."""
        if not self._fill(self._head):
            return None
        if self._packet is None:
            self._packet = self._measured()
        if not self._fill(self._packet) or not self._reserve():
            return None
        if self._blob and not self._fill(self._blob):
            return None
        return self._whole(self._packet)

    def _measured(self) -> _Filling:
        length, self._follows = _HEAD.unpack(self._head.view)
        if not 0 < length <= PACKET:
            raise LinkError(f"the peer announced a packet of {length} bytes; at most {PACKET} go")
        if self._follows > self._pool.limit:
            raise LinkError(
                f"the peer announced {self._follows} bytes of arrays, the pool here has "
                f"{self._pool.limit}; raise its limit"
            )
        return _Filling(memoryview(bytearray(length)))

    def _reserve(self) -> bool:
        """Room for the arrays; False, and paused, until holds of the pool are released."""
        if not self._follows or self._blob:
            return True
        try:
            self._loan = self._pool.loan((self._follows,), "uint8")
        except PoolFull:
            self.paused = True
            return False
        self.paused = False
        self._blob = _Filling(self._loan.raw)
        return True

    def _whole(self, packet: _Filling) -> tuple[memoryview, Loan | None]:
        loan = self._loan
        self._head = _Filling(memoryview(bytearray(_HEAD.size)))
        self._packet = self._blob = self._loan = None
        return packet.view, loan

    def _fill(self, part: _Filling) -> bool:
        while part.got < len(part.view):
            try:
                with _as_gone():
                    count = self._sock.recv_into(part.view[part.got :])
            except BlockingIOError:
                return False
            if not count:
                raise Gone
            part.got += count
        return True

    def close(self) -> None:
        """Close the socket; what was coming in is given back."""
        if self._loan:
            self._loan.give_back()
            self._loan = None
        self._sock.close()


class _Filling:
    """Bytes that are still coming in."""

    __slots__ = ("got", "view")

    def __init__(self, view: memoryview) -> None:
        self.view = view
        self.got = 0


@contextmanager
def _as_gone() -> Iterator[None]:
    try:
        yield
    except BlockingIOError:
        raise
    except OSError as error:
        raise Gone from error
