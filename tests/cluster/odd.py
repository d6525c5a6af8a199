"""An engine that does what the question says; the tests install it as a plugin on every node."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import signal
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import ray

from bicameral.config import MemberOptions
from bicameral.engines.told import Told
from bicameral.errors import Broken, ConfigError, RequestError
from bicameral.model import admit
from bicameral.types import Card, Delta, Done, Event, Image, Modality, Reach, Request, Text, Usage


class Options(MemberOptions, frozen=True, kw_only=True):
    opens: str = "well"
    delay: float = 0.0
    closed: str = ""


@asynccontextmanager
async def open(name: str, options: Options) -> AsyncIterator[Odd]:
    if options.opens == "badly":
        raise ConfigError(f"[models.{name}] opens: badly, as it was told")
    if options.opens == "never":
        os._exit(7)
    yield Odd(name, options)
    if options.closed:
        note(options.closed, "a", "closed\n")


def note(path: str, mode: str, text: str) -> None:
    with Path(path).open(mode) as file:
        file.write(text)


class Odd:
    def __init__(self, name: str, options: Options) -> None:
        self.options = options
        self.running = self.cancelled = self.most = 0
        self.card = Card(
            name=name,
            engine="odd",
            accepts=frozenset({Modality.TEXT, Modality.IMAGE}),
            reach=options.reach_or(Reach.DEVICE),
            owner=options.owner,
            price=options.price(),
            chip="none",
        )

    def run(self, request: Request) -> AsyncGenerator[Event]:
        return self.telling(request, Told())

    async def telling(self, request: Request, told: Told) -> AsyncGenerator[Event]:
        admit(self.card, request)
        word, _, rest = request.question.partition(" ")
        said, finished = 0, False
        self.running += 1
        self.most = max(self.most, self.running)
        told.done = Done(usage=Usage(prompt_tokens=11, completion_tokens=0))
        try:
            async for text in getattr(self, word)(rest, request):
                said += 1
                told.done = Done(usage=Usage(prompt_tokens=11, completion_tokens=said))
                yield Delta(Text(text), by=self.card.name)
            finished = True
            if word == "twice":
                told.lost.append(Broken(self.card.name, "the first connection broke"))
            yield told.done
        finally:
            self.running -= 1
            self.cancelled += not finished

    async def say(self, rest: str, request: Request):
        for word in rest.split():
            await asyncio.sleep(self.options.delay)
            yield f"{word} "

    async def twice(self, rest: str, request: Request):
        yield rest

    async def pid(self, rest: str, request: Request):
        yield str(os.getpid())

    async def where(self, rest: str, request: Request):
        yield ray.get_runtime_context().get_node_id()

    async def tally(self, rest: str, request: Request):
        yield json.dumps([self.running - 1, self.cancelled, self.most])

    async def count(self, rest: str, request: Request):
        for number in range(int(rest)):
            yield f"{number} "

    async def made(self, rest: str, request: Request):
        """Counts up in a file as fast as it may, so that one sees how far it got."""
        for number in range(int(rest.split()[0])):
            note(rest.split()[1], "w", str(number))
            yield f"{number} "

    async def half(self, rest: str, request: Request):
        yield "half"
        await asyncio.sleep(0.2)
        os.kill(os.getpid(), signal.SIGKILL)

    async def die(self, rest: str, request: Request):
        os.kill(os.getpid(), signal.SIGKILL)
        yield "never"

    async def once(self, rest: str, request: Request):
        if not os.access(rest, os.F_OK):
            os.mknod(rest)
            os.kill(os.getpid(), signal.SIGKILL)
        yield "the second time"

    async def slow(self, rest: str, request: Request):
        yield "begun "
        await asyncio.sleep(float(rest or 1000))
        yield "done"

    async def deaf(self, rest: str, request: Request):
        yield "begun"
        while True:
            try:
                await asyncio.sleep(1000)
            except asyncio.CancelledError:
                continue

    async def bug(self, rest: str, request: Request):
        raise ZeroDivisionError("oops")
        yield "never"

    async def refuse(self, rest: str, request: Request):
        raise RequestError("no such thing", param="thing", code="nothing")
        yield "never"

    async def look(self, rest: str, request: Request):
        images = [part for m in request.messages for part in m.parts if isinstance(part, Image)]
        yield " ".join(hashlib.sha256(image.data or b"").hexdigest() for image in images)

    async def left(self, rest: str, request: Request):
        yield str(request.remaining())

    async def env(self, rest: str, request: Request):
        yield os.environ.get(rest, "")
