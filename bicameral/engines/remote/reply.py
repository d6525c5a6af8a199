"""A remote answer being read: the wait for each piece is bounded, and it can be cut at any time."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import aiohttp
from msgspec import Struct
from multidict import CIMultiDictProxy

from bicameral.errors import Broken, ModelError, Timeout

if TYPE_CHECKING:
    from bicameral.engines.remote.upstream import Upstream

_DRAIN = 0.2
_TICK = 0.002  # timers of an event loop are that coarse


class Late(Exception):
    """Set on a response's reader by the watch."""


class Span(Struct, frozen=True):
    """The time a call has, by time.monotonic(); `hurried`: the deadline leaves less than we do."""

    began: float
    end: float
    hurried: bool

    @property
    def seconds(self) -> float:
        """How long that is."""
        return max(0.0, self.end - self.began)


class Reply:
    """A 200 whose first bytes have come. Read to the end, or `close` to cut the call off."""

    def __init__(
        self,
        upstream: Upstream,
        response: aiohttp.ClientResponse,
        first: bytes,
        *,
        streamed: bool,
        span: Span,
        probe: bool,
    ) -> None:
        self.first = first
        self._upstream = upstream
        self._response = response
        self._span = span
        self._end = span.end
        self._probe = probe
        o = upstream.options
        self._pause = o.timeout_between_tokens if streamed else o.timeout_total
        self._due: float | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()

    @property
    def headers(self) -> CIMultiDictProxy[str]:
        """The response's headers."""
        return self._response.headers

    async def read(self) -> bytes:
        """The next bytes; empty at the end. Timeout, or Broken if the answer was cut."""
        content = self._response.content
        if content.at_eof():
            return b""
        self._watch(self._pause)
        try:
            return await content.readany()
        except Late as exc:
            if time.monotonic() >= self._end - _TICK:
                raise Timeout(self._upstream.name, "total", self._span.seconds) from exc
            raise Timeout(self._upstream.name, "between tokens", self._pause) from exc
        except (aiohttp.ClientError, OSError) as exc:
            raise Broken(self._upstream.name, "the answer was cut off midway") from exc
        finally:
            self._due = None

    def rest(self) -> bytes:
        """What has come and was not read yet, without waiting for more."""
        content = self._response.content
        return b"" if content.exception() else content.read_nowait()

    async def drain(self) -> None:
        """Wait a moment for the end, so that the connection can serve again."""
        self._end = min(self._end, time.monotonic() + _DRAIN)
        try:
            while await self.read():
                pass
        except ModelError:
            return  # the answer is complete; `close` drops the connection

    def alive(self) -> None:
        """The first sense has been made: if this call is the breaker's probe, others may follow."""
        if self._probe:
            self.good()

    def good(self) -> None:
        """The answer was whole."""
        self._probe = False
        self._upstream.breaker.good()

    def bad(self, error: ModelError) -> None:
        """The answer broke."""
        self._upstream.note(error, probe=self._probe, hurried=self._span.hurried)
        self._probe = False

    def close(self) -> None:
        """Let go of the connection; unless the answer was read to its end, cut it."""
        if self._timer is not None:
            self._timer.cancel()
        self._upstream.breaker.gone(self._probe)
        self._response.close()

    def _watch(self, seconds: float) -> None:
        """Interrupt the read that follows if it is late; one timer serves many reads."""
        self._due = min(time.monotonic() + seconds, self._end)
        if self._timer is None or self._timer.when() > self._due + 1:
            self._arm(self._due)

    def _arm(self, due: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        delay = max(0.0, due - time.monotonic())
        self._timer = self._loop.call_later(delay, self._ring)

    def _ring(self) -> None:
        self._timer = None
        if self._due is None:
            return  # nobody waits: the client is slow, not the server
        if time.monotonic() < self._due - _TICK:
            self._arm(self._due)
        else:
            self._response.content.set_exception(Late())
