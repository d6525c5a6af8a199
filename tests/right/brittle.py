"""An engine that breaks when it is told to; the tests of Apart install it as a plugin."""

from __future__ import annotations

import asyncio
import hashlib
import os
import signal
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager

from bicameral.config import MemberOptions
from bicameral.errors import ConfigError, RequestError
from bicameral.model import admit
from bicameral.types import Card, Delta, Done, Embedding, Event, Image, Modality, Request, Text


class Options(MemberOptions, frozen=True, kw_only=True):
    opens: str = "well"


@asynccontextmanager
async def open(name: str, options: Options) -> AsyncIterator[Brittle]:
    if options.opens == "badly":
        raise ConfigError(f"[models.{name}] opens: badly, as it was told")
    if options.opens == "never":
        os._exit(7)
    yield Brittle(name)


class Brittle:
    def __init__(self, name: str) -> None:
        self.card = Card(
            name=name,
            engine="brittle",
            accepts=frozenset({Modality.TEXT, Modality.IMAGE}),
            emits=frozenset({Modality.TEXT, Modality.EMBEDDING}),
        )

    async def run(self, request: Request) -> AsyncGenerator[Event]:
        admit(self.card, request)
        word, _, rest = request.question.partition(" ")
        async for part in getattr(self, word)(rest, request):
            yield Delta(part, by=self.card.name)
        yield Done(by=self.card.name)

    async def say(self, rest: str, request: Request):
        yield Text(rest)

    async def pid(self, rest: str, request: Request):
        yield Text(str(os.getpid()))

    async def cores(self, rest: str, request: Request):
        yield Text(str(sorted(os.sched_getaffinity(0))))

    async def env(self, rest: str, request: Request):
        yield Text(os.environ.get(rest, ""))

    async def die(self, rest: str, request: Request):
        os.kill(os.getpid(), signal.SIGKILL)
        yield Text("never")

    async def once(self, rest: str, request: Request):
        if not os.access(rest, os.F_OK):
            os.mknod(rest)
            os.kill(os.getpid(), signal.SIGKILL)
        yield Text("the second time")

    async def half(self, rest: str, request: Request):
        yield Text("half")
        await asyncio.sleep(0.2)
        os.kill(os.getpid(), signal.SIGKILL)

    async def hang(self, rest: str, request: Request):
        time.sleep(1000)  # noqa: ASYNC251 - that is the fault
        yield Text("never")

    async def slow(self, rest: str, request: Request):
        try:
            await asyncio.sleep(1000)
        finally:
            if rest:
                os.mknod(rest)
        yield Text("never")

    async def deaf(self, rest: str, request: Request):
        while True:
            try:
                await asyncio.sleep(1000)
            except asyncio.CancelledError:
                continue
            yield Text("never")

    async def bug(self, rest: str, request: Request):
        raise ZeroDivisionError("oops")
        yield Text("never")

    async def refuse(self, rest: str, request: Request):
        raise RequestError("no such thing", param="thing", code="nothing")
        yield Text("never")

    async def count(self, rest: str, request: Request):
        for number in range(int(rest)):
            yield Text(f"{number} ")

    async def long(self, rest: str, request: Request):
        yield Embedding(tuple(float(n) for n in range(int(rest))))

    async def look(self, rest: str, request: Request):
        images = [part for m in request.messages for part in m.parts if isinstance(part, Image)]
        yield Text(" ".join(hashlib.sha256(image.data or b"").hexdigest() for image in images))

    async def shout(self, rest: str, request: Request):
        os.write(1, b"to stdout\n")
        os.write(2, b"to stderr\n")
        yield Text("shouted")
