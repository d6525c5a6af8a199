"""Who holds which conversation: its member has the prefix in its cache, so switching costs.

A conversation is known by a digest of its messages; no text is kept. The memory is bounded: the
conversation unused for longest is forgotten first.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from hashlib import blake2b

from msgspec.structs import replace

from bicameral.left.policy import Estimate
from bicameral.types import Card, Message, Request

_KEPT = 10_000
_BYTES_PER_TOKEN = 4
# Fields that say whose conversation it is: equal words of two users are two conversations.
_WHOSE = ("user", "safety_identifier", "prompt_cache_key")


class Sticky:
    """Remembers, per conversation, the member that answered last.

    Two conversations of one user with the same words so far share an entry, the later answer's;
    what is in that member's cache serves both.
    """

    def __init__(self, kept: int = _KEPT) -> None:
        self._kept = kept
        self._by: OrderedDict[bytes, str] = OrderedDict()

    def warm(self, request: Request) -> str:
        """The member that gave the last assistant turn of this conversation; "" if unknown."""
        last = _last_turn(request)
        return "" if last is None else self._by.get(_digest(request, request.messages[:last]), "")

    def note(self, request: Request, by: str) -> None:
        """`by` answered `request`."""
        key = _digest(request, request.messages)
        self._by[key] = by
        self._by.move_to_end(key)
        while len(self._by) > self._kept:
            self._by.popitem(last=False)

    @staticmethod
    def bound(request: Request) -> bool:
        """Whether the request brings the result of a tool call: no safe point to switch."""
        return bool(request.messages) and request.messages[-1].role == "tool"


def warmed(
    estimates: Mapping[str, Estimate], card: Card, request: Request, reads: float | None = None
) -> Mapping[str, Estimate]:
    """`estimates` with what the member of `card` saves because it holds the conversation.

    It reads the turns so far from its cache: at its price for cached tokens, and in no time, which
    is known if `reads` says how many prompt tokens a second it reads. So a switch has to gain
    more than the cache it gives up is worth.
    """
    estimate, last = estimates.get(card.name), _last_turn(request)
    if estimate is None or last is None:
        return estimates
    tokens = sum(len(m.text.encode()) for m in request.messages[: last + 1]) // _BYTES_PER_TOKEN
    cost, seconds, price = estimate.cost, estimate.seconds, card.price
    if cost is not None and price is not None and price.cached_input is not None:
        saved = tokens * (price.input - price.cached_input) // 1_000_000
        cost = max(0, cost - max(0, saved))
    if seconds is not None and reads:
        seconds = max(0.0, seconds - tokens / reads)
    return {**estimates, card.name: replace(estimate, cost=cost, seconds=seconds)}


def _last_turn(request: Request) -> int | None:
    turns = [i for i, m in enumerate(request.messages) if m.role == "assistant"]
    return turns[-1] if turns else None


def _digest(request: Request, messages: Sequence[Message]) -> bytes:
    whose = [str(request.extra.get(field, "")) for field in _WHOSE]
    # repr, as it takes any text: a lone surrogate has no UTF-8.
    shown = repr((whose, tuple(messages)))
    return blake2b(shown.encode("utf-8", "backslashreplace"), digest_size=16).digest()
