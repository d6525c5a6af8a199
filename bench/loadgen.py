"""A closed-loop load generator for chat-completion endpoints: latency, first event, gaps, CPU.

    python loadgen.py --url http://127.0.0.1:9001/v1/chat/completions --conns 1 --secs 4
    python loadgen.py --url ... --stream --prompt "chunks=50;delay_ms=20" --conns 100 --secs 6
    python loadgen.py --url ... --header "Authorization: Bearer sk-test" --pid 12345

Every connection sends its next request when the last answer is complete (keep-alive).
Prints one JSON line. Only loopback targets, bounded time and connections.
Needs the standard library; uses uvloop if installed, psutil for --pid.

n, rps, latencies   answers with status 200 that ended within the time (streams: with a [DONE])
ttft                time to the first event of any kind; for plain answers, to the head
gap                 time between two reads that carried events
events_per_read     above 1: events arrive in clumps
incomplete          streams that ended without [DONE]
cut                 requests not finished when the time was up: normal at the end, no error
cpu_us_per_req      CPU time (user + system) of --pid and its children, per finished request
"""

from __future__ import annotations

import argparse
import asyncio
import ipaddress
import json
import re
import time
from array import array
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import cast
from urllib.parse import urlsplit

MAX_CONNS = 2048
MAX_SECS = 300.0
MAX_PROMPT_BYTES = 16 * 1024 * 1024
DATA, DONE, LAST_CHUNK = b"data: ", b"[DONE]", b"\r\n0\r\n\r\n"
LENGTH = re.compile(rb"\r\ncontent-length:\s*(\d+)")
now = time.perf_counter


def doubles() -> array[float]:
    return array("d")


@dataclass
class Result:
    stream: bool
    deadline: float
    left: int | None  # how many requests may still be sent; None: no limit
    latency: array[float] = field(default_factory=doubles)
    ttft: array[float] = field(default_factory=doubles)
    gaps: array[float] = field(default_factory=doubles)
    counts: Counter[str] = field(default_factory=Counter)
    status: Counter[str] = field(default_factory=Counter)
    sample: str | None = None  # the beginning of the first answer that was not 200

    def may_send(self) -> bool:
        return now() < self.deadline and self.left != 0


class Client(asyncio.Protocol):
    """One connection; it sends the same request again and again."""

    def __init__(self, request: bytes, result: Result, closed: asyncio.Future[None]) -> None:
        self.request, self.result, self.closed = request, result, closed
        self.busy = self.expired = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(
            asyncio.Transport, transport
        )  # uvloop's transports are no subclass of it
        self.send()

    def send(self) -> None:
        if not self.result.may_send():
            self.transport.close()
            return
        if self.result.left is not None:
            self.result.left -= 1
        self.head: bytes | None = None
        self.buffer, self.carry, self.tail = b"", b"", b""
        self.length: int | None = None
        self.chunked = self.done = False
        self.got = 0
        self.first = self.last = 0.0
        self.busy = True
        self.sent = now()
        self.transport.write(self.request)

    def data_received(self, data: bytes) -> None:
        if not self.busy:
            return
        time_read = now()
        if self.head is None:
            self.buffer += data
            end = self.buffer.find(b"\r\n\r\n")
            if end < 0:
                return
            self.head, data = self.buffer[:end].lower(), self.buffer[end + 4 :]
            self.read_head(data, time_read)
        self.read_body(data, time_read)

    def read_head(self, data: bytes, time_read: float) -> None:
        assert self.head is not None
        self.head_read = time_read
        self.code = self.head[9:12].decode(errors="replace")
        if self.code != "200" and self.result.sample is None:
            self.result.sample = (self.head + b"\n\n" + data)[:600].decode(errors="replace")
        match = LENGTH.search(self.head)
        self.length = int(match[1]) if match else None
        self.chunked = match is None and b"\r\ntransfer-encoding: chunked" in self.head
        self.tail = b"\r\n"

    def read_body(self, data: bytes, time_read: float) -> None:
        seen = self.carry + data  # an event's first bytes may lie in the read before
        events = seen.count(DATA)
        if events:
            if self.first:
                self.result.gaps.append(time_read - self.last)
            else:
                self.first = time_read
            self.last = time_read
            self.result.counts["events"] += events
            self.result.counts["reads"] += 1
        self.done = self.done or DONE in seen
        self.carry = seen[-(len(DATA) - 1) :]
        self.got += len(data)
        self.tail = (self.tail + data)[-len(LAST_CHUNK) :]
        if (
            self.got >= self.length
            if self.length is not None
            else self.chunked and self.tail == LAST_CHUNK
        ):
            self.finish(time_read)

    def finish(self, time_read: float) -> None:
        assert self.head is not None
        self.busy = False
        counts = self.result.counts
        counts["finished"] += 1
        if self.code != "200":
            self.result.status[self.code] += 1
        elif self.result.stream and not self.done:
            counts["incomplete"] += 1
        elif time_read < self.result.deadline:
            self.result.latency.append(time_read - self.sent)
            self.result.ttft.append((self.first or self.head_read) - self.sent)
        if b"\r\nconnection: close" in self.head:
            self.transport.close()
        else:
            self.send()

    def connection_lost(self, error: Exception | None) -> None:
        if (
            self.busy
            and self.head is not None
            and self.length is None
            and not self.chunked
            and error is None
        ):
            self.finish(now())  # a body without length ends with the connection
        elif self.busy:
            self.busy = False
            self.result.counts["cut" if self.expired else "drops"] += 1
        if not self.closed.done():
            self.closed.set_result(None)


