"""Who holds which conversation: its member has the prefix in its cache, so switching costs.

A conversation is known by a digest of its messages; no text is kept. The memory is bounded: the
conversation unused for longest is forgotten first.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from hashlib import blake2b

import msgspec

from bicameral.types import Message, Request

_KEPT = 10_000
_encode = msgspec.msgpack.Encoder().encode


class Sticky:
    """Remembers, per conversation, the member that answered last."""

    def __init__(self, kept: int = _KEPT) -> None:
        self._kept = kept
        self._by: OrderedDict[bytes, str] = OrderedDict()

    def warm(self, request: Request) -> str:
        """The member that gave the last assistant turn of this conversation; "" if unknown."""
        turns = [i for i, m in enumerate(request.messages) if m.role == "assistant"]
        if not turns:
            return ""
        return self._by.get(_digest(request.messages[: turns[-1]]), "")

    def note(self, request: Request, by: str) -> None:
        """`by` answered `request`."""
        key = _digest(request.messages)
        self._by[key] = by
        self._by.move_to_end(key)
        while len(self._by) > self._kept:
            self._by.popitem(last=False)

    @staticmethod
    def bound(request: Request) -> bool:
        """Whether the request brings the result of a tool call: no safe point to switch."""
        return request.messages[-1].role == "tool"


def _digest(messages: Sequence[Message]) -> bytes:
    return blake2b(_encode(messages), digest_size=16).digest()
