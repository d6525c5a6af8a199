"""Asks a member of a fake server in each way out and tells how it ended."""

from __future__ import annotations

import json
from contextlib import AbstractAsyncContextManager, aclosing
from typing import Any

import pytest

from bicameral.errors import (
    ModelError,
)
from bicameral.model import Model
from bicameral.types import Delta, Done, Event, Relay, Request, Text, Wire
from tests.engines.models import opened
from tests.upstream import (
    Upstream,
    chunk,
)

TEXT = Request.ask("hi")
BODY = b'{"model":"x","messages":[{"role":"user","content":"my secret prompt"}]'
STREAM = Request.ask("hi", wire=Wire(BODY + b',"stream":true}', True, False))
PLAIN = Request.ask("hi", wire=Wire(BODY + b"}", False, False))
EVERY = pytest.mark.parametrize("request_", [TEXT, STREAM, PLAIN], ids=["text", "stream", "plain"])
STREAMED = pytest.mark.parametrize("request_", [TEXT, STREAM], ids=["text", "stream"])


def openai(up: Upstream, **keys: Any) -> AbstractAsyncContextManager[Model]:
    """A member that fails fast: no waits between tries."""
    keys = {"retries": 2, "backoff": 0.001, "breaker_failures": 100, **keys}
    return opened("openai", url=up.url, model="fake", **keys)


async def run(model: Model, request: Request) -> tuple[str, list[Event], ModelError | None]:
    """The text, the events and how it ended."""
    events: list[Event] = []
    failed: ModelError | None = None
    try:
        async with aclosing(model.run(request)) as stream:
            async for each in stream:
                events.append(each)  # noqa: PERF401 - what came before an error counts
    except ModelError as exc:
        failed = exc
    return said(events), events, failed


def said(events: list[Event]) -> str:
    text = "".join(e.part.text for e in events if isinstance(e, Delta) and isinstance(e.part, Text))
    data = b"".join(e.data for e in events if isinstance(e, Relay))
    bodies = data.removesuffix(b"\n\n").split(b"\n\n") if data.startswith(b"data: ") else [data]
    for body in filter(None, bodies):
        for choice in json.loads(body.replace(b"data: ", b""))["choices"]:
            text += (choice.get("delta") or choice.get("message") or {}).get("content") or ""
    return text


WORDS = [chunk({"content": w}) for w in ("你好", ", ", "世界", " 🌍")]
END = chunk({}, finish="stop")


async def events_of(model: Model, request: Request) -> list[Event]:
    async with aclosing(model.run(request)) as events:
        return [e async for e in events]


def done(events: list[Event]) -> Done:
    assert isinstance(events[-1], Done)
    assert sum(isinstance(e, Done) for e in events) == 1
    return events[-1]
