"""Local models: our server against the same binding used bare and llama.cpp's own HTTP server.

    python bench/local.py [--rounds 5] [--tokens 64] [--threads N] [MODEL ...]

Rounds are interleaved and ratios taken within a round, so that a machine that slows down slows all
alike. Prints a table for docs/measurements.md.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import secrets
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from bicameral.engines.llama.cores import usable
from bicameral.engines.llama_cpp import _BATCH_LARGE, _BATCH_SMALL, _LARGE
from bicameral.engines.weights import catalogue, locate, pulled

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


def body(model: str, tokens: int, *turns: str, cached: bool = False) -> dict[str, Any]:
    """A streamed chat body; `turns` alternate between user and assistant."""
    roles = ("user", "assistant")
    return {
        "model": model,
        "messages": [{"role": roles[i % 2], "content": text} for i, text in enumerate(turns)],
        "max_tokens": tokens,
        "temperature": 0,
        "ignore_eos": True,
        "cache_prompt": cached,
        "stream": True,
        "stream_options": {"include_usage": True},
    }


def ask(address: str, key: str, made: dict[str, Any]) -> tuple[float, float, dict[str, Any]]:
    """Over HTTP: tokens a second, seconds to the first piece of text, the usage."""
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    request = urllib.request.Request(
        f"{address}/v1/chat/completions", json.dumps(made).encode(), headers
    )
    began, first, used = time.perf_counter(), 0.0, {}
    with urllib.request.urlopen(request) as answer:
        for line in answer:
            if not line.startswith(b"data: {"):
                continue
            chunk = json.loads(line[6:])
            used = chunk.get("usage") or used
            if not first and any(c["delta"].get("content") for c in chunk["choices"]):
                first = time.perf_counter() - began
    return used["completion_tokens"] / (time.perf_counter() - began), first, used


@contextmanager
def served(name: str, threads: int) -> Iterator[str]:
    """`bicameral serve` with this one model, in its own process; gives its address."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "bicameral.toml")
        path.write_text(
            f'[models."{name}"]\nengine = "llama_cpp"\nweights = "{name}"\n'
            f"threads = {threads}\ncontext = {CONTEXT}\n"
        )
        command = [sys.executable, "-m", "bicameral", "serve", "--port", "0", "-c", str(path)]
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        try:
            line = next(line for line in process.stderr or () if "listening on" in line)
            yield json.loads(line)["message"].removeprefix("listening on ")
        finally:
            process.terminate()
            process.communicate()


def prefix(address: str, name: str, round_: int) -> tuple[float, float, int, int]:
    """First token of a second turn, of the same prompt cold; tokens reused, tokens of prompt."""
    turns = (f"{round_}. {PREFIX}", "Yes.", "Why?")
    ask(address, "", body(name, 4, turns[0], cached=True))
    _, warm, used = ask(address, "", body(name, 4, *turns, cached=True))
    _, cold, _ = ask(address, "", body(name, 4, *turns))
    return warm, cold, used["prompt_tokens_details"]["cached_tokens"], used["prompt_tokens"]


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


def measure(name: str, args: argparse.Namespace) -> None:
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=bare, args=(locate(name), args.threads, there))
    process.start()
    address, key = here.recv()
    rows, seen = [], []
    made = body(name, args.tokens, ASK)
    with served(name, args.threads) as url:
        for round_ in range(-1, args.rounds):  # the round before the first only warms up
            us, *_ = ask(url, "", made)
            here.send(made)
            binding = here.recv()
            http, *_ = ask(address, key, made)
            reuse = prefix(url, name, round_)
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
    for name in args.models or [name for name in pulled() if catalogue()[name].chat]:
        measure(name, args)


if __name__ == "__main__":
    main()
