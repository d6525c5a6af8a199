"""One process of bench/split.py: both hemispheres, or one of them.

python bench/split_worker.py whole|reasoner|perceiver SOCKET --cores 0,1 [--eyes SOCKET] ...
"""

from __future__ import annotations

import argparse
import asyncio
import os
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager, suppress
from typing import Any

from split_wire import Ask, Look, Seen, Told, packed, unpacked

from bicameral.errors import BicameralError, Broken
from bicameral.model import Model, collect
from bicameral.types import (
    NO_USAGE,
    Card,
    Delta,
    Done,
    Event,
    Image,
    Message,
    Modality,
    Price,
    Reach,
    Request,
    Sampling,
    Text,
)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("role", choices=("whole", "reasoner", "perceiver"))
    parser.add_argument("socket")
    parser.add_argument("--cores", type=lambda text: {int(n) for n in text.split(",")})
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--slots", type=int, default=2)
    parser.add_argument("--tokens", type=int, default=16)
    parser.add_argument("--weights", default="smollm2-135m")
    parser.add_argument("--eyes", default="", help="where the perceiver of a reasoner listens")
    return parser.parse_args()


# --- the models --------------------------------------------------------------------------------


@asynccontextmanager
async def eyes(threads: int) -> AsyncIterator[Model]:
    """Reading text in pictures, in this process."""
    from bicameral.engines import ocr

    options = ocr.Options(engine="ocr", threads=threads)
    async with ocr.open("ocr", options) as model:
        yield model


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


class Across:
    """Perception in the process at `path`, over a socket. What it had not answered when it died
    is sent again to the next one, so a crash costs time and no answer."""

    def __init__(self, path: str) -> None:
        self.crossed = 0
        self._path = path
        self._waiting: dict[int, tuple[bytes, asyncio.Future[Seen]]] = {}
        self._writer: asyncio.StreamWriter | None = None
        self._next = 0
        self.card = Card(
            name="ocr",
            engine="across",
            accepts=frozenset({Modality.IMAGE}),
            emits=frozenset({Modality.PERCEPT}),
            reach=Reach.DEVICE,
            price=Price(input=0, output=0),
        )

    async def stay(self) -> None:
        """Keep the connection up, for ever."""
        while True:
            with suppress(OSError, EOFError):
                reader, self._writer = await asyncio.open_unix_connection(self._path, limit=2**26)
                for message, _ in self._waiting.values():
                    self._writer.write(message)
                while True:
                    self._take(await unpacked(reader, Seen))
            self._writer = None
            await asyncio.sleep(0.05)

    def _take(self, seen: Seen) -> None:
        self.crossed += len(packed(seen))
        _, future = self._waiting.pop(seen.id, (b"", None))
        if future and not future.done():
            future.set_result(seen)

    async def run(self, request: Request) -> AsyncGenerator[Event]:
        for part in request.media:
            assert isinstance(part, Image)
            seen = await self._look(part.data or b"")
            if seen.error:
                raise Broken("ocr", seen.error)
            for percept in seen.percepts:
                yield Delta(percept, by="ocr")
        yield Done(usage=NO_USAGE, by="ocr")

    async def _look(self, picture: bytes) -> Seen:
        self._next += 1
        number, message = self._next, packed(Look(self._next, picture))
        future: asyncio.Future[Seen] = asyncio.get_running_loop().create_future()
        self._waiting[number] = message, future
        self.crossed += len(message)
        if self._writer:
            self._writer.write(message)
            await self._writer.drain()
        return await future


# --- serving -----------------------------------------------------------------------------------


async def look(model: Model, asked: Look) -> Seen:
    part = Image(data=asked.picture, media_type="image/png")
    request = Request(messages=(Message("user", (part,)),), output=Modality.PERCEPT)
    answer = await collect(model, request)
    return Seen(asked.id, answer.percepts, str(answer.error or ""))


async def answer(model: Model, sight: Model, asked: Ask, tokens: int) -> Told:
    told = Told(asked.id)
    if not asked.question:
        told.error = (await look(sight, Look(asked.id, asked.picture or b""))).error
        told.first = told.done = time.monotonic()
        return told
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


async def serve(path: str, kind: type, handle: Any) -> None:
    """Answer each `kind` that comes over the socket at `path` as `handle` does, for ever."""

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks: set[asyncio.Task[None]] = set()

        async def one(asked: Any) -> None:
            writer.write(packed(await handle(asked)))
            await writer.drain()

        with suppress(EOFError):
            while True:
                task = asyncio.create_task(one(await unpacked(reader, kind)))
                tasks.add(task)
                task.add_done_callback(tasks.discard)

    server = await asyncio.start_unix_server(connected, path, limit=2**26)
    async with server:
        await server.serve_forever()


async def main(args: argparse.Namespace) -> None:
    if args.role == "perceiver":
        async with eyes(args.threads) as sight:
            await serve(args.socket, Look, lambda asked: look(sight, asked))
    elif args.role == "whole":
        async with eyes(args.threads) as sight, reasoning(sight, args) as model:
            await serve(args.socket, Ask, lambda asked: answer(model, sight, asked, args.tokens))
    else:
        across = Across(args.eyes)
        link = asyncio.create_task(across.stay())

        async def handle(asked: Ask) -> Told:
            told = await answer(model, across, asked, args.tokens)
            told.crossed = across.crossed
            return told

        async with reasoning(across, args) as model:
            await serve(args.socket, Ask, handle)
        link.cancel()


if __name__ == "__main__":
    given = arguments()
    if given.cores:
        os.sched_setaffinity(0, given.cores)  # before the libraries count the cores
    asyncio.run(main(given))
