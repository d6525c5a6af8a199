"""The ASGI app: the routes that take bodies first and bare, the rest Starlette routes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from bicameral.brain import Brain
from bicameral.config import ServerOptions
from bicameral.errors import BicameralError
from bicameral.server import chat, embeddings, feedback, transcriptions, watch
from bicameral.server.errors import Refused, fault
from bicameral.server.exchange import Desk, Receive, Scope, Send, request_id
from bicameral.server.metrics import Metrics
from bicameral.server.routes import Routes
from bicameral.server.videos.routes import Videos

Bare = Callable[[Scope, Receive, Send], Awaitable[None]]
_OPEN = ("/healthz", "/readyz", "/openapi.json")


class App:
    """HTTP for a Brain. `desk` is what all its requests share."""

    def __init__(
        self, brain: Brain, options: ServerOptions, metrics: Metrics | None = None
    ) -> None:
        self.desk = Desk(options, metrics)
        self.desk.access.open(brain.till)
        self.videos = Videos(brain, self.desk)
        self._bare: dict[str, Bare] = {
            chat.PATH: chat.Chat(brain, self.desk),
            embeddings.PATH: embeddings.Embeddings(brain, self.desk),
            feedback.PATH: feedback.Feedback(brain, self.desk),
            transcriptions.PATH: transcriptions.Transcriptions(brain, self.desk),
            watch.PATH: watch.Watches(brain, self.desk),
        }
        table = [*Routes(brain, self.desk, self.videos).table(), *map(_post, self._bare)]
        self._bare |= self.videos.bare()
        self._rest = Starlette(
            routes=[*table, *self.videos.table()],
            exception_handlers={HTTPException: _http, BicameralError: _ours},  # type: ignore[dict-item]
        )
        self._rest.router.redirect_slashes = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            return
        bare = self._bare.get(scope["path"])
        if bare is not None and scope["method"] == "POST":
            await bare(scope, receive, send)
            return
        send = _with_id(scope, send)
        try:
            if scope["path"] in _OPEN:
                self.desk.access.check_page(dict(scope["headers"]))
            else:
                scope["user"] = self.desk.access.check(dict(scope["headers"]))
        except Refused as error:
            await _ours(Request(scope), error)(scope, receive, send)
            return
        await self._rest(scope, receive, send)


def _with_id(scope: Scope, send: Send) -> Send:
    """Every answer names its request."""
    header = (b"x-request-id", request_id(dict(scope["headers"])))

    async def tagged(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message["headers"], header]
        await send(message)

    return tagged


def _post(path: str) -> Route:
    """Another method than POST on a bare path is answered with 405."""
    return Route(path, _never, methods=["POST"])


def _never(request: Request) -> Response:
    raise HTTPException(404)


def _http(request: Request, error: HTTPException) -> Response:
    """Starlette's own: no such path, no such method."""
    code = {404: "unknown_url", 405: "method_not_allowed"}.get(error.status_code, "bad_request")
    what = f"{request.method} {request.scope['path'][:200]}"
    headers = [(k.lower().encode(), v.encode()) for k, v in (error.headers or {}).items()]
    message = f"there is no {what}"
    return _ours(request, Refused(error.status_code, message, code, headers=headers))


def _ours(request: Request, error: BicameralError) -> Response:
    told = fault(error)
    response = Response(told.body(), told.status, media_type="application/json")
    response.raw_headers += told.headers
    return response
