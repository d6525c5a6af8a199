"""The floor that our parts stand on: uvicorn and aiohttp passing bytes on, and nothing else.

`python bench/bare_relay.py PORT UPSTREAM_PORT`. No key, no decoding, no metering, no errors: what
Bicameral costs above this is what it does.
"""

from __future__ import annotations

import sys
from typing import Any

import aiohttp
import uvicorn


class Relay:
    """An ASGI app that sends each body to the upstream and streams back what comes."""

    def __init__(self, upstream: int) -> None:
        self._url = f"http://127.0.0.1:{upstream}/v1/chat/completions"
        self._session: aiohttp.ClientSession | None = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/health":
            await self._answer(send, b"text/plain", b"ok")
            return
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0),
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                headers={"Content-Type": "application/json"},
            )
        body = b""
        while True:
            message = await receive()
            body += message["body"]
            if not message["more_body"]:
                break
        async with self._session.post(self._url, data=body, allow_redirects=False) as response:
            kind = response.headers["Content-Type"].encode()
            if b"json" in kind:
                await self._answer(send, kind, await response.read())
                return
            head = {
                "type": "http.response.start",
                "status": 200,
                "headers": [(b"content-type", kind)],
            }
            await send(head)
            async for data in response.content.iter_any():
                await send({"type": "http.response.body", "body": data, "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _answer(self, send: Any, kind: bytes, body: bytes) -> None:
        length = (b"content-length", b"%d" % len(body))
        headers = [(b"content-type", kind), length]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body, "more_body": False})


if __name__ == "__main__":
    port, upstream = map(int, sys.argv[1:])
    uvicorn.run(
        Relay(upstream), host="127.0.0.1", port=port, loop="uvloop", http="httptools",
        log_config=None, access_log=False, lifespan="off",
    )  # fmt: skip
