"""A message as its reader has it: arrays to look at in place, until it is released."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Self

from msgspec.structs import replace

from bicameral.callosum.packets import Item, Kind
from bicameral.callosum.pool import Loan, Pool
from bicameral.callosum.space import ALIGN, whole
from bicameral.callosum.tensor import Tensor, TensorError, check, lay, measure

if TYPE_CHECKING:
    from numpy import ndarray

_PAD = memoryview(bytes(ALIGN))


class Received:
    """One message. Its arrays and its body are good until `release`, which acknowledges it.

    `seq` counts the messages of its kind, so a gap is what was dropped on the way. `again`: an
    earlier reader had it and died before it released it. `deadline` is by this host's monotonic
    clock.
    """

    __slots__ = (
        *("_done", "_memory", "again", "body", "born", "deadline", "kind", "loan", "seq"),
        *("session", "tensors"),
    )

    def __init__(
        self,
        item: Item,
        memory: memoryview,
        skew: float,
        loan: Loan | None,
        session: str,
        done: Callable[[Received], None],
    ) -> None:
        self.kind: Kind = item.kind
        self.seq = item.seq
        self.again = item.again
        self.born = item.born + skew
        self.deadline = None if item.deadline is None else item.deadline + skew
        self.tensors = item.tensors[:-1] if item.long else item.tensors
        self.body: bytes | memoryview = item.body
        if item.long:
            self.body = _bytes(memory, item.tensors[-1])
        self.loan = loan
        self.session = session
        self._memory = memory
        self._done: Callable[[Received], None] | None = done

    @property
    def age(self) -> float:
        """Seconds since it was given to send."""
        return time.monotonic() - self.born

    def array(self, index: int = 0) -> ndarray:
        """A tensor of the message, where it lies; it cannot be written to."""
        return lay(self._memory, self.tensors[index])

    def raw(self, index: int = 0) -> memoryview:
        """The bytes of a tensor of the message, where they lie."""
        return _bytes(self._memory, self.tensors[index])

    def release(self) -> None:
        """Acknowledge it: its memory may be used again. The second time does nothing."""
        done, self._done = self._done, None
        if done:
            done(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


def blobs(item: Item, pool: Pool) -> list[memoryview]:
    """The bytes of the item's tensors, each padded so that the next begins aligned."""
    found = []
    for tensor in item.tensors:
        found += [pool.raw(tensor), _PAD[: whole(tensor.nbytes) - tensor.nbytes]]
    return found


def in_place(item: Item, pool: int, size: int) -> Item:
    """The item, once its handles are found to lie in the peer's pool; else TensorError."""
    for tensor in item.tensors:
        if tensor.pool != pool:
            raise TensorError("the peer sent a handle into another pool than its own")
        check(tensor, size)
    return item


def landed(item: Item, at: Tensor | None) -> Item:
    """The item with its handles pointing to where their bytes have landed; else TensorError."""
    moved, offset = [], at.offset if at else 0
    for tensor in item.tensors:
        if tensor.nbytes != measure(tensor.shape, tensor.dtype):
            raise TensorError("the peer sent a handle that does not fit its array")
        if at:
            moved.append(replace(tensor, pool=at.pool, offset=offset, lease=at.lease))
        offset += whole(tensor.nbytes)
    if offset - (at.offset if at else 0) != (at.nbytes if at else 0):
        raise TensorError("the peer sent other bytes than its handles tell")
    return replace(item, tensors=tuple(moved))


def _bytes(memory: memoryview, tensor: Tensor) -> memoryview:
    return memory[tensor.offset : tensor.offset + tensor.nbytes]
