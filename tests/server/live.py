"""The real server on a loopback port, for tests: in the test's own loop or in a thread.

async with serving(CONFIG) as live:
    live.base_url   # http://127.0.0.1:PORT/v1, what an OpenAI client wants
    live.brain      # to look at scripted models

with served(CONFIG) as live:      # for clients that block
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any

from msgspec.structs import replace

from bicameral.brain import Brain
from bicameral.config import Config, parse
from bicameral.server.serve import Server
from bicameral.server.serve import serving as serving_brain

ECHO = """
[models.echo]
engine = "scripted"
"""


@dataclass(frozen=True)
class Live:
    """A running server."""

    server: Server
    brain: Brain

    @property
    def url(self) -> str:
        return self.server.url

    @property
    def base_url(self) -> str:
        return f"{self.server.url}/v1"

    def scripted(self, name: str) -> Any:
        """The scripted model called `name`, which counts its runs and cancellations."""
        return self.brain.model(name)._model


@asynccontextmanager
async def serving(config: str | Config = ECHO, **options: Any) -> AsyncIterator[Live]:
    """A server in this loop; `options` are ServerOptions' fields."""
    if isinstance(config, str):
        config = parse(config, "test")
    settings = replace(config.server, **{"port": 0, "drain_timeout": 1.0, **options})
    async with Brain.open(config) as brain, serving_brain(brain, settings) as server:
        yield Live(server, brain)


@contextmanager
def served(config: str | Config = ECHO, **options: Any) -> Iterator[Live]:
    """A server in a thread with a loop of its own."""
    started: list[Live] = []
    ready, failed = threading.Event(), []
    stop: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []

    async def main() -> None:
        async with serving(config, **options) as live:
            over = asyncio.Event()
            stop.append((asyncio.get_running_loop(), over))
            started.append(live)
            ready.set()
            await over.wait()

    def body() -> None:
        try:
            asyncio.run(main())
        except BaseException as error:
            failed.append(error)
            raise
        finally:
            ready.set()

    thread = threading.Thread(target=body, daemon=True)
    thread.start()
    ready.wait(30)
    if failed:
        raise failed[0]
    try:
        yield started[0]
    finally:
        loop, over = stop[0]
        loop.call_soon_threadsafe(over.set)
        thread.join(30)
