"""What Ray costs a streamed request, against the same member here and in a process of its own.

    nice python bench/cluster.py [--requests 100] [--rounds 3]

A scripted member says 50 words, at once or one every ten milliseconds as a model would, to one
reader or to sixteen. Processor time is that of all processes: ours, the member's and, for Ray, its
raylet, its server of global state and its agents too. Everything runs on this machine.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import psutil

from bicameral import engines
from bicameral.cluster import member
from bicameral.cluster.settings import Settings as ClusterSettings
from bicameral.model import Model
from bicameral.options import ClusterOptions
from bicameral.right import apart
from bicameral.types import Delta, Request

WORDS = 50
TABLE: dict[str, Any] = {"engine": "scripted", "reply": " ".join(f"w{n}" for n in range(WORDS))}
ASK = Request.ask("?")


@asynccontextmanager
async def here(delay: float) -> AsyncIterator[Model]:
    engine = engines.find("scripted")
    keys = {key: value for key, value in TABLE.items() if key != "engine"}
    options = engine.Options(engine="scripted", delay=delay, **keys)
    async with engine.open("m", options) as model:
        yield model


@asynccontextmanager
async def in_a_process(delay: float) -> AsyncIterator[Model]:
    async with apart.open("m", {**TABLE, "delay": delay}, apart.Settings(), "bench") as model:
        yield model


@asynccontextmanager
async def on_ray(delay: float) -> AsyncIterator[Model]:
    settings = ClusterSettings(num_cpus=0.1)
    where = ClusterOptions(address="local")
    async with member.open("m", {**TABLE, "delay": delay}, settings, where, "bench") as model:
        yield model


WAYS = {"in this process": here, "apart": in_a_process, "Ray, local": on_ray}


def processor() -> float:
    """Seconds of all our processes that still run."""
    total = 0.0
    for process in (psutil.Process(), *psutil.Process().children(recursive=True)):
        try:
            times = process.cpu_times()
        except psutil.NoSuchProcess:
            continue
        total += times.user + times.system
    return total


async def stream(model: Model) -> tuple[float, float]:
    """Seconds to the first word and to the end."""
    began, first, words = time.perf_counter(), None, 0
    async with aclosing(model.run(ASK)) as events:
        async for event in events:
            first = first or time.perf_counter() - began
            words += isinstance(event, Delta)
    assert words == WORDS
    assert first is not None
    return first, time.perf_counter() - began


async def measure(model: Model, requests: int, readers: int) -> tuple[float, float, float]:
    """Milliseconds: processor time a request, to the first word, to the end (medians)."""
    left = iter(range(requests))
    seen: list[tuple[float, float]] = []

    async def read() -> None:
        seen.extend([await stream(model) for _ in left])

    await stream(model)
    busy, wall = processor(), time.perf_counter()
    await asyncio.sleep(1)
    idle = (processor() - busy) / (time.perf_counter() - wall)
    busy, wall = processor(), time.perf_counter()
    await asyncio.gather(*(read() for _ in range(readers)))
    used = processor() - busy - idle * (time.perf_counter() - wall)
    first, whole = (statistics.median(column) for column in zip(*seen, strict=True))
    return 1000 * used / requests, 1000 * first, 1000 * whole


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--requests", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    print("| words | readers | way | CPU ms/request | x | first word ms | whole ms | x |")
    print("|---|---|---|---|---|---|---|---|")
    for delay in (0.0, 0.01):
        async with AsyncExitStack() as stack:
            models = {
                way: await stack.enter_async_context(opens(delay)) for way, opens in WAYS.items()
            }
            for readers in (1, 16):
                await rows(models, delay, readers, given.requests, given.rounds)


async def rows(
    models: dict[str, Model], delay: float, readers: int, requests: int, rounds: int
) -> None:
    """The best of the rounds of each way, interleaved."""
    requests = requests if not delay else max(readers, requests // 4)
    found: dict[str, list[tuple[float, float, float]]] = {way: [] for way in models}
    for _ in range(rounds):
        for way, model in models.items():
            found[way].append(await measure(model, requests, readers))
    best = {way: [min(column) for column in zip(*each, strict=True)] for way, each in found.items()}
    base = best["in this process"]
    pace = "at once" if not delay else f"every {1000 * delay:g} ms"
    for way, (used, first, whole) in best.items():
        print(
            f"| {pace} | {readers} | {way} | {used:.2f} | {used / base[0]:.1f} | {first:.2f} | "
            f"{whole:.1f} | {whole / base[2]:.2f} |"
        )


if __name__ == "__main__":
    asyncio.run(main())
