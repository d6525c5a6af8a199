"""A mock OpenAI-compatible upstream that costs almost nothing: a benchmark measures the gateway.

    POST anything            a chat completion; Server-Sent Events if the body says "stream": true
    GET  /v1/models          one model, "mock-model"
    GET  /health             200 OK
    GET  /__stats            {"requests", "streams", "conns", "aborted"} since the start

A stream is a role event, N content events, a finish event, a usage event if the body asks for it
(include_usage), [DONE]. Two knobs may stand anywhere in the body, best in the prompt because
gateways drop unknown fields: "chunks=64;delay_ms=10" (defaults 32 and 0; a delay of 0 still writes
every event by itself). "aborted" counts streams whose client went away before the end: it shows
whether a gateway cancels upstream.

It binds to loopback only, and ends by itself after --max-seconds. Needs the standard library;
uses uvloop if it is installed. HTTP/1.1 is parsed by hand, for well-behaved clients only.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import ipaddress
import json
import re
from typing import cast

MAX_HEAD = 64 * 1024
MAX_BODY = 32 * 1024 * 1024
MAX_CHUNKS = 10_000
MAX_DELAY_MS = 10_000

CHUNKS = re.compile(rb"chunks=(\d{1,6})")
DELAY = re.compile(rb"delay_ms=(\d{1,6})")
STREAM = re.compile(rb'"stream"\s*:\s*true')
LENGTH = re.compile(rb"\r\ncontent-length:\s*(\d{1,12})")

STATS = {"requests": 0, "streams": 0, "conns": 0, "aborted": 0}
COMPLETION = {
    "id": "chatcmpl-mock0000000000000001",
    "created": 1700000000,
    "model": "mock-model",
    "system_fingerprint": "fp_mock",
}
PROMPT_TOKENS = 19


def response(
    body: bytes, content_type: str = "application/json", status: str = "200 OK", extra: str = ""
) -> bytes:
    head = f"HTTP/1.1 {status}\r\ncontent-type: {content_type}\r\n{extra}"
    return f"{head}content-length: {len(body)}\r\n\r\n".encode() + body


def chunk(data: bytes) -> bytes:
    """One piece of an HTTP chunked body."""
    return b"%x\r\n%s\r\n" % (len(data), data)


def event(
    delta: dict[str, str] | None = None,
    finish: str | None = None,
    usage: dict[str, int] | None = None,
) -> bytes:
    body: dict[str, object] = {**COMPLETION, "object": "chat.completion.chunk"}
    if usage:
        body |= {"choices": [], "usage": usage}
    else:
        body["choices"] = [
            {"index": 0, "delta": delta or {}, "logprobs": None, "finish_reason": finish}
        ]
    return chunk(b"data: " + json.dumps(body, separators=(",", ":")).encode() + b"\n\n")


def usage_event(tokens: int) -> bytes:
    return event(
        usage={
            "prompt_tokens": PROMPT_TOKENS,
            "completion_tokens": tokens,
            "total_tokens": PROMPT_TOKENS + tokens,
        }
    )


PLAIN = response(
    json.dumps(
        {
            **COMPLETION,
            "object": "chat.completion",
            "choices": [
                {
                    "index": 0,
                    "message": {
                        "role": "assistant",
                        "content": "The quick brown fox jumps over the lazy dog. " * 4,
                        "refusal": None,
                    },
                    "logprobs": None,
                    "finish_reason": "stop",
                }
            ],
            "usage": {
                "prompt_tokens": PROMPT_TOKENS,
                "completion_tokens": 40,
                "total_tokens": PROMPT_TOKENS + 40,
                "prompt_tokens_details": {"cached_tokens": 0},
                "completion_tokens_details": {"reasoning_tokens": 0},
            },
        }
    ).encode(),
    extra="x-request-id: req_mock\r\n",
)
MODELS = response(
    json.dumps(
        {
            "object": "list",
            "data": [{"id": "mock-model", "object": "model", "created": 1, "owned_by": "mock"}],
        }
    ).encode()
)
HEALTH = response(b"OK", "text/plain")
TOO_LARGE = response(b"{}", status="413 Content Too Large", extra="connection: close\r\n")
STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\n"
    b"cache-control: no-cache\r\nx-request-id: req_mock\r\ntransfer-encoding: chunked\r\n\r\n"
)
FIRST = event({"role": "assistant", "content": ""})
TOKEN = event({"content": " word"})
LAST = event(finish="stop")
DONE = chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n"


class TooLarge(Exception):
    """The request is larger than the mock accepts."""


def take_request(buffer: bytearray) -> tuple[bytes, bytes] | None:
    """Cut one whole request off the buffer: (lower-case head, body); None if it is incomplete."""
    end = buffer.find(b"\r\n\r\n")
    if end < 0:
        if len(buffer) > MAX_HEAD:
            raise TooLarge
        return None
    head = bytes(buffer[:end]).lower()
    taken = take_body(buffer, head, end + 4)
    if taken is None:
        return None
    body, start = taken
    del buffer[:start]
    return head, body


def take_body(buffer: bytearray, head: bytes, start: int) -> tuple[bytes, int] | None:
    """The body that begins at `start`, and where it ends; None while it is incomplete."""
    if match := LENGTH.search(head):
        size = int(match[1])
        if size > MAX_BODY:
            raise TooLarge
        end = start + size
        return None if len(buffer) < end else (bytes(buffer[start:end]), end)
    if b"\r\ntransfer-encoding: chunked" in head:
        if len(buffer) > MAX_HEAD + MAX_BODY:
            raise TooLarge
        return take_chunks(buffer, start)
    return b"", start


def take_chunks(buffer: bytearray, start: int) -> tuple[bytes, int] | None:
    parts: list[bytes] = []
    while True:
        line = buffer.find(b"\r\n", start)
        if line < 0:
            return None
        size = int(bytes(buffer[start:line]).split(b";")[0], 16)
        if len(buffer) < line + 2 + size + 2:
            return None
        parts.append(bytes(buffer[line + 2 : line + 2 + size]))
        start = line + 2 + size + 2
        if size == 0:
            return b"".join(parts), start


class Connection(asyncio.Protocol):
    def __init__(self) -> None:
        self.buffer = bytearray()
        self.streaming: asyncio.Task[None] | None = None
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(
            asyncio.Transport, transport
        )  # uvloop's transports are no subclass of it
        STATS["conns"] += 1

    def connection_lost(self, error: Exception | None) -> None:
        self.transport = None

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        if self.streaming is None:
            self.answer_all()

    def answer_all(self) -> None:
        while self.buffer and self.transport is not None and self.streaming is None:
            try:
                request = take_request(self.buffer)
            except (TooLarge, ValueError):
                self.transport.write(TOO_LARGE)
                self.transport.close()
                return
            if request is None:
                return
            self.answer(*request)

    def answer(self, head: bytes, body: bytes) -> None:
        assert self.transport is not None
        close = b"\r\nconnection: close" in head
        if head.startswith(b"post "):
            STATS["requests"] += 1
            if STREAM.search(body):
                STATS["streams"] += 1
                self.streaming = asyncio.get_running_loop().create_task(self.stream(body, close))
                return
            self.transport.write(PLAIN)
        elif head.startswith(b"get /__stats"):
            self.transport.write(response(json.dumps(STATS).encode()))
        elif head.startswith(b"get /health"):
            self.transport.write(HEALTH)
        else:
            self.transport.write(MODELS)
        if close:
            self.transport.close()

    async def stream(self, body: bytes, close: bool) -> None:
        chunks, delay = CHUNKS.search(body), DELAY.search(body)
        count = min(int(chunks[1]), MAX_CHUNKS) if chunks else 32
        pause = min(int(delay[1]), MAX_DELAY_MS) / 1000 if delay else 0.0
        transport = self.transport
        assert transport is not None
        transport.write(STREAM_HEAD + FIRST)
        for _ in range(count):
            await asyncio.sleep(pause)
            if self.transport is None:
                STATS["aborted"] += 1
                return
            transport.write(TOKEN)
        transport.write(LAST + (usage_event(count) if b"include_usage" in body else b"") + DONE)
        self.streaming = None
        if close:
            transport.close()
        else:
            self.answer_all()


async def serve(host: str, port: int, seconds: float) -> None:
    server = await asyncio.get_running_loop().create_server(Connection, host, port, backlog=4096)
    async with server:
        print(f"mock upstream on {host}:{port} for at most {seconds:g} s", flush=True)
        await asyncio.sleep(seconds)


def loopback(host: str) -> str:
    if not ipaddress.ip_address(host).is_loopback:
        raise argparse.ArgumentTypeError(f"{host} is not a loopback address")
    return host


def main() -> None:
    parser = argparse.ArgumentParser(
        description="Mock OpenAI-compatible upstream for gateway benchmarks."
    )
    parser.add_argument("--port", type=int, default=9001)
    parser.add_argument("--host", type=loopback, default="127.0.0.1")
    parser.add_argument(
        "--max-seconds", type=float, default=600.0, help="end after this long (default 600)"
    )
    args = parser.parse_args()
    try:
        import uvloop
    except ImportError:
        run = asyncio.run
    else:
        run = uvloop.run
    with contextlib.suppress(KeyboardInterrupt):
        run(serve(args.host, args.port, args.max_seconds))


if __name__ == "__main__":
    main()
