"""What bench/split.py and its processes say to each other, over Unix sockets, in MessagePack."""

from __future__ import annotations

import asyncio
from typing import TypeVar

import msgspec
from msgspec import Struct

T = TypeVar("T")


class Ask(Struct):
    """A question, about a picture if there is one; without a question only perception runs."""

    id: int
    question: str
    picture: bytes | None = None


class Told(Struct):
    """The answer. Times are readings of the machine's monotonic clock, the same in all processes.

    `gap` is the longest pause between two tokens; `crossed` counts all bytes that went between
    reasoning and a perception apart from it, both ways, in the life of this process.
    """

    id: int
    first: float = 0.0
    done: float = 0.0
    gap: float = 0.0
    text: str = ""
    tokens: int = 0
    error: str = ""
    crossed: int = 0


def packed(value: Struct) -> bytes:
    body = msgspec.msgpack.encode(value)
    return len(body).to_bytes(4) + body


async def unpacked(reader: asyncio.StreamReader, kind: type[T]) -> T:
    """The next of `kind`; EOFError when the other side has gone."""
    try:
        size = int.from_bytes(await reader.readexactly(4))
        return msgspec.msgpack.decode(await reader.readexactly(size), type=kind)
    except (asyncio.IncompleteReadError, ConnectionError) as error:
        raise EOFError from error
