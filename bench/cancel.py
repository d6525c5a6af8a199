"""How fast work stops when a client hangs up: `python bench/cancel.py [--tries 50]`.

Remote: milliseconds from the client's close to the moment the upstream sees its connection close,
through the whole server. Local: milliseconds from the close to the next request's first token on a
model with one slot, beside the same request on an idle model; the difference is what the abandoned
work still held. Prints a table for docs/measurements.md.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import time
from contextlib import aclosing

from bicameral import Brain, Config, Request
from bicameral.config import ServerOptions
from bicameral.engines.weights import pulled
from bicameral.model import Model
from bicameral.server.serve import serving
from bicameral.types import Sampling

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n"
WORD = b'data: {"model":"m","choices":[{"index":0,"delta":{"content":"x"}}]}\n\n'
BODY = b'{"model":"far","stream":true,"messages":[{"role":"user","content":"go on"}]}'
LONG = "The river runs under the old stone bridge and down to the sea. " * 100


class Endless:
    """An upstream that streams a word every 5 ms; `gone` gets the time each client went."""

    def __init__(self) -> None:
        self.gone: asyncio.Queue[float] = asyncio.Queue()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        length = 0
        while (line := await reader.readline()) not in (b"\r\n", b""):
            name, _, value = line.partition(b":")
            length = int(value) if name.lower() == b"content-length" else length
        await reader.readexactly(length)
        writer.write(HEAD)
        talking = asyncio.create_task(self._talk(writer))
        await reader.read()  # returns when the other side closes
        self.gone.put_nowait(time.perf_counter())
        talking.cancel()
        writer.close()

    async def _talk(self, writer: asyncio.StreamWriter) -> None:
        while True:
            writer.write(WORD)
            await asyncio.sleep(0.005)


async def hang_up(url: str) -> float:
    """Ask, read until the first word, close; the time of the close."""
    host, port = url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: {host}\r\ncontent-length: {len(BODY)}\r\n"
    writer.write(head.encode() + b"\r\n" + BODY)
    await reader.readuntil(b"content")
    await reader.readuntil(b"data: ")
    writer.close()
    return time.perf_counter()


async def remote(tries: int) -> list[float]:
    upstream = Endless()
    listener = await asyncio.start_server(upstream.serve, "127.0.0.1", 0)
    port = listener.sockets[0].getsockname()[1]
    table = {"engine": "openai", "url": f"http://127.0.0.1:{port}/v1", "model": "m"}
    found = []
    async with (
        listener,
        Brain.open(Config(models={"far": table})) as brain,
        serving(brain, ServerOptions(port=0)) as server,
    ):
        for _ in range(tries):
            closed = await hang_up(server.url)
            found.append(1e3 * (await upstream.gone.get() - closed))
    return found


async def first_token(model: Model, request: Request) -> float:
    began = time.perf_counter()
    async with aclosing(model.run(request)) as events:
        async for _ in events:
            return 1e3 * (time.perf_counter() - began)
    raise RuntimeError("no event")


async def local(name: str, tries: int) -> tuple[list[float], list[float], list[float]]:
    """First token of a short request: idle, after a hang-up mid-answer, after one mid-prompt."""
    short = Request.ask("Say hi.", sampling=Sampling(max_tokens=1))
    idle, talking, reading = [], [], []
    config = Config(models={name: {"engine": "llama_cpp", "weights": name}})
    async with Brain.open(config) as brain:
        model = brain.model(name)
        await first_token(model, short)
        for round_ in range(tries):
            await first_token(model, Request.ask(f"{round_} warm", sampling=short.sampling))
            idle.append(await first_token(model, short))
            await first_token(model, Request.ask(f"{round_} Tell a long story."))  # then closes
            talking.append(await first_token(model, short))
            long = asyncio.create_task(first_token(model, Request.ask(f"{round_} {LONG}")))
            await asyncio.sleep(0.5)
            long.cancel()
            reading.append(await first_token(model, short))
    return idle, talking, reading


def row(what: str, found: list[float]) -> None:
    ordered = sorted(found)
    p99 = ordered[min(len(ordered) - 1, int(0.99 * len(ordered)))]
    print(f"| {what} | {statistics.median(found):.1f} | {p99:.1f} | {len(found)} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tries", type=int, default=50)
    args = parser.parse_args()
    print("| ms | p50 | p99 | n |\n|---|---|---|---|")
    row("remote: client's close to upstream's", asyncio.run(remote(args.tries)))
    for name in pulled():
        if name.startswith(("smollm2", "qwen")):
            idle, talking, reading = asyncio.run(local(name, max(3, args.tries // 5)))
            row(f"{name}: first token when idle", idle)
            row(f"{name}: after a hang-up mid-answer", talking)
            row(f"{name}: after a hang-up mid-prompt", reading)


if __name__ == "__main__":
    main()
