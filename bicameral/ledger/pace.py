"""How fast a key may ask: requests and tokens a minute, in the memory of one process.

A sliding window: what was admitted within any 60 seconds is never more than the limit. Of a
request's tokens the most that it may take is counted when it is admitted, and what it took when
it has ended. One whose bound is unknown, or more than the limit, counts as all that is left, so
nothing runs beside it; only such a one may take more than the limit, and what it did counts.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import Literal

from msgspec import Struct

from bicameral.errors import LimitError
from bicameral.ledger.keys import Key

WINDOW = 60.0
_SOON = 1.0
Clock = Callable[[], float]
Counted = Literal["requests", "tokens"]


class Ticket:
    """A request that was let in, `at` seconds of the clock.

    `running` until its tokens are known, `counted` while it is in the window.
    """

    __slots__ = ("at", "counted", "key", "running", "tokens")

    def __init__(self, key: str, at: float, tokens: int) -> None:
        self.key = key
        self.at = at
        self.tokens = tokens
        self.running = True
        self.counted = True


class Quota(Struct, frozen=True, kw_only=True):
    """How a limit stands: what is left, and in how many seconds all of it will be."""

    limit: int
    remaining: int
    resets: float


class Pace:
    """The windows of all keys that have such limits; `clock` gives monotonic seconds."""

    def __init__(self, clock: Clock = time.monotonic) -> None:
        self._clock = clock
        self._windows: dict[str, _Window] = {}

    def admit(self, key: Key, tokens: int | None) -> Ticket | None:
        """Let in a request that may take so many tokens, None: nobody knows how many.

        LimitError says which limit is reached, and when it may be tried again. None if the key has
        none.
        """
        if not key.limits.paced:
            return None
        requests, limit = key.limits.requests_per_minute, key.limits.tokens_per_minute
        now = self._clock()
        window = self._windows.setdefault(key.id, _Window())
        window.forget(now - WINDOW)
        if requests is not None and len(window.tickets) >= requests:
            raise _too_fast(key, "requests", requests, window.frees("requests", requests, 1, now))
        reserved = 0 if limit is None else _reserved(tokens, limit, limit - window.tokens)
        if limit is not None and window.tokens + reserved > limit:
            raise _too_fast(key, "tokens", limit, window.frees("tokens", limit, reserved, now))
        return window.add(Ticket(key.id, now, reserved))

    def settle(self, ticket: Ticket, tokens: int | None) -> None:
        """Count what the request took; None: nobody knows, so what was reserved stays."""
        ticket.running = False
        window = self._windows.get(ticket.key)
        if tokens is None or window is None:
            return
        if ticket.counted:
            window.tokens += tokens - ticket.tokens
        ticket.tokens = tokens

    def quota(self, key: Key, counted: Counted) -> Quota | None:
        """How that limit of the key stands now; None if it has none."""
        limits = key.limits
        limit = limits.requests_per_minute if counted == "requests" else limits.tokens_per_minute
        if limit is None:
            return None
        now = self._clock()
        window = self._windows.get(key.id) or _Window()
        window.forget(now - WINDOW)
        used = window.used(counted)
        resets = window.tickets[-1].at + WINDOW - now if window.tickets else 0.0
        return Quota(limit=limit, remaining=max(0, limit - used), resets=max(0.0, resets))


class _Window:
    """The tickets of a key's last minute, the oldest first, and the sum of their tokens."""

    def __init__(self) -> None:
        self.tickets: deque[Ticket] = deque()
        self.tokens = 0

    def add(self, ticket: Ticket) -> Ticket:
        self.tickets.append(ticket)
        self.tokens += ticket.tokens
        return ticket

    def forget(self, before: float) -> None:
        while self.tickets and self.tickets[0].at <= before:
            ticket = self.tickets.popleft()
            ticket.counted = False
            self.tokens -= ticket.tokens

    def used(self, counted: Counted) -> int:
        return len(self.tickets) if counted == "requests" else self.tokens

    def frees(self, counted: Counted, limit: int, wanted: int, now: float) -> float:
        """Seconds until so much is free, sooner if it waits for what is only reserved."""
        over = self.used(counted) + wanted - limit
        for ticket in self.tickets:
            if counted == "tokens" and ticket.running:
                return _SOON
            over -= 1 if counted == "requests" else ticket.tokens
            if over <= 0:
                return max(0.0, ticket.at + WINDOW - now)
        return WINDOW


def _reserved(tokens: int | None, limit: int, left: int) -> int:
    if tokens is None or tokens > limit:
        return max(1, left)
    return tokens


def _too_fast(key: Key, counted: Counted, limit: int, seconds: float) -> LimitError:
    less = "; set max_tokens, or a lower one, to ask more at once" if counted == "tokens" else ""
    return LimitError(
        f"the key {key.name} may take {limit} {counted} a minute, and has: try again in "
        f"{max(0.1, seconds):.1f} s{less}",
        limit=f"{counted}_per_minute",
        resets=seconds,
        spent=False,
    )
