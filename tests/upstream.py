"""A fake OpenAI-compatible server on loopback that follows a script, well behaved or not.

    async with Upstream() as up:
        up.script(error(429, retry_after="1"), chat("Hello"))  # in turn; the last stays
        ... up.url, up.requests, up.cancelled ...

A reply is what `reply(...)` makes: a status, headers and steps. A step is bytes to send, or one of
`Wait`, `RESET` (a TCP reset), `CLOSE` (an early end) and `HANG` (silence until the client leaves).
"""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Wait:
    """Send nothing for `seconds`."""

    seconds: float


RESET, CLOSE, HANG = "reset", "close", "hang"
Step = bytes | Wait | str


@dataclass(frozen=True)
class Seen:
    """A request as it arrived."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True)
class Reply:
    """What to send. `framing`: chunked, length (the body's true length), or close (by closing)."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    steps: tuple[Step, ...] = ()
    framing: str = "length"


Answer = Reply | Callable[[Seen], Reply]
DEFAULT_USAGE = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}


class Upstream:
    """The server. `requests` are those it got, `cancelled` how many were left by their client."""

    def __init__(self) -> None:
        self.requests: list[Seen] = []
        self.cancelled = 0
        self.connections = 0
        self.running = 0
        self._script: list[Answer] = [chat("Hello world")]
        self._tasks: set[asyncio.Task[None]] = set()
        self._changed = asyncio.Event()

    def script(self, *answers: Answer) -> None:
        """The replies to come, one a request; the last one is given ever after."""
        self._script = list(answers)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    async def until(self, ready: Callable[[Upstream], bool], seconds: float = 20.0) -> None:
        """Wait until `ready(self)`; TimeoutError after `seconds`."""
        async with asyncio.timeout(seconds):
            while not ready(self):
                self._changed.clear()
                await self._changed.wait()

    async def __aenter__(self) -> Upstream:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        try:
            while (seen := await _read(reader)) is not None:
                self.requests.append(seen)
                answer = self._script.pop(0) if len(self._script) > 1 else self._script[0]
                reply = answer(seen) if callable(answer) else answer
                if not await self._serve(reply, reader, writer):
                    break
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            self._tasks.discard(task)
            writer.close()
            self._changed.set()

    async def _serve(
        self, reply: Reply, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        """Send it, unless the client leaves first; whether the connection can serve again."""
        self.running += 1
        self._changed.set()
        sending = asyncio.create_task(_send(reply, writer))
        leaving = asyncio.create_task(reader.read(1))
        try:
            await asyncio.wait({sending, leaving}, return_when=asyncio.FIRST_COMPLETED)
            if sending.done():
                return sending.result()
            self.cancelled += 1
            return False
        finally:
            self.running -= 1
            for task in (sending, leaving):
                task.cancel()
            await asyncio.gather(sending, leaving, return_exceptions=True)
            self._changed.set()


async def _read(reader: asyncio.StreamReader) -> Seen | None:
    head = await reader.readuntil(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    method, path, _ = first.split(" ")
    headers = {k.lower(): v.strip() for k, _, v in (line.partition(":") for line in lines) if k}
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    return Seen(method, path, headers, body)


async def _send(reply: Reply, writer: asyncio.StreamWriter) -> bool:
    chunked = reply.framing == "chunked"
    headers = dict(reply.headers)
    if chunked:
        headers.setdefault("Transfer-Encoding", "chunked")
    elif reply.framing == "length":
        size = sum(len(s) for s in reply.steps if isinstance(s, bytes))
        headers.setdefault("Content-Length", str(size))
    lines = [f"HTTP/1.1 {reply.status} Scripted", *(f"{k}: {v}" for k, v in headers.items())]
    head = "\r\n".join([*lines, "", ""]).encode()
    if not reply.steps or reply.steps[0] not in (HANG, RESET, CLOSE):
        writer.write(head)
    for step in reply.steps:
        if isinstance(step, Wait):
            await asyncio.sleep(step.seconds)
        elif step == HANG:
            await asyncio.Event().wait()
        elif step == RESET:
            _reset(writer)
            return False
        elif step == CLOSE:
            return False
        else:
            assert isinstance(step, bytes)
            writer.write(b"%x\r\n%b\r\n" % (len(step), step) if chunked else step)
            await writer.drain()
            await asyncio.sleep(0)
    if chunked:
        writer.write(b"0\r\n\r\n")
    await writer.drain()
    return reply.framing != "close"


def _reset(writer: asyncio.StreamWriter) -> None:
    sock: socket.socket = writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


# --- replies -----------------------------------------------------------------------------------


def reply(
    *steps: Step,
    status: int = 200,
    kind: str = "application/json",
    framing: str = "length",
    **h: str,
) -> Reply:
    """Any reply; headers as keywords with underscores for dashes."""
    headers = {"Content-Type": kind, **{k.replace("_", "-"): v for k, v in h.items()}}
    return Reply(status, headers, steps, framing)


def chat(
    text: str = "Hello world",
    *,
    usage: Any = DEFAULT_USAGE,
    reasoning: str = "",
    delay: float = 0.0,
    finish: str = "stop",
    model: str = "fake-1",
    **headers: str,
) -> Callable[[Seen], Reply]:
    """A good chat completion, streamed word by word if asked to; embeddings if asked for those."""

    def answer(seen: Seen) -> Reply:
        asked = seen.json
        if seen.path.endswith("/embeddings"):
            return embeddings(len(asked["input"]) if isinstance(asked["input"], list) else 1)
        if not asked.get("stream"):
            body = completion(text, usage=usage, reasoning=reasoning, finish=finish, model=model)
            return reply(Wait(delay), json.dumps(body).encode(), **headers)
        pieces = [chunk({"role": "assistant", "content": ""}, model=model)]
        if reasoning:
            pieces.append(chunk({"reasoning_content": reasoning}, model=model))
        words = [w + " " for w in text.split(" ")]
        words[-1] = words[-1][:-1]
        pieces += [chunk({"content": word}, model=model) for word in words]
        pieces.append(chunk({}, finish=finish, model=model))
        if usage is not None and (asked.get("stream_options") or {}).get("include_usage"):
            pieces.append({"id": "c1", "model": model, "choices": [], "usage": usage})
        return stream(*pieces, delay=delay, **headers)

    return answer


def chunk(
    delta: dict[str, Any], *, finish: str | None = None, model: str = "fake-1", **more: Any
) -> dict[str, Any]:
    """One chat.completion.chunk."""
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return {
        "id": "c1",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": model,
        "choices": [choice],
        **more,
    }


def completion(
    text: str | None,
    *,
    usage: Any = DEFAULT_USAGE,
    reasoning: str = "",
    finish: str = "stop",
    model: str = "fake-1",
    **more: Any,
) -> dict[str, Any]:
    """One chat.completion."""
    message: dict[str, Any] = {"role": "assistant", "content": text}
    if reasoning:
        message["reasoning_content"] = reasoning
    choice = {"index": 0, "message": message, "finish_reason": finish}
    body = {"id": "c1", "object": "chat.completion", "created": 1, "model": model}
    body |= {"choices": [choice], **more}
    return body if usage is None else {**body, "usage": usage}


def embeddings(count: int, *, usage: Any = None, size: int = 4) -> Reply:
    """`count` vectors of `size`, the i-th all i."""
    data = [
        {"object": "embedding", "index": i, "embedding": [float(i)] * size} for i in range(count)
    ]
    counts = usage or {"prompt_tokens": count, "total_tokens": count}
    body = {"object": "list", "model": "fake-e", "data": data, "usage": counts}
    return reply(json.dumps(body).encode())


def event(data: Any, eol: str = "\n") -> bytes:
    """One server-sent event; bytes are taken as they are."""
    if isinstance(data, bytes):
        return data
    text = data if isinstance(data, str) else json.dumps(data, ensure_ascii=False)
    return f"data: {text}{eol}{eol}".encode()


def stream(
    *events: Any,
    done: bool = True,
    eol: str = "\n",
    packet: int | None = None,
    delay: float = 0.0,
    then: Sequence[Step] = (),
    framing: str = "chunked",
    **headers: str,
) -> Reply:
    """A stream of events (dicts, strings, raw bytes or steps), `packet` bytes a write.

    `delay` passes before each event; `then` replaces the orderly end, e.g. (RESET,).
    """
    steps: list[Step] = []
    for item in [*events, *(["[DONE]"] if done and not then else [])]:
        if isinstance(item, Wait) or item in (RESET, CLOSE, HANG):
            steps.append(item)
            continue
        if delay:
            steps.append(Wait(delay))
        steps += _packets(event(item, eol), packet)
    return reply(*steps, *then, kind="text/event-stream", framing=framing, **headers)


def _packets(data: bytes, size: int | None) -> Iterable[bytes]:
    step = size or len(data) or 1
    return [data[i : i + step] for i in range(0, len(data), step)]


def error(
    status: int,
    message: str = "scripted failure",
    *,
    kind: str = "scripted_error",
    param: str | None = None,
    code: Any = None,
    retry_after: str | None = None,
) -> Reply:
    """A refusal in OpenAI's form."""
    body = {"error": {"message": message, "type": kind, "param": param, "code": code}}
    headers = {} if retry_after is None else {"Retry_After": retry_after}
    return reply(json.dumps(body).encode(), status=status, **headers)


def html(status: int = 200) -> Reply:
    """A proxy's error page."""
    return reply(b"<html><body>Welcome</body></html>", status=status, kind="text/html")


def chunked(*steps: Step) -> Reply:
    """Bytes that claim to be in chunked coding."""
    return reply(*steps, kind="text/event-stream", framing="none", Transfer_Encoding="chunked")


def black_hole() -> Reply:
    """Never a byte."""
    return reply(HANG)


def reset() -> Reply:
    """A TCP reset before the first byte."""
    return reply(RESET)
