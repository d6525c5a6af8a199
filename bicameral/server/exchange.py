"""One HTTP exchange: its id, its body read under a cap, its answer or error, its log line.

The chat and the embeddings route are bare ASGI callables over this; it holds no request objects
and no middleware, which is what keeps a plain request cheap.
"""

from __future__ import annotations

import asyncio
import os
import re
import time
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from functools import lru_cache
from types import TracebackType
from typing import Any, Self

from msgspec.structs import replace

from bicameral.config import ServerOptions
from bicameral.errors import BicameralError, Broken
from bicameral.ledger.till import Till
from bicameral.server import idempotency, log
from bicameral.server.access import Access
from bicameral.server.encode import error_event
from bicameral.server.errors import Refused, fault
from bicameral.server.metrics import Metrics
from bicameral.types import Done, Event, Request, Usage

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]

JSON = (b"content-type", b"application/json")
EVENTS = (b"content-type", b"text/event-stream; charset=utf-8")
NO_CACHE = (b"cache-control", b"no-cache")
NO_BUFFER = (b"x-accel-buffering", b"no")
GONE = 499
_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")


class Desk:
    """What all exchanges share: who may ask, how many at once, what is counted."""

    def __init__(self, options: ServerOptions, metrics: Metrics | None = None) -> None:
        self.options = options
        self.access = Access(options)
        self.metrics = metrics or Metrics()
        self.repeats = idempotency.Repeats()
        self.stopping = False
        self.tasks: set[asyncio.Task[Any]] = set()

    def admit(self) -> None:
        """Raise Refused if the server is full, this exchange included, or going down."""
        if self.stopping:
            raise _stopping()
        if len(self.tasks) > self.options.max_streams:
            raise Refused(
                429,
                f"{self.options.max_streams} requests are being answered already; try again soon",
                "too_many_requests",
                headers=[(b"retry-after", b"1")],
            )

    def cancel(self) -> None:
        """End every exchange that still runs with an error event."""
        self.stopping = True
        for task in self.tasks:
            task.cancel()


