"""/v1/videos over HTTP: OpenAI's routes, and `cancel` and `sync`."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import aclosing
from typing import BinaryIO

import msgspec
from msgspec.structs import replace
from starlette.requests import Request as HttpRequest
from starlette.responses import Response
from starlette.routing import Route

from bicameral.brain import Brain
from bicameral.errors import NotFound, RequestError
from bicameral.model import admit
from bicameral.server import decode, idempotency
from bicameral.server.chat import name_model
from bicameral.server.errors import Refused
from bicameral.server.exchange import JSON, Desk, Exchange, Headers, Receive, Scope, Send
from bicameral.server.idempotency import KEY
from bicameral.server.videos import form, limits
from bicameral.server.videos.clip import BYTES, EXTENSIONS, made, within
from bicameral.server.videos.form import Asked
from bicameral.server.videos.job import Job
from bicameral.server.videos.jobs import Jobs
from bicameral.server.videos.table import Repeat
from bicameral.types import Event, Modality

log = logging.getLogger("bicameral.server")
PATH = "/v1/videos"
SYNC = f"{PATH}/sync"
_CHUNK = 256 * 1024
_WHOLE = (b"accept-ranges", b"none")
_NO_SNIFFING = (b"x-content-type-options", b"nosniff")
Bare = Callable[[Scope, Receive, Send], Awaitable[None]]


class Videos:
    """Answers out of `brain`; its table is opened once a model of it makes videos."""

    def __init__(self, brain: Brain, desk: Desk) -> None:
        self._brain = brain
        self._desk = desk
        self._options = brain.config.videos
        self._jobs: Jobs | None = None
        self._opening = asyncio.Lock()
        self._closed = False

    async def start(self) -> None:
        """Go on with the jobs of the table; if it cannot be opened now the log says why."""
        if self._options.enabled and _makers(self._brain):
            try:
                await self._opened()
            except Refused as error:
                log.error("no videos are made: %s", error)

    async def close(self) -> None:
        """Give back what runs; nothing is answered after this."""
        jobs, self._jobs, self._closed = self._jobs, None, True
        if jobs is not None:
            await jobs.close()

    async def counts(self) -> Mapping[str, int] | None:
        """How many jobs there are of each status; None if none are taken."""
        if self._jobs is None:
            return None
        try:
            return await self._jobs.counts()
        except Refused:  # the log says why; what else is counted can be told all the same
            return None

    def bare(self) -> dict[str, Bare]:
        """The routes that take bodies."""
        return {PATH: self.create, SYNC: self.sync}

    def table(self) -> list[Route]:
        """The others, and what of those is not a POST."""
        return [
            Route(PATH, self.page, methods=["GET", "POST"]),
            Route(SYNC, self.page, methods=["POST"]),
            Route(f"{PATH}/{{video_id}}", self.job, methods=["GET", "DELETE"]),
            Route(f"{PATH}/{{video_id}}/content", self.content, methods=["GET"]),
            Route(f"{PATH}/{{video_id}}/cancel", self.cancel, methods=["POST"]),
        ]

    # --- making ----------------------------------------------------------------------------------

    async def create(self, scope: Scope, receive: Receive, send: Send) -> None:
        """A job; with an Idempotency-Key that made one before, that job as it is now."""
        async with Exchange(self._desk, "videos", scope, receive, send) as exchange:
            exchange.admit()
            jobs = await self._opened()
            body = await exchange.body(self._options.max_upload)
            repeat = await _repeat(exchange, body)
            job = await jobs.known(repeat) if repeat else None
            fresh = False
            if job is None:
                asked = await self._asked(exchange, body)
                await limits.foresee(self._brain, asked.request, exchange.model, exchange.caller)
                wait, caller = asked.request.remaining(), exchange.caller
                job, fresh = await jobs.add(asked, exchange.model, caller, wait=wait, repeat=repeat)
            exchange.model = job.model
            await exchange.whole(_json(job), [JSON] if fresh else [JSON, idempotency.REPLAYED])

    async def sync(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The clip itself; who hangs up cancels it."""
        async with Exchange(self._desk, "videos.sync", scope, receive, send) as exchange:
            exchange.admit()
            jobs = await self._opened()
            body = await exchange.body(self._options.max_upload)
            if KEY in exchange.headers and await exchange.repeated(body, self._brain.till):
                return
            asked = await self._asked(exchange, body)
            request = exchange.booked(replace(asked.request, id=exchange.id.decode()))
            async with within(request.remaining(), exchange.model), jobs.slot():
                run = self._brain.run(request, exchange.model, caller=exchange.caller)
                async with aclosing(run) as events, aclosing(_seen(exchange, events)) as seen:
                    most = self._options.max_result
                    clip = await made(seen, exchange.model, most=most, tell=lambda done: None)
            kind = (b"content-type", clip.media_type.encode())
            await exchange.whole(clip.data, [kind, _WHOLE, _NO_SNIFFING])

    async def _asked(self, exchange: Exchange, body: bytes) -> Asked:
        """What is asked, admitted by its model; in a thread, as there may be a lot of it."""
        kind = exchange.headers.get(b"content-type", b"")
        asked = await asyncio.to_thread(form.read, body, kind, self._desk.options)
        model = asked.model or _default(self._brain, exchange.caller)
        name_model(exchange, self._brain, model)
        request = replace(asked.request, **decode.limits(exchange.headers))
        admit(self._brain.model(model).card, request)
        return Asked(model, request)

    # --- looking after ---------------------------------------------------------------------------

    async def page(self, request: HttpRequest) -> Response:
        """The caller's jobs."""
        query = request.query_params
        limit = query.get("limit", "20")
        if not (limit.isascii() and limit.isdigit() and 1 <= int(limit[:9]) <= 100):
            raise RequestError("limit: must be from 1 to 100", param="limit")
        order = query.get("order", "desc")
        if order not in ("asc", "desc"):
            raise RequestError("order: must be asc or desc", param="order")
        jobs, more = await (await self._opened()).page(
            request.user, after=query.get("after"), limit=int(limit), newest=order == "desc"
        )
        told = {
            "object": "list",
            "data": [job.shown() for job in jobs],
            "first_id": jobs[0].id if jobs else None,
            "last_id": jobs[-1].id if jobs else None,
            "has_more": more,
        }
        return _response(msgspec.json.encode(told))

    async def job(self, request: HttpRequest) -> Response:
        """One job; a DELETE leaves nothing of it."""
        jobs = await self._opened()
        if request.method == "DELETE":
            return await _deleted(jobs, request)
        return _response(_json(await jobs.find(_id(request), request.user)))

    async def cancel(self, request: HttpRequest) -> Response:
        """The job, which stays as cancelled."""
        jobs = await self._opened()
        return _response(_json(await jobs.cancel(_id(request), request.user)))

    async def content(self, request: HttpRequest) -> Response:
        """The clip."""
        variant = request.query_params.get("variant", "video")
        if variant != "video":
            raise RequestError("variant: only 'video' is kept", param="variant", code="unsupported")
        jobs = await self._opened()
        job, file = await jobs.clip(_id(request), request.user)
        kind = job.media_type or BYTES
        name = f"{job.id}.{EXTENSIONS.get(kind, 'bin')}"
        headers: Headers = [
            (b"content-type", kind.encode()),
            (b"content-disposition", f'attachment; filename="{name}"'.encode()),
            _WHOLE,
            _NO_SNIFFING,
        ]
        return _File(file, headers)

    # --- whether there is anything ---------------------------------------------------------------

    async def _opened(self) -> Jobs:
        """The jobs; Refused or NotFound if there are none to be had here."""
        if not self._options.enabled:
            raise Refused(404, "videos are switched off: [videos] enabled is false", "videos_off")
        if self._jobs is not None:
            return self._jobs
        if not _makers(self._brain):
            raise _nobody()
        async with self._opening:
            if self._closed:
                raise Refused(503, "the server is shutting down", "shutting_down")
            if self._jobs is None:
                metrics = self._desk.metrics
                self._jobs = await Jobs.open(self._options, self._brain, metrics)
            return self._jobs


