"""Who has which bytes of a segment: a first-fit allocator that joins what is given back.

First fit keeps to low addresses, so that a steady stream reuses the same warm blocks.
"""

from __future__ import annotations

from bisect import bisect_left

ALIGN = 64  # a cache line, and the widest vector registers


class Space:
    """Blocks of `size` bytes; not for two threads at once."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.used = 0
        self._free: list[tuple[int, int]] = [(0, size)]
        self._taken: dict[int, int] = {}

    def take(self, nbytes: int) -> int | None:
        """The offset of a block that holds `nbytes`; None if no free block is long enough."""
        need = whole(nbytes)
        for index, (offset, length) in enumerate(self._free):
            if length >= need:
                self._cut(index, offset, length, need)
                return offset
        return None

    def _cut(self, index: int, offset: int, length: int, need: int) -> None:
        if length == need:
            del self._free[index]
        else:
            self._free[index] = (offset + need, length - need)
        self._taken[offset] = need
        self.used += need

    def give(self, offset: int) -> None:
        """Take a block back and join it with its free neighbours."""
        length = self._taken.pop(offset)
        self.used -= length
        index = bisect_left(self._free, (offset, 0))
        if index < len(self._free) and self._free[index][0] == offset + length:
            length += self._free.pop(index)[1]
        if index and sum(self._free[index - 1]) == offset:
            before, more = self._free[index - 1]
            self._free[index - 1] = (before, more + length)
        else:
            self._free.insert(index, (offset, length))

    @property
    def longest(self) -> int:
        """Bytes of the longest free block."""
        return max((length for _, length in self._free), default=0)


def whole(nbytes: int) -> int:
    """`nbytes` rounded up to whole blocks; an empty array has one as well."""
    return max(ALIGN, -(-nbytes // ALIGN) * ALIGN)
