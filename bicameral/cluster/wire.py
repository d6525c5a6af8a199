"""What the brain and a member on another machine say to each other, as MessagePack.

The bytes of pictures, sounds and clips do not travel in it: Ray keeps them in its object store, and
who reads them there on any machine reads shared memory. A deadline travels as the seconds left,
as clocks of two machines have nothing in common.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pickle import PickleBuffer
from typing import Any

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from bicameral.engines.told import Told
from bicameral.errors import ModelError
from bicameral.right.across import Fault, Said, raised
from bicameral.types import Audio, Card, Done, Event, Image, Message, Part, Request, Video

AHEAD = 128  # events of a run that may be on their way
LARGE = 100_000  # bytes from which on media go by the object store


class Opened(Struct, frozen=True, kw_only=True):
    """The model is open on its node, or why it is not. `tells`: it tells more than its events."""

    card: Card | None = None
    tells: bool = False
    fault: Fault | None = None


class Asked(Struct, frozen=True, kw_only=True):
    """A request; `lifted` tells (message, part) of the bytes that come beside it, in order."""

    request: Request
    left: float | None = None
    lifted: tuple[tuple[int, int], ...] = ()


class Batch(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The next events of a run; with `over` no more will come, and the rest is told.

    `done` and `lost` are what the leaf told its meter beside the events (see engines.told).
    """

    said: tuple[Said, ...] = ()
    over: bool = False
    fault: Fault | None = None
    done: Done | None = None
    lost: tuple[Fault, ...] = ()

    @property
    def events(self) -> list[Event]:
        """What was said."""
        found = (said.delta or said.relay or said.done for said in self.said)
        return [event for event in found if event is not None]

    def tell(self, told: Told) -> None:
        """Pass on what the leaf told."""
        if self.done is not None:
            told.done = self.done
        lost = (raised(fault) for fault in self.lost)
        told.lost += [error for error in lost if isinstance(error, ModelError)]


encode = msgspec.msgpack.Encoder().encode
opened: msgspec.msgpack.Decoder[Opened] = msgspec.msgpack.Decoder(Opened)
asked: msgspec.msgpack.Decoder[Asked] = msgspec.msgpack.Decoder(Asked)
batch: msgspec.msgpack.Decoder[Batch] = msgspec.msgpack.Decoder(Batch)


class Shared:
    """Bytes that are pickled beside the pickle: unpickled, `view` is the memory they lie in."""

    def __init__(self, data: Any) -> None:
        self.view = memoryview(data)

    def __reduce_ex__(self, protocol: Any) -> tuple[type[Shared], tuple[PickleBuffer]]:
        return Shared, (PickleBuffer(self.view),)


def lift(request: Request) -> tuple[bytes, list[Shared]]:
    """The request as it travels, and beside it what is large of it."""
    beside: list[Shared] = []
    lifted: list[tuple[int, int]] = []
    messages = list(request.messages)
    for m, message in enumerate(messages):
        parts = list(message.parts)
        for p, part in enumerate(parts):
            if isinstance(part, Image | Audio | Video) and len(part.data or b"") >= LARGE:
                beside.append(Shared(part.data))
                lifted.append((m, p))
                parts[p] = replace(part, data=b"")
        messages[m] = replace(message, parts=tuple(parts))
    whole = replace(request, messages=tuple(messages), deadline=None)
    body = Asked(request=whole, left=request.remaining(), lifted=tuple(lifted))
    return encode(body), beside


def lower(body: bytes, beside: Sequence[Shared]) -> Request:
    """The request on the other side, its deadline by the clock there.

    Read from shared memory, the large parts are copied once, as parts own their bytes.
    """
    came = asked.decode(body)
    data = {at: bytes(shared.view) for at, shared in zip(came.lifted, beside, strict=True)}
    messages = tuple(_filled(m, each, data) for m, each in enumerate(came.request.messages))
    deadline = None if came.left is None else time.monotonic() + came.left
    return replace(came.request, messages=messages, deadline=deadline)


def _filled(m: int, message: Message, data: dict[tuple[int, int], bytes]) -> Message:
    def part(p: int, part: Part) -> Part:
        if (m, p) in data and isinstance(part, Image | Audio | Video):
            return replace(part, data=data[m, p])
        return part

    return replace(message, parts=tuple(part(p, each) for p, each in enumerate(message.parts)))