def _makers(brain: Brain) -> list[str]:
    """The models that make videos, in the order in which they are asked for."""
    return [name for name, model in brain.models.items() if Modality.VIDEO in model.card.emits]


def _default(brain: Brain, caller: str) -> str:
    """The first that this caller may ask; NotFound if there is none."""
    key = brain.till.key(caller) if brain.till else None
    for name in _makers(brain):
        if key is None or key.may_ask(name):
            return name
    raise _nobody()


def _nobody() -> NotFound:
    return NotFound(
        "model: no model of this server makes videos; add one of engine 'vdt'",
        param="model",
        code="model_not_found",
    )


async def _repeat(exchange: Exchange, body: bytes) -> Repeat | None:
    """What the request's Idempotency-Key stands for, if it has one."""
    key = exchange.headers.get(KEY)
    if key is None:
        return None
    who = idempotency.named(key, exchange.caller)
    return Repeat(who, await idempotency.asking("videos", exchange.headers, body))


async def _seen(exchange: Exchange, events: AsyncIterator[Event]) -> AsyncGenerator[Event]:
    async for event in events:
        exchange.saw(event)
        yield event
    exchange.over()


async def _deleted(jobs: Jobs, request: HttpRequest) -> Response:
    id = _id(request)
    await jobs.delete(id, request.user)
    told = {"id": id, "object": "video.deleted", "deleted": True}
    return _response(msgspec.json.encode(told))


class _File(Response):
    """What is in an open file, piece by piece; it is closed however that ends."""

    def __init__(self, file: BinaryIO, headers: Headers) -> None:
        super().__init__()
        self._file = file
        self._left = os.fstat(file.fileno()).st_size
        self.raw_headers = [*headers, (b"content-length", b"%d" % self._left)]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        head = {"type": "http.response.start", "status": 200, "headers": self.raw_headers}
        with self._file as file:
            await send(head)
            while self._left > 0 and (data := await asyncio.to_thread(file.read, _CHUNK)):
                self._left -= len(data)
                more = self._left > 0
                await send({"type": "http.response.body", "body": data, "more_body": more})


def _id(request: HttpRequest) -> str:
    id: str = request.path_params["video_id"]
    return id


def _json(job: Job) -> bytes:
    return msgspec.json.encode(job.shown())


def _response(body: bytes) -> Response:
    return Response(body, media_type="application/json")
