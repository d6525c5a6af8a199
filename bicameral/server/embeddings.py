"""POST /v1/embeddings: text to vectors, as numbers or as base64 of little-endian float32."""

from __future__ import annotations

import base64
import struct
from contextlib import aclosing
from typing import Any

import msgspec

from bicameral.brain import Brain
from bicameral.errors import Broken, RequestError
from bicameral.model import Fold
from bicameral.server import decode, schema
from bicameral.server.chat import name_model
from bicameral.server.exchange import JSON, Desk, Exchange, Receive, Scope, Send
from bicameral.server.idempotency import KEY
from bicameral.types import Answer, Embedding, Message, Modality, Request, Text

PATH = "/v1/embeddings"


class Embeddings:
    """Answers embedding requests out of `brain`."""

    def __init__(self, brain: Brain, desk: Desk) -> None:
        self._brain = brain
        self._desk = desk

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request: each input is one message, each vector one embedding."""
        async with Exchange(self._desk, "embeddings", scope, receive, send) as exchange:
            exchange.admit()
            body = await exchange.body()
            if KEY in exchange.headers and await exchange.repeated(body, self._brain.till):
                return
            tree = decode.parse(body, self._desk.options.max_depth)
            asked = _typed(tree)
            name_model(exchange, self._brain, asked.model)
            inputs = [asked.input] if isinstance(asked.input, str) else asked.input
            request = Request(
                messages=tuple(Message("user", (Text(text),)) for text in inputs),
                output=Modality.EMBEDDING,
                extra=decode.unmodelled(tree, asked),
                id=exchange.id.decode(),
                **decode.limits(exchange.headers),
            )
            fold = Fold(exchange.model)
            request = exchange.booked(request)
            run = self._brain.run(request, asked.model, caller=exchange.caller)
            async with aclosing(run) as events:
                async for event in events:
                    exchange.saw(event)
                    fold.add(event)
            exchange.over()
            answer = fold.answer()
            if len(answer.embeddings) != len(inputs):
                raise Broken(exchange.model, "it did not give one vector for each input")
            as_base64 = asked.encoding_format == "base64"
            await exchange.whole(_body(answer, exchange.model, as_base64), [JSON])


def _typed(tree: dict[str, Any]) -> schema.EmbeddingBody:
    given = tree.get("input")
    if isinstance(given, list) and given and isinstance(given[0], int | list):
        raise RequestError("input: token numbers are not taken; send text", param="input")
    return decode.typed(tree, schema.EmbeddingBody)


def _body(answer: Answer, model: str, as_base64: bool) -> bytes:
    vectors = sorted(answer.embeddings, key=lambda vector: vector.index)
    body: dict[str, Any] = {
        "object": "list",
        "data": [_vector(vector, as_base64) for vector in vectors],
        "model": model,
    }
    tokens = answer.usage.prompt_tokens
    if tokens is not None:
        body["usage"] = {"prompt_tokens": tokens, "total_tokens": tokens}
    return msgspec.json.encode(body)


def _vector(vector: Embedding, as_base64: bool) -> dict[str, Any]:
    values: Any = vector.values
    if as_base64:
        values = base64.b64encode(struct.pack(f"<{len(values)}f", *values)).decode()
    return {"object": "embedding", "index": vector.index, "embedding": values}
