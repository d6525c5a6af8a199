"""Does a model answer, and what does it really serve? Asked with the smallest real request."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable

from msgspec import Struct

from bicameral.model import Model, collect
from bicameral.types import Answer, Modality, Request, Sampling


class Probe(Struct, frozen=True, kw_only=True):
    """How one model took the smallest request; `served` is what the upstream says it ran."""

    name: str
    seconds: float
    served: str | None = None
    error: str | None = None


async def probe(model: Model, *, seconds: float = 60.0) -> Probe:
    """Ask for one token, or one vector; give up after `seconds`."""
    request = Request.ask(
        "Say ok.",
        output=Modality.TEXT if Modality.TEXT in model.card.emits else Modality.EMBEDDING,
        sampling=Sampling(max_tokens=1),
        deadline=time.monotonic() + seconds,
    )
    answer = await collect(model, request)
    error = None if answer.error is None else str(answer.error)
    return Probe(name=model.card.name, seconds=answer.seconds, served=_served(answer), error=error)


async def probe_all(models: Iterable[Model]) -> list[Probe]:
    """Probe them all at once."""
    return list(await asyncio.gather(*(probe(model) for model in models)))


def _served(answer: Answer) -> str | None:
    return next((call.served for call in answer.calls if call.served), None)