class Exchange:
    """One request and what is answered; the head goes out with the first bytes of the body."""

    def __init__(self, desk: Desk, route: str, scope: Scope, receive: Receive, send: Send) -> None:
        self._desk = desk
        self._route = route
        self._receive = receive
        self._send = send
        self.headers: Mapping[bytes, bytes] = dict(scope["headers"])
        self.id = request_id(self.headers)
        self.began = time.perf_counter()
        self.caller = ""
        self.model = ""
        self.by = ""
        self.status = 0
        self.usage: Usage | None = None
        self._spoke = False
        self._ended = False
        self._turn: idempotency.Turn | None = None
        self._booking = ""

    async def __aenter__(self) -> Self:
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("an exchange runs in a task")
        self._task = task
        self._desk.tasks.add(task)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool:
        """Answer our own errors, count and log; what is unexpected flies on."""
        try:
            if isinstance(error, BicameralError):
                self._desk.metrics.failed(error)
                await self.fail(error)
            elif isinstance(error, asyncio.CancelledError):
                await self._cancelled()
            elif error is not None and not self.status:
                self.status = 500
        finally:
            self._desk.tasks.discard(self._task)
            if self._turn is not None:
                self._turn.end(self.status == 200 and self._ended, self.model, self.by)
            self._book()
        return error is None or isinstance(error, BicameralError | asyncio.CancelledError)

    def admit(self) -> None:
        """Raise Refused if this client may not ask, or may not ask now."""
        self.caller = self._desk.access.check(self.headers)
        self._desk.admit()

    async def body(self, cap: int | None = None) -> bytes:
        """The whole request body; Refused if it is encoded or longer than `cap`, or max_body."""
        cap = self._desk.options.max_body if cap is None else cap
        _check_headers(self.headers, cap)
        message = await self._receive()
        if not message.get("more_body") and message["type"] == "http.request":
            return _capped(message["body"], cap)
        body = bytearray()
        while message["type"] == "http.request":
            body += message["body"]
            _capped(body, cap)
            if not message.get("more_body"):
                return bytes(body)
            message = await self._receive()
        raise asyncio.CancelledError  # the client went away

    async def repeated(self, body: bytes, till: Till | None) -> bool:
        """Whether this request, which has an Idempotency-Key, is a repeat, and so is answered.

        Refused if it is the wrong time, or the wrong request, for that key.
        """
        key = self.headers[idempotency.KEY]
        repeats, who = self._desk.repeats, idempotency.named(key, self.caller)
        kept = repeats.begin(who, await idempotency.asking(self._route, self.headers, body))
        if kept is None:
            self._turn = idempotency.Turn(repeats, who)
            self._send = self._turn.recording(self._send)
            self._booking = await self._turn.booking(till.book) if till else ""
            return False
        self.model, self.by = kept.model, kept.by
        await self._head(200, [*kept.headers, idempotency.REPLAYED])
        await self._last(kept.body)
        return True

    def booked(self, request: Request) -> Request:
        """`request` under the booking that its Idempotency-Key stands for, if it has one."""
        return replace(request, booking=self._booking) if self._booking else request

    async def whole(self, body: bytes, headers: Headers) -> None:
        """Answer 200 with a whole body."""
        await self._head(200, [*headers, (b"content-length", b"%d" % len(body))])
        await self._last(body)

    async def write(self, data: bytes, headers: Headers) -> None:
        """The next bytes of a stream; `headers` count the first time only."""
        if not self.status:
            await self._head(200, headers)
        await self._send({"type": "http.response.body", "body": data, "more_body": True})

    async def end(self) -> None:
        """Close a stream."""
        await self._last(b"")

    async def fail(self, error: BicameralError) -> None:
        """A status and an error body; in a stream that has begun: an error event, then the end."""
        if self._ended:
            return
        told = fault(error)
        body = told.body()
        if self.status:
            self.status = told.status
            await self._last(error_event(body))
            return
        headers = [JSON, *told.headers, (b"content-length", b"%d" % len(body))]
        await self._head(told.status, headers)
        await self._last(body)

    async def _cancelled(self) -> None:
        """The client hung up, or the server goes down and says so."""
        if self._desk.stopping:
            await self.fail(_stopping())
        elif not self._ended:
            self.status = GONE

    async def _head(self, status: int, headers: Headers) -> None:
        self.status = status
        headers.append((b"x-request-id", self.id))
        headers += self._desk.access.quota(self.caller)
        if self.by:
            headers.append((b"x-bicameral-model", header_safe(self.by)))
        await self._send({"type": "http.response.start", "status": status, "headers": headers})

    async def _last(self, body: bytes) -> None:
        self._ended = True
        await self._send({"type": "http.response.body", "body": body, "more_body": False})

    def saw(self, event: Event) -> None:
        """Take down what is counted of each event."""
        if not self._spoke:
            self._spoke = True
            seconds = time.perf_counter() - self.began
            self._desk.metrics.first[self._route, self.model].add(seconds)
        self.by = event.by or self.by
        if isinstance(event, Done):
            self.usage = event.usage

    def over(self) -> None:
        """The events have ended; Broken if no Done was among them."""
        if self.usage is None:
            raise Broken(self.model, "the answer has no end")

    def _book(self) -> None:
        metrics, seconds = self._desk.metrics, time.perf_counter() - self.began
        metrics.requests[self._route, self.model, self.status] += 1
        metrics.seconds[self._route, self.model].add(seconds)
        line: dict[str, Any] = {
            "request": self.id.decode(),
            "route": self._route,
            "model": self.model,
            "by": self.by,
            "status": self.status,
            "seconds": round(seconds, 6),
        }
        if self.usage is not None:
            metrics.used(self.model, self.usage)
            line["prompt_tokens"] = self.usage.prompt_tokens
            line["completion_tokens"] = self.usage.completion_tokens
        log.request(line)


def request_id(headers: Mapping[bytes, bytes]) -> bytes:
    """The client's own id if it is harmless, else a new one."""
    given = headers.get(b"x-request-id")
    if given is not None and _ID.fullmatch(given):
        return given
    return b"req_" + os.urandom(12).hex().encode()


@lru_cache(maxsize=256)
def header_safe(name: str) -> bytes:
    """`name` without what a header may not hold."""
    return "".join(c if "!" <= c <= "~" else "_" for c in name).encode()


def _check_headers(headers: Mapping[bytes, bytes], cap: int) -> None:
    encoding = headers.get(b"content-encoding", b"identity").strip().lower()
    if encoding not in (b"identity", b""):
        raise Refused(
            415, "send the body without Content-Encoding", "unsupported_encoding",
            headers=[(b"accept-encoding", b"identity")],
        )  # fmt: skip
    length = headers.get(b"content-length", b"0")
    if length.isdigit() and int(length[:20]) > cap:
        raise _too_large(cap)


def _capped(body: Any, cap: int) -> bytes:
    if len(body) > cap:
        raise _too_large(cap)
    return body  # type: ignore[no-any-return]


def _too_large(cap: int) -> Refused:
    return Refused(413, f"the body is longer than {cap} bytes", "body_too_large")


def _stopping() -> Refused:
    return Refused(
        503, "the server is shutting down", "shutting_down",
        headers=[(b"retry-after", b"5"), (b"connection", b"close")],
    )  # fmt: skip
