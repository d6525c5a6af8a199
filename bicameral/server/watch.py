"""POST /v1/watch: a stream watched for a client, told as server-sent events until it hangs up.

What may be watched is the config's to say: sources it names in [watch], and recordings at public
addresses if it allows those. A client can name no file and no address of this machine's network.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol

import msgspec
from msgspec import Meta, Struct

from bicameral.brain import Brain
from bicameral.config import nearest
from bicameral.errors import NotFound, RequestError, Unsupported
from bicameral.right.stream.asker import Wish
from bicameral.right.stream.clock import Wall
from bicameral.right.stream.gates import open_gate
from bicameral.right.stream.notices import Notice
from bicameral.right.stream.settings import GateName, WatchOptions, options
from bicameral.right.stream.sources import Source, open_source
from bicameral.right.stream.watch import Watch
from bicameral.server import decode
from bicameral.server.chat import name_model
from bicameral.server.errors import Refused
from bicameral.server.exchange import (
    EVENTS,
    NO_BUFFER,
    NO_CACHE,
    Desk,
    Exchange,
    Receive,
    Scope,
    Send,
)
from bicameral.types import Modality, Reach
from bicameral.watching import asked, asking, changed

PATH = "/v1/watch"
_ALIVE = 15.0
_SUFFIX = {"audio/wav": ".wav", "audio/flac": ".flac", "audio/ogg": ".ogg", "audio/mpeg": ".mp3"}


class WatchBody(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of POST /v1/watch: exactly one of `source`, a name of the config, and `url`.

    `ask` is what to look out for, as a statement. `picture`: alarms bring the moment along as a
    data URL. `realtime`: a recording is played at its own pace. The others are as in [watch];
    `wakes` may only be less than there.
    """

    ask: Annotated[str, Meta(min_length=1, max_length=2000)]
    source: Annotated[str, Meta(min_length=1, max_length=256)] | None = None
    url: Annotated[str, Meta(min_length=1, max_length=8192)] | None = None
    kind: Literal["video", "audio"] = "video"
    model: str | None = None
    picture: bool = False
    realtime: bool = False
    gate: GateName | None = None
    threshold: Annotated[float, Meta(gt=0)] | None = None
    wakes: Annotated[float, Meta(gt=0)] | None = None
    cooldown: Annotated[float, Meta(ge=0)] | None = None
    recheck: Annotated[float, Meta(ge=0)] | None = None


class Fetches(Protocol):
    """What gets a recording by URL, within its own limits; see bicameral.right.fetch."""

    async def get(
        self, url: str, kind: Modality, *, reach: Reach, deadline: float | None, param: str
    ) -> tuple[bytes, str]:
        """The body and its media type; RequestError with `param`."""
        ...


Fetching = Callable[[], AbstractAsyncContextManager[Fetches]]


