"""The one clip in the events of a run, and the time that it may take."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from msgspec import Struct

from bicameral.errors import Broken, Timeout
from bicameral.server.errors import Refused
from bicameral.types import Delta, Done, Event, Progress, Usage, Video

# What a clip may be served as; anything else that a model says is served as bytes.
EXTENSIONS = {
    "video/mp4": "mp4",
    "video/webm": "webm",
    "image/gif": "gif",
    "image/png": "png",
    "application/x-npz": "npz",
}
BYTES = "application/octet-stream"


class Clip(Struct, frozen=True):
    """A finished clip; `seconds` None: the model did not say how long it is."""

    data: bytes
    media_type: str
    seconds: float | None


async def made(
    events: AsyncIterator[Event], name: str, *, most: int, tell: Callable[[int], None]
) -> Clip:
    """The clip at the end of `events`; `tell` gets the percentage done, below 100 until then.

    Broken if `name` gave none, Refused if it has more than `most` bytes. Either way it is heard to
    its end, so that what it consumed is known.
    """
    clip: Video | None = None
    usage: Usage | None = None
    async for event in events:
        if isinstance(event, Done):
            usage = event.usage
        elif isinstance(event, Delta):
            if isinstance(event.part, Progress):
                tell(_percent(event.part))
            elif isinstance(event.part, Video):
                clip = event.part
    if usage is None or clip is None or not clip.data:
        raise Broken(name, "its answer has no clip that is here as bytes, or no end")
    if len(clip.data) > most:
        raise _too_large(len(clip.data), most)
    kind = clip.media_type or BYTES
    seconds = None if usage.media_ms is None else usage.media_ms / 1000
    return Clip(clip.data, kind if kind in EXTENSIONS else BYTES, seconds)


@asynccontextmanager
async def within(seconds: float | None, name: str) -> AsyncIterator[None]:
    """Timeout of the model `name` if the block takes longer than that."""
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError as error:
        raise Timeout(name, "total", seconds or 0.0) from error


def _percent(progress: Progress) -> int:
    return max(0, min(99, 100 * progress.done // max(1, progress.total)))


def _too_large(size: int, most: int) -> Refused:
    return Refused(
        507,
        f"the clip has {size} bytes, this server keeps {most} of one (max_result); ask for fewer "
        "frames, a smaller size or another output_format",
        "result_too_large",
        headers=[(b"x-should-retry", b"false")],
    )