async def one_connection(host: str, port: int, request: bytes, result: Result) -> None:
    """Keep one connection busy until the time is up; reconnect when the server closes it."""
    loop = asyncio.get_running_loop()
    while result.may_send():
        factory = partial(Client, request, result, loop.create_future())
        try:
            transport, client = await loop.create_connection(factory, host, port)
        except OSError:
            result.counts["connect_errors"] += 1
            await asyncio.sleep(0.05)
            continue
        result.counts["connections"] += 1
        try:
            await asyncio.wait_for(
                asyncio.shield(client.closed), max(0.01, result.deadline - now())
            )
        except TimeoutError:
            client.expired = True
            transport.abort()
            await client.closed
            return


def build_request(args: argparse.Namespace, host: str, port: int, path: str) -> bytes:
    prompt = (
        "Hello, how are you today? "
        + "x" * args.prompt_bytes
        + (" " + args.prompt if args.prompt else "")
    )
    body: dict[str, object] = {
        "model": args.model,
        "messages": [
            {"role": "system", "content": "You are a helpful assistant."},
            {"role": "user", "content": prompt},
        ],
        "max_tokens": 64,
    }
    if args.stream:
        body |= {"stream": True}
        if not args.no_usage:
            body |= {"stream_options": {"include_usage": True}}
    data = json.dumps(body).encode()
    lines = [
        f"POST {path} HTTP/1.1",
        f"Host: {host}:{port}",
        "Content-Type: application/json",
        "Accept: */*",
        f"Content-Length: {len(data)}",
        *args.header,
    ]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + data


def cpu_seconds(pid: int) -> float:
    """CPU time of a process and its living children."""
    import psutil  # type: ignore[import-untyped]

    total = 0.0
    process = psutil.Process(pid)
    for part in (process, *process.children(recursive=True)):
        try:
            times = part.cpu_times()
        except psutil.NoSuchProcess:
            continue
        total += times.user + times.system
    return total


def milliseconds(values: array[float], *quantiles: float) -> list[float | None]:
    ordered = sorted(values)
    if not ordered:
        return [None] * len(quantiles)
    return [
        round(1000 * ordered[min(len(ordered) - 1, int(len(ordered) * q))], 3) for q in quantiles
    ]


