"""The net as a perceiver: of a clip it tells whether what happens follows from what went before.

So a language model that cannot see is told whether a clip is reasonable. A clip that is being
looked at when the stream is closed is looked at to the end; the rest is dropped.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from msgspec.structs import replace

from bicameral.engines.hf.line import Line, deadline
from bicameral.engines.hf.load import first_line
from bicameral.engines.vdt.asking import REFERENCE, Habits, refused
from bicameral.errors import BicameralError, Broken
from bicameral.model import admit
from bicameral.types import NO_USAGE, Card, Delta, Done, Event, Percept, Request, Video

if TYPE_CHECKING:
    from bicameral.engines.vdt.calibration import Calibration, Verdict
    from bicameral.engines.vdt.load import Loaded

Look = Callable[[bytes], tuple[Percept, float]]
"""What there is to say of a clip, and how many seconds it lasts."""
DOUBTED = 0.05  # the share of possible clips as surprising, up to which a clip is doubted


class Sceptic:
    """A Model: clips in, percepts out; `workers` has as many threads as `line` has slots."""

    def __init__(self, card: Card, look: Look, line: Line, workers: ThreadPoolExecutor) -> None:
        self._card, self._look, self._line, self._workers = card, look, line, workers

    @property
    def card(self) -> Card:
        """Clips to percepts, on this device."""
        return self._card

    async def run(self, request: Request) -> AsyncGenerator[Event]:
        """A percept of each clip; `source` is its place in `request.media`."""
        admit(self._card, request)
        name = self._card.name
        lasted = 0.0
        for index, data in _clips(request):
            percept, seconds = await self._judged(data, request)
            lasted += seconds
            yield Delta(replace(percept, source=index), by=name)
        usage = replace(NO_USAGE, media_ms=round(1000 * lasted), cost=None)
        yield Done(usage=usage, by=name, served=self._card.serves)

    async def close(self) -> None:
        """Wait for what is being looked at, then let go of the weights."""
        await asyncio.to_thread(self._workers.shutdown, cancel_futures=True)

    async def _judged(self, data: bytes, request: Request) -> tuple[Percept, float]:
        name, began = self._card.name, await self._line.enter(request)
        work = asyncio.get_running_loop().run_in_executor(self._workers, self._look, data)
        work.add_done_callback(lambda work: self._line.leave(began))
        async with deadline(name, request, "total"):
            await asyncio.wait([work])  # which leaves it alone if this is cancelled
        error = work.exception()
        if error is None or isinstance(error, BicameralError):
            return work.result()
        raise Broken(name, f"looking at the clip broke off: {first_line(error)}") from error


def looking(name: str, loaded: Loaded, usual: Calibration, habits: Habits) -> Look:
    """What a Sceptic does with the bytes of a clip, in a thread; errors are of the model `name`.

    The clip is brought to the size of the net's own. RequestError if it is no clip, is too short to
    tell, or has more frames than the member takes.
    """

    def look(data: bytes) -> tuple[Percept, float]:
        from bicameral.engines.vdt.calibration import judged
        from bicameral.engines.vdt.film import decode
        from bicameral.engines.vdt.fit import Shape
        from bicameral.engines.vdt.surprise import of_film

        own, most = loaded.design, habits.limits.frames
        shape = Shape(own.height, own.width, own.channels)
        found = decode(data, fit=lambda x: shape.fit(x, REFERENCE), most=most, param=REFERENCE)
        verdict = judged(of_film(name, loaded, found.film, usual.way, usual.scale), usual)
        fps, frames = found.fps or habits.fps, len(found.film)
        return worded(verdict, fps, frames), frames / fps

    return look


def worded(verdict: Verdict, fps: float, frames: int) -> Percept:
    """The verdict as words for a language model, with the time of what is doubted.

    Of a world unlike the net's own nothing is claimed: there all is surprising.
    """
    end = frames / fps
    if verdict.strange:
        text = "looks unlike what the net was trained on, so it cannot tell if its motion is usual"
        return Percept(kind="event", text=text, start=0.0, end=end)
    if verdict.p > DOUBTED:
        text = f"motion as expected (p {verdict.p:.2f})"
        return Percept(kind="event", text=text, start=0.0, end=end)
    frame = verdict.surprise.frame
    return Percept(
        kind="event",
        text=f"motion that does not follow from what went before (p {verdict.p:.2g})",
        confidence=1 - verdict.p,
        start=frame / fps,
        end=(frame + 1) / fps,
    )


def _clips(request: Request) -> list[tuple[int, bytes]]:
    """Each clip's place among the media, and its bytes; checked before any work."""
    clips = []
    for index, part in enumerate(request.media):
        if isinstance(part, Video):
            if part.data is None:
                raise refused(REFERENCE, "is a URL, and nothing here fetches it: send the bytes")
            clips.append((index, part.data))
    if not clips:
        raise refused(REFERENCE, "there is no clip to look at: add one")
    return clips