class Watches:
    """Watches sources for clients; `fetching` opens what gets recordings by URL."""

    def __init__(self, brain: Brain, desk: Desk, fetching: Fetching | None = None) -> None:
        self._brain = brain
        self._desk = desk
        self._fetching = fetching or self._fetch
        self._running = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One watch: the first notice decides the status, then it streams until the end."""
        async with Exchange(self._desk, "watch", scope, receive, send) as exchange:
            exchange.admit()
            tree = decode.parse(await exchange.body(), self._desk.options.max_depth)
            body = decode.typed(tree, WatchBody)
            limits = decode.limits(exchange.headers)
            if "budget" in limits:
                raise Unsupported(
                    "x-bicameral-budget: a watch has no end that could be priced; "
                    "limit its wakes instead", param="x-bicameral-budget",
                )  # fmt: skip
            name_model(
                exchange, self._brain, self._brain.default if body.model is None else body.model
            )
            with self._counted():
                await self._watch(exchange, body, limits)

    async def _watch(self, exchange: Exchange, body: WatchBody, limits: dict[str, Any]) -> None:
        known = options(self._brain.config)
        reach, deadline = limits.get("reach", Reach.PUBLIC), limits.get("deadline")
        settings = changed(known, _given(body, known))
        clock = Wall()
        ask = asking(self._brain, exchange.model, reach=reach, caller=exchange.caller)
        async with self._source(body, known, clock, reach, deadline) as source:
            watch = Watch(
                source, open_gate(settings.gate), Wish(ask=asked(body.ask), picture=body.picture),
                ask, settings, realtime=body.realtime, clock=clock,
            )  # fmt: skip
            async with _ending(watch, deadline), aclosing(_alive(watch.run())) as told:
                async for notice in told:
                    await exchange.write(_event(notice), [EVENTS, NO_CACHE, NO_BUFFER])
        await exchange.write(b"data: [DONE]\n\n", [EVENTS, NO_CACHE, NO_BUFFER])
        await exchange.end()

    @asynccontextmanager
    async def _source(
        self, body: WatchBody, known: WatchOptions, clock: Wall, reach: Reach,
        deadline: float | None,
    ) -> AsyncIterator[Source]:  # fmt: skip
        if (body.source is None) == (body.url is None):
            raise RequestError("source: give either source or url", param="source")
        if body.source is not None:
            yield open_source(_named(body.source, known), clock, label=body.source)
            return
        if not known.urls:
            raise RequestError(
                "url: this server watches no addresses ([watch] urls is false); name a source",
                param="url", code="blocked_url",
            )  # fmt: skip
        async with self._fetching() as fetcher:
            data, media_type = await fetcher.get(
                body.url or "", Modality(body.kind), reach=reach, deadline=deadline, param="url"
            )
        with tempfile.TemporaryDirectory(prefix="bicameral-watch-") as folder:
            path = Path(folder) / f"recording{_SUFFIX.get(media_type, '.video')}"
            await asyncio.to_thread(path.write_bytes, data)
            del data
            yield open_source(str(path), clock, label="url")

    @contextmanager
    def _counted(self) -> Iterator[None]:
        most = options(self._brain.config).streams
        if self._running >= most:
            raise Refused(
                429, f"{most} streams are being watched already", "too_many_requests",
                headers=[(b"retry-after", b"30")],
            )  # fmt: skip
        self._running += 1
        try:
            yield
        finally:
            self._running -= 1

    def _fetch(self) -> AbstractAsyncContextManager[Fetches]:
        from bicameral.right import fetch

        return fetch.open(self._brain.config.right)


def _named(name: str, known: WatchOptions) -> str:
    """What the config calls `name`; nothing else can be watched."""
    if name not in known.sources:
        near = nearest(name, tuple(known.sources)) if known.sources else "[watch] sources is empty"
        raise NotFound(
            f"source: this server has none called '{name}'; {near}",
            param="source", code="unknown_source",
        )  # fmt: skip
    return known.sources[name]


def _given(body: WatchBody, known: WatchOptions) -> dict[str, Any]:
    names = ("gate", "threshold", "wakes", "cooldown", "recheck")
    given = {name: value for name in names if (value := getattr(body, name)) is not None}
    if given.get("wakes", 0) > known.wakes:
        raise RequestError(
            f"wakes: this server asks at most {known.wakes:g} questions a minute", param="wakes"
        )
    return given


def _event(notice: Notice | None) -> bytes:
    """A server-sent event; a comment that keeps the line open if there is nothing to tell."""
    return b": \n\n" if notice is None else b"data: %b\n\n" % msgspec.json.encode(notice)


async def _alive(told: AsyncGenerator[Notice]) -> AsyncGenerator[Notice | None]:
    """`told`, and None whenever there was nothing for a while after the first."""
    async with aclosing(told):
        waiting: asyncio.Task[Notice] | None = None
        try:
            while True:
                waiting = waiting or asyncio.ensure_future(anext(told))
                done, _ = await asyncio.wait({waiting}, timeout=_ALIVE)
                if not done:
                    yield None
                    continue
                notice, waiting = await waiting, None
                yield notice
        except StopAsyncIteration:
            return
        finally:
            if waiting is not None:
                waiting.cancel()
                await asyncio.wait({waiting})


@asynccontextmanager
async def _ending(watch: Watch, deadline: float | None) -> AsyncIterator[None]:
    """The watch ends well at the deadline, a time.monotonic() reading."""
    if deadline is None:
        yield
        return
    loop = asyncio.get_running_loop()
    stopping = asyncio.ensure_future(_stop_at(watch, deadline - loop.time()))
    try:
        yield
    finally:
        stopping.cancel()
        await asyncio.gather(stopping, return_exceptions=True)


async def _stop_at(watch: Watch, seconds: float) -> None:
    await asyncio.sleep(max(0.0, seconds))
    await watch.stop()
