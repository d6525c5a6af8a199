"""A small client for the tests: whole answers, streams as events, raw sockets."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from typing import Any

import aiohttp

from tests.server.live import Live

HI = [{"role": "user", "content": "hello my friend"}]


@dataclass(frozen=True)
class Got:
    """An answer as it arrived."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> Any:
        return self.json["error"]

    @property
    def data(self) -> list[str]:
        """The data of every server-sent event."""
        events = self.body.decode().split("\n\n")
        assert events[-1] == ""
        assert all(event.startswith("data: ") and "\n" not in event for event in events[:-1])
        return [event.removeprefix("data: ") for event in events[:-1]]

    @property
    def chunks(self) -> list[Any]:
        """The events decoded, without the closing [DONE]."""
        assert self.data[-1] == "[DONE]"
        return [json.loads(event) for event in self.data[:-1]]

    @property
    def text(self) -> str:
        """What the chunks say together."""
        choices = [c for chunk in self.chunks for c in chunk["choices"]]
        return "".join(c["delta"].get("content") or "" for c in choices)


async def call(
    live: Live,
    method: str,
    path: str,
    body: Any = None,
    headers: dict[str, str] | None = None,
) -> Got:
    """Any request; a body that is not bytes is sent as JSON."""
    data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
    async with (
        aiohttp.ClientSession(auto_decompress=False) as session,
        session.request(method, live.url + path, data=data, headers=headers) as response,
    ):
        found = {k.lower(): v for k, v in response.headers.items()}
        return Got(response.status, found, await response.read())


async def chat(live: Live, headers: dict[str, str] | None = None, **fields: Any) -> Got:
    """A chat completion; by default of the echo model."""
    body = {"model": "echo", "messages": HI, **fields}
    return await call(live, "POST", "/v1/chat/completions", body, headers)


async def embed(live: Live, headers: dict[str, str] | None = None, **fields: Any) -> Got:
    """Embeddings."""
    return await call(live, "POST", "/v1/embeddings", fields, headers)


async def raw(live: Live) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A bare connection."""
    host, port = live.url.removeprefix("http://").split(":")
    return await asyncio.open_connection(host, int(port))


def head(live: Live, length: int, *more: str, path: str = "/v1/chat/completions") -> bytes:
    """The head of a POST by hand."""
    host = live.url.removeprefix("http://")
    lines = [f"POST {path} HTTP/1.1", f"Host: {host}", f"Content-Length: {length}", *more]
    return "\r\n".join([*lines, "", ""]).encode()


async def until(ready: Any, seconds: float = 5.0) -> None:
    """Wait until `ready()`; TimeoutError after `seconds`."""
    async with asyncio.timeout(seconds):
        while not ready():
            await asyncio.sleep(0.01)
