"""What a model in a process of its own and the process that asked for it say to each other.

Bytes of pictures, sounds and clips lie in the pool of the asking side; the rest is MessagePack.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from bicameral import errors
from bicameral.callosum.edge import Edge
from bicameral.callosum.packets import INLINE
from bicameral.callosum.pool import Pool
from bicameral.callosum.received import Received
from bicameral.callosum.tensor import Tensor
from bicameral.errors import BicameralError, Broken
from bicameral.types import (
    Audio,
    Call,
    Card,
    Delta,
    Done,
    Event,
    Image,
    Message,
    Part,
    Relay,
    Request,
    Video,
)

AHEAD = 64  # events of one run that may be on their way
# A run has at most AHEAD events out, so the queue holds those of very many runs.
EDGE = Edge(kind="control", queue=65536, in_flight=256)


class Open(Struct, frozen=True, tag="open"):
    """Asks for the model of a config table; `cores` and `memory` bound the process."""

    name: str
    table: Mapping[str, Any]
    source: str
    cores: tuple[int, ...]
    memory: int | None


class Run(Struct, frozen=True, tag="run"):
    """Asks for an answer; `lifted` tells (message, part) of each tensor's bytes."""

    id: int
    request: Request
    lifted: tuple[tuple[int, int], ...] = ()


class More(Struct, frozen=True, tag="more"):
    """The reader of a run has taken so many events."""

    id: int
    events: int


class Stop(Struct, frozen=True, tag="stop"):
    """The reader of a run is gone."""

    id: int


class Opened(Struct, frozen=True, tag="opened"):
    """The model is there."""

    card: Card


class Said(Struct, frozen=True, tag="said"):
    """An event of a run: one of the three."""

    id: int
    delta: Delta | None = None
    relay: Relay | None = None
    done: Done | None = None


class Fault(Struct, frozen=True, tag="fault"):
    """An error of bicameral.errors, of a run or (None) of opening the model."""

    id: int | None
    kind: str
    text: str
    fields: Mapping[str, str | int | float | bool | None]
    calls: tuple[Call, ...]


class Stopped(Struct, frozen=True, tag="stopped"):
    """The work of a run that was stopped has ended."""

    id: int


Asks = Open | Run | More | Stop
Tells = Opened | Said | Fault | Stopped
encode = msgspec.msgpack.Encoder().encode
asks: msgspec.msgpack.Decoder[Asks] = msgspec.msgpack.Decoder(Asks)
tells: msgspec.msgpack.Decoder[Tells] = msgspec.msgpack.Decoder(Tells)


def lift(id: int, request: Request, pool: Pool) -> tuple[Run, list[Tensor]]:
    """The request with its large bytes put into the pool; PoolFull leaves nothing behind."""
    tensors: list[Tensor] = []
    lifted: list[tuple[int, int]] = []
    messages = list(request.messages)
    try:
        for m, message in enumerate(messages):
            parts = list(message.parts)
            for p, part in enumerate(parts):
                if isinstance(part, Image | Audio | Video) and len(part.data or b"") > INLINE:
                    tensors.append(pool.put_bytes(part.data or b""))
                    lifted.append((m, p))
                    parts[p] = replace(part, data=b"")
            messages[m] = replace(message, parts=tuple(parts))
    except BicameralError:
        for tensor in tensors:
            pool.release(tensor)
        raise
    whole = replace(request, messages=tuple(messages))
    return Run(id, whole, tuple(lifted)), tensors


def lower(run: Run, received: Received) -> Request:
    """The request with its bytes back in place: a copy, as parts own theirs."""
    found = {at: bytes(received.raw(index)) for index, at in enumerate(run.lifted)}
    messages = tuple(_filled(m, message, found) for m, message in enumerate(run.request.messages))
    return replace(run.request, messages=messages)


def _filled(m: int, message: Message, found: dict[tuple[int, int], bytes]) -> Message:
    def part(p: int, part: Part) -> Part:
        if (m, p) in found and isinstance(part, Image | Audio | Video):
            return replace(part, data=found[m, p])
        return part

    return replace(message, parts=tuple(part(p, each) for p, each in enumerate(message.parts)))


def said(id: int, event: Event) -> Said:
    """An event of run `id`, for the way."""
    match event:
        case Delta():
            return Said(id, delta=event)
        case Relay():
            return Said(id, relay=event)
        case Done():
            return Said(id, done=event)


def fault(id: int | None, error: BicameralError) -> Fault:
    """An error, for the way; what an error holds beside plain values stays behind."""
    plain = (str, int, float, bool, type(None))
    fields = {key: value for key, value in vars(error).items() if isinstance(value, plain)}
    return Fault(id, type(error).__name__, str(error), fields, error.calls)


def raised(fault: Fault) -> BicameralError:
    """The same error on this side."""
    kind = getattr(errors, fault.kind, Broken)
    if not (isinstance(kind, type) and issubclass(kind, BicameralError)):
        kind = Broken
    error = kind.__new__(kind)
    Exception.__init__(error, fault.text)
    vars(error).update(fault.fields)
    error.calls = fault.calls
    return error
