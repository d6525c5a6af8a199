"""One client connection: uvicorn's, with limits on how slow, long and greedy a client may be.

A request must arrive within `header_timeout` plus a second for every 16 KiB it sent; a client that
does not read is dropped after `write_timeout`, with at most 64 KiB waiting for it; one that hangs
up has its request cancelled at once. One sweep over all connections does the timing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from bicameral.config import ServerOptions
from bicameral.server.errors import Fault

MAX_HEAD = 64 * 1024
SLOWEST = 16 * 1024


class Connection(HttpToolsProtocol):
    """HTTP/1.1 of one client."""

    def __init__(self, options: ServerOptions, **uvicorn: Any) -> None:
        super().__init__(**uvicorn)
        self._options = options
        self._running: tuple[Any, asyncio.Task[None]] | None = None
        self._arriving: float | None = None
        self._in_head = True
        self._received = 0
        self._ignored = 0
        self._stuck: float | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A connection that says nothing is a request that does not arrive."""
        super().connection_made(transport)
        self._expect()

    def connection_lost(self, exc: Exception | None) -> None:
        """Cancel what still runs for this client."""
        super().connection_lost(exc)
        self._arriving = self._stuck = None
        if self._running is not None:
            cycle, task = self._running
            if not cycle.response_complete:
                cycle.disconnected = True
                task.cancel()

    def data_received(self, data: bytes) -> None:
        """Count what arrives; a head without end is refused, and so is what never is a request."""
        if self._arriving is None:
            self._expect()
        self._received += len(data)
        super().data_received(data)
        if self._in_head and self._arriving is not None and self._received > MAX_HEAD:
            self._refuse(431, "the request's headers are too long")

    def on_message_begin(self) -> None:
        """The first byte of a request."""
        super().on_message_begin()
        self._expect()

    def on_headers_complete(self) -> None:
        """The body follows."""
        self._in_head = False
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """A body that nobody wants any more is skipped, but not for ever."""
        if self.cycle.response_complete:
            self._ignored += len(body)
            if self._ignored > self._options.max_body:
                self.transport.abort()
            return
        super().on_body(body)

    def on_message_complete(self) -> None:
        """The request is here."""
        self._arriving = None
        super().on_message_complete()

    def pause_writing(self) -> None:
        """The client reads more slowly than it is written to."""
        super().pause_writing()
        self._stuck = self.loop.time()

    def resume_writing(self) -> None:
        """It reads again."""
        super().resume_writing()
        self._stuck = None

    def sweep(self, now: float) -> None:
        """Drop the client if it has kept us waiting too long."""
        if self._stuck is not None and now - self._stuck > self._options.write_timeout:
            self.transport.abort()
        elif self._arriving is not None and not self._busy():
            patience = self._options.header_timeout + self._received / SLOWEST
            if now - self._arriving > patience:
                self._refuse(408, "the request did not arrive in time")

    def send_400_response(self, msg: str) -> None:
        """What cannot be parsed as HTTP."""
        self._refuse(400, "the request is not valid HTTP")

    def _unsupported_upgrade_warning(self) -> None:
        """An upgrade we do not offer is ignored, as HTTP says, without a word."""

    def _start_asgi_task(self, cycle: Any, app: Any) -> None:
        task = self.loop.create_task(cycle.run_asgi(app))
        self._running = cycle, task
        task.add_done_callback(self.tasks.discard)
        self.tasks.add(task)

    def _expect(self) -> None:
        self._arriving = self.loop.time()
        self._in_head = True
        self._received = self._ignored = 0

    def _busy(self) -> bool:
        """An answer is being written, or reading waits for us."""
        cycle = self._running[0] if self._running else None
        writing = cycle is not None and cycle.response_started and not cycle.response_complete
        return writing or self.flow.read_paused

    def _refuse(self, status: int, why: str) -> None:
        if self.transport.is_closing():
            return
        self._arriving = None
        if not self._busy():
            self.transport.write(_response(status, why))
        self.transport.close()


def sweep(connections: Iterable[Any], now: float) -> None:
    """Drop every client that has kept us waiting too long."""
    for connection in tuple(connections):
        connection.sweep(now)


def _response(status: int, why: str) -> bytes:
    body = Fault(status=status, message=why, code="bad_http").body()
    head = b"content-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n"
    return STATUS_LINE[status] + head % len(body) + body
