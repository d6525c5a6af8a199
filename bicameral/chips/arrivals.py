"""Open-loop arrivals: requests come when they come, however long the answers before them take.

A load that waits for answers before it asks again hides every stall from its own latencies
(coordinated omission). Here the moments are drawn first, and latency counts from them.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

T = TypeVar("T")


def poisson(rate: float, count: int, seed: str) -> tuple[float, ...]:
    """`count` moments in seconds, the first at 0, with exponential gaps of mean 1 / `rate`.

    The same seed gives the same moments on every machine. Raises ValueError if rate or count is
    not above 0.
    """
    if not (rate > 0 and count > 0):
        raise ValueError("a rate and a count of arrivals must be above 0")
    drawn = random.Random(seed)  # noqa: S311 - a load, no secret
    moments = [0.0]
    while len(moments) < count:
        moments.append(moments[-1] + drawn.expovariate(rate))
    return tuple(moments)


async def open_loop(
    moments: Sequence[float], send: Callable[[int, float], Awaitable[T]]
) -> list[T]:
    """Await `send(number, planned)` for each moment, started at it, whatever is still running.

    `planned` is the loop's time at which the request was due; results are in the order of moments.
    If one send raises, the others are cancelled and it flies.
    """
    loop = asyncio.get_running_loop()
    began = loop.time()
    async with asyncio.TaskGroup() as group:
        tasks = []
        for number, moment in enumerate(moments):
            due = began + moment
            await asyncio.sleep(max(0.0, due - loop.time()))
            tasks.append(group.create_task(_whole(send(number, due))))
    return [task.result() for task in tasks]


async def _whole(work: Awaitable[T]) -> T:
    return await work