async def measure(args: argparse.Namespace) -> dict[str, object]:
    host, port, path = args.url
    request = build_request(args, host, port, path)
    cpu = cpu_seconds(args.pid) if args.pid else 0.0
    start = now()
    result = Result(args.stream, start + args.secs, args.max_requests or None)
    await asyncio.gather(*(one_connection(host, port, request, result) for _ in range(args.conns)))
    elapsed = min(now() - start, args.secs)
    counts = result.counts
    p50, p90, p99, least = milliseconds(result.latency, 0.5, 0.9, 0.99, 0.0)
    report: dict[str, object] = {
        "conns": args.conns,
        "stream": args.stream,
        "n": len(result.latency),
        "rps": round(len(result.latency) / elapsed, 1),
        "p50_ms": p50,
        "p90_ms": p90,
        "p99_ms": p99,
        "min_ms": least,
    }
    report["ttft_p50_ms"], report["ttft_p99_ms"] = milliseconds(result.ttft, 0.5, 0.99)
    if args.stream:
        report["gap_p50_ms"], report["gap_p99_ms"] = milliseconds(result.gaps, 0.5, 0.99)
        report |= {
            "events": counts["events"],
            "events_per_read": round(counts["events"] / max(1, counts["reads"]), 2),
        }
    if args.pid:
        report["cpu_us_per_req"] = round(
            1e6 * (cpu_seconds(args.pid) - cpu) / max(1, counts["finished"]), 1
        )
    report |= {
        name: counts[name]
        for name in ("incomplete", "drops", "cut", "connect_errors", "connections")
    }
    report |= {"errors": dict(result.status), "sample": result.sample}
    return report


def loopback_url(text: str) -> tuple[str, int, str]:
    url = urlsplit(text)
    if url.scheme != "http" or not url.hostname:
        raise argparse.ArgumentTypeError(f"{text} is not an http:// address")
    host = "127.0.0.1" if url.hostname == "localhost" else url.hostname
    try:
        allowed = ipaddress.ip_address(host).is_loopback
    except ValueError:
        allowed = False
    if not allowed:
        raise argparse.ArgumentTypeError(f"{url.hostname} is not a loopback address")
    return host, url.port or 80, url.path or "/"


def between(kind: type[int] | type[float], low: float, high: float) -> Callable[[str], float]:
    def parse(text: str) -> float:
        value = kind(text)
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"{text} is not between {low:g} and {high:g}")
        return value

    return parse


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Closed-loop load generator for chat-completion endpoints (loopback only)."
    )
    parser.add_argument("--url", type=loopback_url, required=True)
    parser.add_argument("--conns", type=between(int, 1, MAX_CONNS), default=1)
    parser.add_argument("--secs", type=between(float, 0.1, MAX_SECS), default=4.0)
    parser.add_argument(
        "--max-requests",
        type=between(int, 0, 10**9),
        default=0,
        help="stop after this many; 0: no limit",
    )
    parser.add_argument("--stream", action="store_true")
    parser.add_argument(
        "--no-usage", action="store_true", help="do not ask for usage in the stream"
    )
    parser.add_argument("--model", default="mock-model")
    parser.add_argument(
        "--prompt",
        default="",
        help='added to the prompt, e.g. the mock\'s knobs "chunks=32;delay_ms=0"',
    )
    parser.add_argument("--prompt-bytes", type=between(int, 0, MAX_PROMPT_BYTES), default=0)
    parser.add_argument(
        "--header",
        action="append",
        default=[],
        help='e.g. "Authorization: Bearer sk-test"; may be repeated',
    )
    parser.add_argument(
        "--pid",
        type=int,
        help="report the CPU time of this process and its children (needs psutil)",
    )
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    try:
        import uvloop
    except ImportError:
        run = asyncio.run
    else:
        run = uvloop.run
    print(json.dumps(run(measure(args))))


if __name__ == "__main__":
    main()
