"""Local models: our engine against the same binding used bare and llama.cpp's own HTTP server.

    python bench/local.py [--rounds 5] [--tokens 64] [--threads N] [MODEL ...]

Rounds are interleaved and ratios taken within a round, so that a machine that slows down slows all
alike. Prints a table for docs/measurements.md.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import secrets
import statistics
import time
import urllib.request
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from bicameral.engines import find
from bicameral.engines.cores import usable
from bicameral.engines.llama_cpp import _BATCH_LARGE, _BATCH_SMALL, _LARGE
from bicameral.engines.weights import locate, pulled
from bicameral.types import Delta, Done, Message, Request, Sampling, Text

CONTEXT = 2048
ASK = "Tell a long story about the sea."
PREFIX = "The river runs under the old stone bridge and down to the sea. " * 30


def parameters(path: Path, threads: int, key: str) -> Any:
    import xllamacpp

    p = xllamacpp.CommonParams()
    p.model.path, p.n_ctx, p.verbosity, p.api_keys = str(path), CONTEXT, -1, [key]
    p.n_batch = p.n_ubatch = _BATCH_LARGE if path.stat().st_size > _LARGE else _BATCH_SMALL
    p.cpuparams.n_threads = p.cpuparams_batch.n_threads = threads
    p.fit_params = False
    return p


def bare(path: Path, threads: int, pipe: Connection) -> None:
    """In its own process: decodes through the bare binding on request, and listens over HTTP."""
    import xllamacpp

    key = secrets.token_hex(16)
    server = xllamacpp.Server(parameters(path, threads, key))
    pipe.send((server.listening_address, key))
    while (made := pipe.recv()) is not None:
        chunks: list[Any] = []
        began = time.perf_counter()
        server.handle_chat_completions(made, lambda c, chunks=chunks: chunks.append(c))
        pipe.send(chunks[-1]["usage"]["completion_tokens"] / (time.perf_counter() - began))


def body(tokens: int) -> dict[str, Any]:
    return {
        "messages": [{"role": "user", "content": ASK}],
        "max_tokens": tokens,
        "temperature": 0,
        "ignore_eos": True,
        "cache_prompt": False,
        "stream": True,
        "stream_options": {"include_usage": True},
    }


def over_http(address: str, key: str, tokens: int) -> float:
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    request = urllib.request.Request(
        f"{address}/v1/chat/completions", json.dumps(body(tokens)).encode(), headers
    )
    began, said = time.perf_counter(), 0
    with urllib.request.urlopen(request) as answer:
        for line in answer:
            if line.startswith(b"data: {") and (used := json.loads(line[6:]).get("usage")):
                said = used["completion_tokens"]
    return said / (time.perf_counter() - began)


async def ours(model: Any, tokens: int) -> float:
    request = Request.ask(
        ASK,
        sampling=Sampling(max_tokens=tokens, temperature=0),
        extra={"ignore_eos": True, "cache_prompt": False},
    )
    _, seconds, done = await timed(model, request)
    return (done.usage.completion_tokens or 0) / seconds


async def timed(model: Any, request: Request) -> tuple[float, float, Done]:
    """Seconds to the first piece, seconds in all, the Done."""
    began, first, done = time.perf_counter(), 0.0, Done()
    async for event in model.run(request):
        if isinstance(event, Done):
            done = event
        elif isinstance(event, Delta):
            first = first or time.perf_counter() - began
    return first, time.perf_counter() - began, done


async def prefix(model: Any, round_: int) -> tuple[float, float, int, int]:
    """First token of a second turn, of the same prompt cold; tokens reused, tokens of prompt."""
    sampling = Sampling(max_tokens=4, temperature=0)
    first = Request.ask(f"{round_}. {PREFIX}", sampling=sampling)
    more = (Message("assistant", (Text("Yes."),)), Message("user", (Text("Why?"),)))
    second = first.but(messages=first.messages + more)
    await timed(model, first)
    warm, _, done = await timed(model, second)
    cold, _, _ = await timed(model, second.but(extra={"cache_prompt": False}))
    return warm, cold, done.usage.cached_tokens or 0, done.usage.prompt_tokens or 0


def report(name: str, rows: list[tuple[float, float, float]], seen: list[tuple[Any, ...]]) -> None:
    middle: Callable[[Any], float] = statistics.median
    us, binding, http = (middle(column) for column in zip(*rows, strict=True))
    against = [middle(r[0] / r[k] for r in rows) for k in (1, 2)]
    warm, cold, cached, prompt = (middle(column) for column in zip(*seen, strict=True))
    print(
        f"| {name} | {us:.1f} | {binding:.1f} | {against[0]:.1%} | {http:.1f} | {against[1]:.1%} "
        f"| {warm * 1e3:.0f} ms | {cold * 1e3:.0f} ms | {cached:.0f} of {prompt:.0f} |",
        flush=True,
    )


async def measure(name: str, args: argparse.Namespace) -> None:
    engine, path = find("llama_cpp"), locate(name)
    here, there = multiprocessing.get_context("spawn").Pipe()
    process = multiprocessing.get_context("spawn").Process(
        target=bare, args=(path, args.threads, there)
    )
    process.start()
    address, key = await asyncio.to_thread(here.recv)
    options = engine.Options(  # type: ignore[call-arg]
        engine="llama_cpp", weights=name, threads=args.threads, context=CONTEXT
    )
    rows, seen = [], []
    async with engine.open(name, options) as model:
        for round_ in range(-1, args.rounds):  # the round before the first only warms up
            us = await ours(model, args.tokens)
            here.send(body(args.tokens))
            binding = await asyncio.to_thread(here.recv)
            http = await asyncio.to_thread(over_http, address, key, args.tokens)
            reuse = await prefix(model, round_)
            if round_ >= 0:
                rows.append((us, binding, http))
                seen.append(reuse)
    here.send(None)
    process.join()
    report(name, rows, seen)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="*", help="pulled weights; default: all chat models")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--threads", type=int, default=usable())
    args = parser.parse_args()
    print(f"tokens/s, prompt time included; {args.threads} threads, median of {args.rounds}\n")
    print("| model | Bicameral | bare binding | ratio | llama.cpp HTTP | ratio ", end="")
    print("| first token, 2nd turn | same, cold | prefix reused |\n" + "|---" * 9 + "|")
    for name in args.models or [n for n in pulled() if "gemma" not in n]:
        asyncio.run(measure(name, args))


if __name__ == "__main__":
    main()
