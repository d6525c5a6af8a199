"""A Model on a remote server: one loop that asks, streams, and cuts the call when nobody listens.

A dialect says how a request is written and how the answer is read; see openai.py, anthropic.py.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
from contextlib import suppress
from typing import Protocol

from msgspec import Struct

from bicameral.engines.remote.reply import Reply
from bicameral.engines.remote.upstream import Upstream
from bicameral.engines.told import Told
from bicameral.errors import ModelError
from bicameral.model import admit
from bicameral.types import Card, Done, Event, Request


class Sink(Protocol):
    """Turns the bytes of one answer into events. It may raise a ModelError at any point."""

    @property
    def complete(self) -> bool:
        """The answer said that it ends here, so there is nothing more to wait for."""
        ...

    def take(self, chunk: bytes) -> Iterable[Event]:
        """The events that `chunk` completes; none of them is the Done."""
        ...

    def end(self) -> Iterable[Event]:
        """What is left, the Done last; Broken if the answer is not whole."""
        ...

    def so_far(self) -> Done:
        """The Done as it would be if the answer ended here."""
        ...


class Call(Struct, frozen=True):
    """One request as it goes out; `sink` makes what reads its answer from the headers of it."""

    path: str
    body: bytes
    streamed: bool
    sink: Callable[[Mapping[str, str]], Sink]


class Remote:
    """A Model on a server, spoken to in the dialect of `write`."""

    def __init__(self, card: Card, upstream: Upstream, write: Callable[[Request], Call]) -> None:
        self._card = card
        self._upstream = upstream
        self._write = write

    @property
    def card(self) -> Card:
        """What the options say it is."""
        return self._card

    def run(self, request: Request) -> AsyncGenerator[Event]:
        """Ask the server; retried and guarded by the upstream until the first bytes come."""
        return self.telling(request, Told())

    async def telling(self, request: Request, told: Told) -> AsyncGenerator[Event]:
        """The same; `told` gets what was reported however it ends, and the tries that were lost."""
        admit(self._card, request)
        call = self._write(request)
        reply = await self._upstream.post(
            call.path,
            call.body,
            streamed=call.streamed,
            deadline=request.deadline,
            lost=told.lost,
        )
        sink = call.sink(reply.headers)
        events: Iterable[Event] = ()
        try:
            chunk = reply.first
            while chunk:
                events = sink.take(chunk)
                for event in events:
                    reply.alive()
                    yield event
                if sink.complete:
                    await reply.drain()
                    break
                chunk = await reply.read()
            for event in sink.end():
                if isinstance(event, Done):
                    reply.good()
                    told.done = event
                yield event
        except ModelError as error:
            reply.bad(error)
            raise
        finally:
            if told.done is None:
                told.done = _so_far(sink, events, reply)
            reply.close()


def _so_far(sink: Sink, events: Iterable[Event], reply: Reply) -> Done:
    """What was reported in all that has come, read or not: the usage is the last to come."""
    with suppress(ModelError):
        for _ in events:
            pass
        for _ in sink.take(reply.rest()):
            pass
    return sink.so_far()
