"""One pre-allocated shared segment, lent out block by block; the limit is hard.

A writer borrows a block (`loan`), fills the array in place and seals it into a Tensor. A sealed
block stays until every hold on it is released, then it is lent out again. Only the process that
made the pool writes to it or keeps its books; others map it read-only (see `link`).
"""

from __future__ import annotations

import os
import secrets
import select
import threading
import time
from typing import TYPE_CHECKING, Protocol, Self

from msgspec import Struct

from bicameral.callosum import segment
from bicameral.callosum.space import Space, whole
from bicameral.callosum.tensor import Tensor, TensorError, lay, measure, numpy
from bicameral.errors import BicameralError

if TYPE_CHECKING:
    from numpy import ndarray
    from numpy.typing import ArrayLike

_SLICE = 0.01  # seconds between looks at holds that other threads may have released


class PoolFull(BicameralError):
    """There is no room now, or never; the message says how much was asked for."""


class Source(Protocol):
    """Something that may release holds when it is pumped: a link."""

    def fileno(self) -> int:
        """What to poll; -1: nothing."""
        ...

    def pump(self) -> None:
        """Read what has come, without blocking."""
        ...


class PoolStats(Struct, frozen=True, kw_only=True):
    """Bytes and counts since the pool was made; `copies` are arrays that were copied into it."""

    limit: int
    used: int
    peak: int
    leases: int
    loans: int
    waits: int
    refused: int
    copies: int
    bytes_copied: int


