"""Does a model answer, and what does it really serve? Asked with the smallest real request."""

from __future__ import annotations

import asyncio
import struct
import time
from collections.abc import Iterable

from msgspec import Struct

from bicameral.model import Model, collect
from bicameral.types import (
    Answer,
    Audio,
    Card,
    Image,
    Message,
    Modality,
    Part,
    Request,
    Sampling,
    Text,
    VideoSpec,
)

# One grey dot (RFC 2083), and a tenth of a second of silence.
_DOT = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108000000003a7e9b550000000a494441"
    "54789c636800000082008177cd72b60000000049454e44ae426082"
)
_RATE = 16_000


class Probe(Struct, frozen=True, kw_only=True):
    """How one model took the smallest request; `served` is what the upstream says it ran."""

    name: str
    seconds: float
    served: str | None = None
    error: str | None = None


async def probe(model: Model, *, seconds: float = 60.0) -> Probe:
    """Ask for a token, a vector, a clip in one step, or what is in next to nothing.

    It gives up after `seconds`.
    """
    part, output = _smallest(model.card)
    if part is None:
        return Probe(name=model.card.name, seconds=0.0, served=model.card.serves or None)
    request = Request(
        messages=(Message("user", (part,)),),
        output=output,
        sampling=Sampling(max_tokens=None if output is Modality.VIDEO else 1),
        video=VideoSpec(steps=1, format="png") if output is Modality.VIDEO else None,
        deadline=time.monotonic() + seconds,
    )
    answer = await collect(model, request)
    error = None if answer.error is None else str(answer.error)
    return Probe(name=model.card.name, seconds=answer.seconds, served=_served(answer), error=error)


def _smallest(card: Card) -> tuple[Part | None, Modality]:
    """The least a model can be asked, and what for; no part if nothing small is known."""
    if Modality.TEXT in card.emits:
        return Text("Say ok."), Modality.TEXT
    if Modality.EMBEDDING in card.emits:
        return Text("Say ok."), Modality.EMBEDDING
    if Modality.VIDEO in card.emits:
        return Text(""), Modality.VIDEO
    if Modality.IMAGE in card.accepts:
        return Image(data=_DOT, media_type="image/png"), Modality.PERCEPT
    if Modality.AUDIO in card.accepts:
        return Audio(_silence(), "wav"), Modality.PERCEPT
    return None, Modality.PERCEPT


def _silence() -> bytes:
    samples = bytes(_RATE // 5)  # two bytes each
    sound = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 1, _RATE, 2 * _RATE, 2, 16)
    sound += struct.pack("<4sI", b"data", len(samples)) + samples
    return struct.pack("<4sI4s", b"RIFF", 4 + len(sound), b"WAVE") + sound


async def probe_all(models: Iterable[Model]) -> list[Probe]:
    """Probe them all at once."""
    return list(await asyncio.gather(*(probe(model) for model in models)))


def _served(answer: Answer) -> str | None:
    return next((call.served for call in answer.calls if call.served), None)
