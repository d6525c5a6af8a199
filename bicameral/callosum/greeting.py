"""The first packet of a connection: what is said in it, and what is refused."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable

from bicameral.callosum import segment
from bicameral.callosum.edge import Incoming, Outgoing
from bicameral.callosum.packets import VERSION, Hello, LinkError, Mine, decode
from bicameral.callosum.pool import Pool


def hello(
    session: str,
    knows: str,
    pool: Pool | None,
    beat: float | None,
    out: Iterable[Outgoing],
    into: Iterable[Incoming],
) -> Hello:
    """What this end says of itself."""
    into = tuple(into)
    return Hello(
        version=VERSION,
        session=session,
        clock=time.monotonic(),
        pool=pool.id if pool else 0,
        size=pool.limit if pool else 0,
        beat=beat,
        sends=tuple(Mine(edge.edge.kind, edge.edge.in_flight) for edge in out),
        takes=tuple(edge.kind for edge in into),
        knows=knows,
        had=tuple(edge.had() for edge in into if edge.last is not None),
    )


def meet(
    data: memoryview, fd: int, out: Iterable[str], into: Iterable[str]
) -> tuple[Hello, memoryview]:
    """The peer's greeting and its memory, if both ends fit; else LinkError. Takes `fd` over."""
    try:
        said = _checked(data, set(out), set(into))
    except LinkError:
        if fd >= 0:
            os.close(fd)
        raise
    return said, memoryview(segment.attach(fd, said.size) if fd >= 0 else b"")


def _checked(data: memoryview, out: set[str], into: set[str]) -> Hello:
    said = decode(data)
    if not isinstance(said, Hello):
        raise LinkError("the peer did not greet")
    if said.version != VERSION:
        raise LinkError(f"the peer speaks version {said.version}, this end {VERSION}; update one")
    if refused := {edge.kind for edge in said.sends} - into:
        raise LinkError(f"the peer sends {', '.join(sorted(refused))}, which is not taken here")
    if missing := out.difference(said.takes):
        raise LinkError(f"the peer does not take {', '.join(sorted(missing))}")
    return said
