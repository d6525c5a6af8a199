"""A perceiver made for tests: it finds what it is told to, and counts how often it looked."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from typing import Any

from msgspec.structs import replace

from bicameral.errors import BicameralError
from bicameral.ledger.meter import Meter
from bicameral.model import Model, admit
from bicameral.types import (
    NO_USAGE,
    Card,
    Delta,
    Done,
    Event,
    Image,
    Modality,
    Percept,
    Price,
    Reach,
    Request,
    Text,
)


class Finder:
    """Finds the percepts written for the content of each part, by its bytes."""

    def __init__(
        self,
        name: str = "eyes",
        finds: Mapping[bytes, tuple[Percept, ...]] | None = None,
        *,
        accepts: Modality = Modality.IMAGE,
        reach: Reach = Reach.DEVICE,
        error: BicameralError | None = None,
        delay: float = 0.0,
    ) -> None:
        self._finds = finds or {}
        self.error = error
        self._delay = delay
        self.looked = 0
        self.cancelled = 0
        self.broke = 0
        self.card = Card(
            name=name,
            engine="finder",
            accepts=frozenset({accepts}),
            emits=frozenset({Modality.PERCEPT}),
            reach=reach,
            price=Price(input=0, output=0),
        )

    async def run(self, request: Request) -> AsyncGenerator[Event]:
        admit(self.card, request)
        self.looked += 1
        try:
            await asyncio.sleep(self._delay)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if self.error is not None:
            self.broke += 1
            raise self.error
        for source, part in enumerate(request.media):
            for percept in self._finds.get(part.data or b"", ()):
                yield Delta(replace(percept, source=source), by=self.card.name)
        yield Done(usage=NO_USAGE, by=self.card.name)


class Reader:
    """A text-only model that answers with all it was sent, so a test can look at that."""

    def __init__(self, *accepts: Modality, context: int | None = None, **card: Any) -> None:
        self.requests: list[Request] = []
        self.card = Card(
            name="reader",
            engine="reader",
            accepts=frozenset({Modality.TEXT, *accepts}),
            reach=Reach.DEVICE,
            context=context,
            price=Price(input=0, output=0),
            **card,
        )

    async def run(self, request: Request) -> AsyncGenerator[Event]:
        admit(self.card, request)
        self.requests.append(request)
        yield Delta(Text("\n".join(message.text for message in request.messages)), by="reader")
        yield Done(usage=NO_USAGE, by="reader")

    @property
    def read(self) -> str:
        """All text of the last request."""
        return "\n".join(message.text for message in self.requests[-1].messages)


def metered(model: Model) -> Meter:
    return Meter(model, lambda call, booking: None)


def picture(data: bytes) -> Image:
    return Image(data=data, media_type="image/png")


def says(text: str, confidence: float = 0.99, **fields: Any) -> Percept:
    return Percept(kind="text", text=text, confidence=confidence, **fields)
