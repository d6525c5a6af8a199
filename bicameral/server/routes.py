"""The routes beside chat and embeddings: models, health, metrics and the API's own description."""

from __future__ import annotations

import time
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from bicameral.brain import Brain
from bicameral.model import Model
from bicameral.server import openapi
from bicameral.server.errors import Refused
from bicameral.server.exchange import Desk
from bicameral.server.metrics import CONTENT_TYPE
from bicameral.server.videos.routes import Videos

BORN = int(time.time())


class Routes:
    """The slow paths; the app has checked who asks."""

    def __init__(self, brain: Brain, desk: Desk, videos: Videos) -> None:
        self._brain = brain
        self._desk = desk
        self._videos = videos

    def table(self) -> list[Route]:
        """Path, endpoint and methods, as a list."""
        return [
            Route("/v1/models", self.models),
            Route("/v1/models/{name:path}", self.model),
            Route("/healthz", self.healthz),
            Route("/readyz", self.readyz),
            Route("/metrics", self.metrics),
            Route("/openapi.json", self.openapi),
        ]

    async def models(self, request: Request) -> Response:
        """Every mind and member that the caller's key may ask."""
        key = self._desk.access.key(request.user)
        data = [
            _model(name, model)
            for name, model in self._brain.models.items()
            if key is None or key.may_ask(name)
        ]
        return _json({"object": "list", "data": data})

    async def model(self, request: Request) -> Response:
        """One mind or member; 404 if there is none of that name."""
        name = request.path_params["name"]
        if self._brain.till is not None:
            self._brain.till.permit(request.user, name)
        return _json(_model(name, self._brain.model(name)))

    async def healthz(self, request: Request) -> Response:
        """The process answers."""
        return _json({"status": "ok"})

    async def readyz(self, request: Request) -> Response:
        """Whether new requests are taken: 503 once the server goes down."""
        if self._desk.stopping:
            return _json({"status": "stopping"}, 503)
        journal = self._brain.journal
        state = "off" if journal is None else "failing" if journal.fault else "ok"
        till = self._brain.till
        ledger = "off" if till is None else "failing" if till.book.fault else "ok"
        status = {"models": len(self._brain.models), "journal": state, "ledger": ledger}
        if ledger == "failing":  # nothing is answered that cannot be booked
            return _json({"status": "not ready", **status}, 503)
        return _json({"status": "ready", **status})

    async def metrics(self, request: Request) -> Response:
        """Counters for Prometheus, of all minds and callers: for keys that may ask every mind."""
        key = self._desk.access.key(request.user)
        if key is not None and key.minds is not None:
            raise Refused(
                403, "the metrics are not for a key that may ask some minds only", "forbidden"
            )
        journal = self._brain.journal
        dropped = journal.dropped if journal else 0
        till = self._brain.till
        text = self._desk.metrics.text(
            len(self._desk.tasks),
            dropped,
            models=self._brain.models,
            ledger=None if till is None else (not till.book.fault, till.book.waiting),
            videos=await self._videos.counts(),
        )
        return Response(text, headers={"content-type": CONTENT_TYPE})

    async def openapi(self, request: Request) -> Response:
        """The description of this API."""
        return Response(openapi.document(), media_type="application/json")


def _model(name: str, model: Model) -> dict[str, Any]:
    card = model.card
    return {
        "id": name,
        "object": "model",
        "created": BORN,
        "owned_by": card.owner or "bicameral",
        "bicameral": {
            "engine": card.engine,
            "members": card.members,
            "reach": card.reach.name.lower(),
            "owner": card.owner,
            "accepts": sorted(card.accepts),
            "emits": sorted(card.emits),
            "features": sorted(card.features),
            "context": card.context,
        },
    }


def _json(value: Any, status: int = 200) -> Response:
    return Response(msgspec.json.encode(value), status, media_type="application/json")
