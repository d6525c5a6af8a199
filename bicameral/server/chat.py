"""POST /v1/chat/completions: read, decode, run, write. A bare ASGI callable."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing

from bicameral.brain import Brain
from bicameral.errors import NotFound, RequestError
from bicameral.server import decode, encode
from bicameral.server.exchange import (
    EVENTS,
    JSON,
    NO_BUFFER,
    NO_CACHE,
    Desk,
    Exchange,
    Headers,
    Receive,
    Scope,
    Send,
)
from bicameral.server.idempotency import KEY
from bicameral.types import Event, Relay

PATH = "/v1/chat/completions"
_OURS = frozenset(
    {
        "connection", "content-encoding", "content-length", "content-type", "date", "keep-alive",
        "server", "set-cookie", "trailer", "transfer-encoding", "upgrade", "x-bicameral-model",
        "x-request-id",
    }
)  # fmt: skip


class Chat:
    """Answers chat completions out of `brain`."""

    def __init__(self, brain: Brain, desk: Desk) -> None:
        self._brain = brain
        self._desk = desk

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request: the first event decides the status, then it streams or is folded."""
        async with Exchange(self._desk, "chat", scope, receive, send) as exchange:
            exchange.admit()
            body = await exchange.body()
            if KEY in exchange.headers and await exchange.repeated(body, self._brain.till):
                return
            asked = decode.chat(body, exchange.headers, self._desk.options, exchange.id.decode())
            name_model(exchange, self._brain, asked.model)
            request = exchange.booked(asked.request)
            run = self._brain.run(request, asked.model, caller=exchange.caller)
            async with aclosing(run) as events:
                await _answer(exchange, asked, events)


async def _answer(exchange: Exchange, asked: decode.Chat, events: AsyncIterator[Event]) -> None:
    request, explain = asked.request, asked.explain
    wire = request.wire
    if wire is None or not wire.stream:
        whole = encode.Whole(request.id, exchange.model, explain=explain)
        headers: Headers = [JSON]
        async for event in events:
            exchange.saw(event)
            whole.add(event)
            if isinstance(event, Relay):
                headers += _passed(event)
        exchange.over()
        await exchange.whole(whole.body(), headers)
        return
    usage = wire.include_usage
    stream = encode.Stream(request.id, exchange.model, usage=usage, explain=explain)
    async for event in events:
        exchange.saw(event)
        if data := stream.event(event):
            await exchange.write(data, [] if exchange.status else _stream_head(event))
    exchange.over()
    await exchange.end()


def name_model(exchange: Exchange, brain: Brain, name: str) -> None:
    """Put the model on the exchange; NotFound if there is none of that name for this caller."""
    if not name:
        raise NotFound("model: is empty", param="model", code="model_not_found")
    if len(name) > 256:
        raise RequestError("model: is longer than any name", param="model")
    if brain.till is not None:
        brain.till.permit(exchange.caller, name)
    brain.model(name)
    exchange.model = name


def _stream_head(event: Event) -> Headers:
    head = [EVENTS, NO_CACHE, NO_BUFFER]
    return head + _passed(event) if isinstance(event, Relay) else head


def _passed(relay: Relay) -> Headers:
    return [
        (name.lower().encode("ascii", "replace"), value.encode("ascii", "replace"))
        for name, value in relay.headers
        if name.lower() not in _OURS
    ]
