"""What two ends of a link say to each other: five kinds of small packet, in MessagePack."""

from __future__ import annotations

from typing import Literal, get_args

import msgspec
from msgspec import Struct

from bicameral.callosum.tensor import Tensor
from bicameral.errors import BicameralError

Kind = Literal["control", "text", "percepts", "events", "embeddings", "frames"]
KINDS: tuple[Kind, ...] = get_args(Kind)

VERSION = 1
INLINE = 4096  # bytes of a body that travel in the packet itself; a longer one lies in the pool
PACKET = 65536  # bytes of a packet, at most
TENSORS = 256  # of a message, at most


class LinkError(BicameralError):
    """A link was used wrongly, its peer does not keep to the rules, or the connection is gone."""


class Mine(Struct, frozen=True, array_like=True):
    """What one end says of an edge it sends on: how many unacknowledged items it may have out."""

    kind: Kind
    in_flight: int


class Had(Struct, frozen=True, array_like=True):
    """What one end has of an edge it receives on: all up to `last`; `held` are not released yet."""

    kind: Kind
    last: int
    held: tuple[int, ...] = ()


class Hello(Struct, frozen=True, array_like=True, tag="h"):
    """The first packet of both ends, with the pool's descriptor where there is one.

    `session` names the sender for as long as it keeps its books; `knows` is the session of the
    peer that `had` is about. `clock` is its time.monotonic(); it says something every `beat`
    seconds, if that is set.
    """

    version: int
    session: str
    clock: float
    pool: int
    size: int
    beat: float | None
    sends: tuple[Mine, ...]
    takes: tuple[Kind, ...]
    knows: str
    had: tuple[Had, ...]


class Item(Struct, frozen=True, array_like=True, tag="i"):
    """One message of an edge. `born` and `deadline` are readings of the sender's clock.

    `again`: an earlier receiver had it and never acknowledged it. `long`: the last tensor is the
    body.
    """

    kind: Kind
    seq: int
    born: float
    deadline: float | None
    again: bool
    body: bytes
    tensors: tuple[Tensor, ...]
    long: bool


class Ack(Struct, frozen=True, array_like=True, tag="a"):
    """Item `seq` of an edge has been released: its memory may be used again."""

    kind: Kind
    seq: int


class Beat(Struct, frozen=True, array_like=True, tag="b"):
    """Still here."""


class Bye(Struct, frozen=True, array_like=True, tag="q"):
    """Leaving in good order."""

    why: str = ""


Packet = Hello | Item | Ack | Beat | Bye
_ENCODER = msgspec.msgpack.Encoder()
_DECODER: msgspec.msgpack.Decoder[Packet] = msgspec.msgpack.Decoder(Packet)


def encode(packet: Packet) -> bytes:
    """The packet's bytes."""
    return _ENCODER.encode(packet)


def decode(data: bytes | memoryview) -> Packet:
    """The packet that a peer sent; LinkError if it is none."""
    try:
        return _DECODER.decode(data)
    except msgspec.DecodeError as error:
        raise LinkError(f"the peer sent no packet of this protocol: {error}") from error
