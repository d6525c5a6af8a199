"""One process of bench/split.py: reasoning, and perception with it or in a process of its own.

python bench/split_worker.py SOCKET --cores 0,1 [--eyes CORE] ...
"""

from __future__ import annotations

import argparse
import asyncio
import os
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager, suppress
from typing import Any

import msgspec
from split_wire import Ask, Told, packed, unpacked

from bicameral.errors import BicameralError
from bicameral.model import Model, collect
from bicameral.types import (
    Delta,
    Done,
    Event,
    Image,
    Message,
    Modality,
    Request,
    Sampling,
    Text,
)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("socket")
    parser.add_argument("--cores", type=lambda text: {int(n) for n in text.split(",")})
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--slots", type=int, default=2)
    parser.add_argument("--tokens", type=int, default=16)
    parser.add_argument("--weights", default="smollm2-135m")
    parser.add_argument("--eyes", type=int, help="the core of a perception that runs apart")
    return parser.parse_args()


# --- the models --------------------------------------------------------------------------------


@asynccontextmanager
async def eyes(args: argparse.Namespace) -> AsyncIterator[Model]:
    """Reading text in pictures, here or apart; pins this process before it counts its cores."""
    table = {"engine": "ocr", "threads": args.threads}
    if args.eyes is None:
        from bicameral.engines import ocr

        os.sched_setaffinity(0, args.cores)
        async with ocr.open("ocr", ocr.Options(**table)) as model:
            yield model
    else:
        from bicameral.right import apart

        async with apart.open("ocr", table, apart.Settings(cores=(args.eyes,)), "bench") as model:
            os.sched_setaffinity(0, args.cores)
            yield Counted(model)


@asynccontextmanager
async def reasoning(sight: Model, args: argparse.Namespace) -> AsyncIterator[Model]:
    """The language model of this process, to which `sight` tells what is in a picture."""
    from bicameral.engines import llama_cpp
    from bicameral.right.perceiving import Perceiving
    from bicameral.right.senses import Senses

    options = llama_cpp.Options(
        engine="llama_cpp",
        weights=args.weights,
        threads=args.threads,
        slots=args.slots,
        context=1024,
    )
    async with llama_cpp.open("llm", options) as model:
        yield Perceiving(model, Senses([sight]))


class Counted:
    """Perception in a process of its own, and how much goes to it and back."""

    def __init__(self, model: Model) -> None:
        self.card = model.card
        self.crossed = 0
        self._model = model

    async def run(self, request: Request) -> AsyncGenerator[Event]:
        self.crossed += len(msgspec.msgpack.encode(request))
        async with aclosing(self._model.run(request)) as events:
            async for event in events:
                self.crossed += len(msgspec.msgpack.encode(event))
                yield event


# --- serving -----------------------------------------------------------------------------------


async def looked(model: Model, asked: Ask) -> Told:
    part = Image(data=asked.picture, media_type="image/png")
    request = Request(messages=(Message("user", (part,)),), output=Modality.PERCEPT)
    answer = await collect(model, request)
    now = time.monotonic()
    return Told(asked.id, first=now, done=now, error=str(answer.error or ""))


async def answer(model: Model, sight: Model, asked: Ask, tokens: int) -> Told:
    if not asked.question:
        return await looked(sight, asked)
    told = Told(asked.id)
    parts: list[Any] = [Text(asked.question)]
    if asked.picture is not None:
        parts.insert(0, Image(data=asked.picture, media_type="image/png"))
    request = Request(
        messages=(Message("user", tuple(parts)),),
        sampling=Sampling(max_tokens=tokens, temperature=0.0),
    )
    try:
        await _run(model, request, told)
    except BicameralError as error:
        told.error = str(error)
    return told


async def _run(model: Model, request: Request, told: Told) -> None:
    last = 0.0
    async with aclosing(model.run(request)) as events:
        async for event in events:
            now = time.monotonic()
            if isinstance(event, Delta) and isinstance(event.part, Text):
                told.first = told.first or now
                told.gap = max(told.gap, now - last if last else 0.0)
                told.text += event.part.text
                last = now
            elif isinstance(event, Done):
                told.tokens = event.usage.completion_tokens or 0
    told.done = time.monotonic()
    told.first = told.first or told.done


async def serve(path: str, handle: Callable[[Ask], Awaitable[Told]]) -> None:
    """Answer what comes over the socket at `path`, for ever."""

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks: set[asyncio.Task[None]] = set()

        async def one(asked: Ask) -> None:
            writer.write(packed(await handle(asked)))
            await writer.drain()

        with suppress(EOFError):
            while True:
                task = asyncio.create_task(one(await unpacked(reader, Ask)))
                tasks.add(task)
                task.add_done_callback(tasks.discard)

    server = await asyncio.start_unix_server(connected, path, limit=2**26)
    async with server:
        await server.serve_forever()


async def main(args: argparse.Namespace) -> None:
    async with eyes(args) as sight, reasoning(sight, args) as model:

        async def handle(asked: Ask) -> Told:
            told = await answer(model, sight, asked, args.tokens)
            told.crossed = sight.crossed if isinstance(sight, Counted) else 0
            return told

        await serve(args.socket, handle)


if __name__ == "__main__":
    asyncio.run(main(arguments()))