class Pool:
    """Shared memory of `limit` bytes. Any thread may use it."""

    def __init__(self, limit: int) -> None:
        if limit < 1:
            raise PoolFull("a pool needs at least one byte")
        self.limit = whole(limit)
        self.id = secrets.randbits(63)
        self.fd, mapped = segment.create(self.limit)
        self._buffer = memoryview(mapped)
        self.memory = self._buffer.toreadonly()
        self._space = Space(self.limit)
        self._holds: dict[int, list[int]] = {}  # lease -> [offset, holds]
        self._sources: list[Source] = []
        self._freed = threading.Condition(threading.RLock())
        self._next = 0
        self._peak = self._waits = self._refused = self._copies = self._bytes = 0

    def loan(self, shape: tuple[int, ...], dtype: str, *, timeout: float = 0.0) -> Loan:
        """A block to fill in place; waits up to `timeout` seconds for room, then PoolFull."""
        nbytes = measure(shape, dtype)
        offset = self._room(nbytes, timeout)
        with self._freed:
            self._next += 1
            self._holds[self._next] = [offset, 1]
            return Loan(self, Tensor(dtype, shape, self.id, offset, nbytes, self._next))

    def put(self, array: ArrayLike, *, timeout: float = 0.0) -> Tensor:
        """A copy of any array, counted; where you can, fill a loan instead."""
        source = numpy().asanyarray(array)
        with self.loan(source.shape, source.dtype.name, timeout=timeout) as loan:
            loan.array[...] = source
            self.copied(loan.tensor.nbytes)
            return loan.seal()

    def put_bytes(self, data: bytes, *, timeout: float = 0.0) -> Tensor:
        """A copy of `data` as an array of uint8, counted; needs no numpy."""
        with self.loan((len(data),), "uint8", timeout=timeout) as loan:
            loan.raw[:] = data
            self.copied(len(data))
            return loan.seal()

    def view(self, tensor: Tensor) -> ndarray:
        """The array of one of this pool's handles, to be read only, while a hold on it lasts."""
        self._lease(tensor)
        return lay(self.memory, tensor)

    def raw(self, tensor: Tensor) -> memoryview:
        """The bytes of one of this pool's handles, to be read only, while a hold on it lasts."""
        self._lease(tensor)
        return self.memory[tensor.offset : tensor.offset + tensor.nbytes]

    def hold(self, tensor: Tensor) -> Tensor:
        """One more hold; each needs a release of its own."""
        with self._freed:
            self._lease(tensor)[1] += 1
        return tensor

    def release(self, tensor: Tensor) -> None:
        """Let go of one hold; after the last, the block is lent out again."""
        with self._freed:
            lease = self._lease(tensor)
            lease[1] -= 1
            if not lease[1]:
                del self._holds[tensor.lease]
                self._space.give(lease[0])
                self._freed.notify_all()

    def copied(self, nbytes: int) -> None:
        """Book one copy of `nbytes` into the pool."""
        with self._freed:
            self._copies += 1
            self._bytes += nbytes

    def attach(self, source: Source) -> None:
        """While a loan waits for room, pump `source`, whose peer may release holds."""
        self._sources.append(source)

    def detach(self, source: Source) -> None:
        """Pump `source` no longer."""
        self._sources.remove(source)

    def stats(self) -> PoolStats:
        """How full it is and what it has done."""
        with self._freed:
            return PoolStats(
                limit=self.limit,
                used=self._space.used,
                peak=self._peak,
                leases=len(self._holds),
                loans=self._next,
                waits=self._waits,
                refused=self._refused,
                copies=self._copies,
                bytes_copied=self._bytes,
            )

    def close(self) -> None:
        """Let go of the segment; arrays and peers that still map it keep it alive."""
        if self.fd >= 0:
            os.close(self.fd)
        self.fd = -1
        self._buffer = self.memory = memoryview(b"")

    def _lease(self, tensor: Tensor) -> list[int]:
        lease = self._holds.get(tensor.lease)
        if lease is None or tensor.pool != self.id:
            raise TensorError("this handle was released already, or is of another pool")
        return lease

    def _room(self, nbytes: int, timeout: float) -> int:
        if self.fd < 0:
            raise PoolFull("the pool is closed")
        if whole(nbytes) > self.limit:
            raise PoolFull(f"{nbytes} bytes never fit a pool of {self.limit}; raise its limit")
        deadline = time.monotonic() + timeout
        waited = False
        while (offset := self._take(nbytes)) is None:
            left = deadline - time.monotonic()
            if left <= 0:
                self._refused += 1
                raise PoolFull(self._why(nbytes, timeout))
            self._waits += not waited
            waited = True
            self._wait(min(left, _SLICE))
        return offset

    def _take(self, nbytes: int) -> int | None:
        with self._freed:
            offset = self._space.take(nbytes)
            self._peak = max(self._peak, self._space.used)
            return offset

    def _wait(self, seconds: float) -> None:
        """Until a peer or another thread may have released something."""
        poll = select.poll()
        sources = {source.fileno(): source for source in self._sources}
        for fd in sources.keys() - {-1}:
            poll.register(fd, select.POLLIN)
        if not sources:
            with self._freed:
                self._freed.wait(seconds)
            return
        for fd, _ in poll.poll(seconds * 1000):
            sources[fd].pump()

    def _why(self, nbytes: int, timeout: float) -> str:
        with self._freed:
            return (
                f"no room for {nbytes} bytes within {timeout:g} s: {self._space.used} of "
                f"{self.limit} are on lease to {len(self._holds)} holders, the longest free block "
                f"has {self._space.longest}; release what was read, or raise the limit"
            )


class Loan:
    """A block that is being filled; sealed, or given back when its `with` block is left."""

    __slots__ = ("_array", "_open", "_pool", "tensor")

    def __init__(self, pool: Pool, tensor: Tensor) -> None:
        self._pool = pool
        self._open = True
        self._array: ndarray | None = None
        self.tensor = tensor

    @property
    def array(self) -> ndarray:
        """The array to fill in place."""
        if self._array is None:
            self._array = lay(self._pool._buffer, self.tensor)
        return self._array

    @property
    def raw(self) -> memoryview:
        """The same memory as plain bytes."""
        start = self.tensor.offset
        return self._pool._buffer[start : start + self.tensor.nbytes]

    def seal(self) -> Tensor:
        """The handle, with one hold on it. Write to the array no more."""
        self._open = False
        if self._array is not None:
            self._array.flags.writeable = False
        return self.tensor

    def give_back(self) -> None:
        """End the loan, or the hold that `seal` gave."""
        self._open = False
        self._pool.release(self.tensor)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._open:
            self.give_back()
