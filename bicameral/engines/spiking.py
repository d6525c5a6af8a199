"""A spiking net as a Model: recordings of events in, percepts of kind "event" out.

The net comes from a NIR file and runs event by event on one core, so that a quiet scene costs
little. A recording is cut into windows; where an output neuron fires in one, the window becomes a
percept: `text` is the label of the neuron that fired most, `confidence` its share of all output
spikes of the window, which says how clear the vote was and not how likely it is right. A window
without an output spike gives no percept. The net's state goes on from window to window.

A recording is a Video part of media type application/x-events; `engines/spike/recording.py` tells
what it holds. What is running when a stream is closed ends with its window.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from itertools import islice
from typing import TYPE_CHECKING, Annotated

from msgspec import Meta
from msgspec.structs import replace

from bicameral.config import MemberOptions
from bicameral.engines.media.optional import library
from bicameral.engines.weights import locate
from bicameral.errors import ConfigError, Overloaded, RequestError, Timeout, Unsupported
from bicameral.model import admit
from bicameral.types import (
    NO_USAGE,
    Card,
    Delta,
    Done,
    Event,
    Modality,
    Percept,
    Price,
    Reach,
    Request,
    Usage,
    Video,
)

if TYPE_CHECKING:
    from bicameral.engines.spike.recording import Grid
    from bicameral.engines.spike.steps import Steps

ROOM = 64
"""So many recordings may be looked at or wait; more are turned away."""
MOST_STEPS = 10_000_000
MEDIA_TYPE = "application/x-events"
Seconds = Annotated[float, Meta(gt=0, le=3600)]


class Options(MemberOptions, frozen=True, kw_only=True):
    """`weights` is a NIR file; `labels` name its output neurons, in order.

    `dt` is the step, in seconds, that the file's time constants are meant for. Each step covers
    `step` seconds of the recording, by default as many. `window` seconds make one percept. `size`,
    width and height, is needed where the net's input is flat: darker pixels row by row, then
    brighter ones, or one input a pixel.
    """

    weights: str
    labels: tuple[str, ...] = ()
    window: Seconds = 0.1
    dt: Seconds = 1e-4
    step: Seconds | None = None
    size: tuple[Annotated[int, Meta(ge=1)], Annotated[int, Meta(ge=1)]] | None = None


@asynccontextmanager
async def open(name: str, options: Options) -> AsyncIterator[Spiking]:
    """The net called `name`; ConfigError or WeightsError if it cannot run as the options say."""
    worker = ThreadPoolExecutor(1, thread_name_prefix=f"spike-{name}")
    try:
        net = await asyncio.get_running_loop().run_in_executor(worker, Net, name, options)
        yield Spiking(name, options, net, worker)
    finally:
        await asyncio.to_thread(worker.shutdown, wait=True, cancel_futures=True)


class Net:
    """The net of the options, ready to watch recordings; each is watched from rest."""

    def __init__(self, name: str, options: Options) -> None:
        library("numpy", extra="spiking")
        from bicameral.engines.spike.exchange import read
        from bicameral.engines.spike.execute import Executor
        from bicameral.engines.spike.steps import normalise

        self._steps: Steps = normalise(read(locate(options.weights)), options.dt)
        self._grid = _grid(name, self._steps, options.size)
        self._seconds = options.step or options.dt
        self._per_window = max(1, round(options.window / self._seconds))
        outputs = Executor(self._steps).outputs
        self._labels = options.labels or tuple(f"neuron {i}" for i in range(outputs))
        if len(self._labels) != outputs:
            raise ConfigError(
                f"{name} has {outputs} output neurons and {len(self._labels)} labels: give one each"
            )

    def watch(self, data: bytes, index: int) -> Iterator[Percept | Usage | None]:
        """How long it lasts, then for each window its percept, or None.

        RequestError if `data` is no recording.
        """
        import numpy as np

        from bicameral.engines.spike.execute import Executor
        from bicameral.engines.spike.recording import read, steps

        recording = read(data, f"recording {index + 1}")
        microseconds = int(recording.t[-1]) if recording.t.size else 0
        self._check_length(microseconds / 1e6, index)
        yield replace(NO_USAGE, media_ms=microseconds // 1000)
        run = Executor(self._steps)
        spikes = map(run.step, steps(recording, self._grid, self._seconds))
        at = 0
        while fired := list(islice(spikes, self._per_window)):
            counts = np.bincount(np.concatenate(fired), minlength=run.outputs)
            yield self._percept(counts.tolist(), at, at + len(fired), index)
            at += len(fired)

    def _percept(self, counts: list[int], first: int, last: int, index: int) -> Percept | None:
        most = max(counts)
        if not most:
            return None
        return Percept(
            kind="event",
            text=self._labels[counts.index(most)],
            source=index,
            confidence=most / sum(counts),
            start=first * self._seconds,
            end=last * self._seconds,
        )

    def _check_length(self, seconds: float, index: int) -> None:
        if seconds / self._seconds > MOST_STEPS:
            raise RequestError(
                f"recording {index + 1} lasts {seconds:g} s, {seconds / self._seconds:.0f} steps; "
                f"at most {MOST_STEPS} are run: send it in parts",
                param="messages",
            )


class Spiking:
    """A Model: recordings of events in, percepts out."""

    def __init__(self, name: str, options: Options, net: Net, worker: ThreadPoolExecutor) -> None:
        self._net, self._worker = net, worker
        self._inside = 0
        self._card = Card(
            name=name,
            engine="spiking",
            accepts=frozenset({Modality.VIDEO}),
            emits=frozenset({Modality.PERCEPT}),
            reach=options.reach_or(Reach.DEVICE),
            owner=options.owner,
            price=options.price() or Price(input=0, output=0),
            chip="cpu",
            watts=options.watts,
            serves=options.weights,
        )

    @property
    def card(self) -> Card:
        """Recordings of events to percepts, on this device; no other video."""
        return self._card

    async def run(self, request: Request) -> AsyncGenerator[Event]:
        """The percepts of each recording in the order of time; others are refused before."""
        admit(self._card, request)
        recordings = _recordings(self._card.name, request)
        if self._inside >= ROOM:
            raise Overloaded(self._card.name, f"busy: {ROOM} recordings wait; try again later")
        self._inside += 1
        usage = replace(NO_USAGE, cost=None)
        try:
            for index, data in recordings:
                windows = self._net.watch(data, index)
                while (found := await self._next(windows, request)) is not _END:
                    if isinstance(found, Percept):
                        yield Delta(found, by=self._card.name)
                    elif isinstance(found, Usage):
                        usage += found
        finally:
            self._inside -= 1
        yield Done(usage=usage, by=self._card.name, served=self._card.serves)

    async def _next(self, windows: Iterator[Percept | Usage | None], request: Request) -> object:
        """The next window, computed on the worker; _END after the last."""
        left = request.remaining()
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(left):
                return await loop.run_in_executor(self._worker, next, windows, _END)
        except TimeoutError as error:
            raise Timeout(self._card.name, "total", left or 0.0) from error


_END = object()


def _grid(name: str, net: Steps, size: tuple[int, int] | None) -> Grid:
    """How pixels map to the net's inputs; ConfigError where they cannot."""
    from bicameral.engines.spike.recording import Grid

    shape = net.input_shape
    if len(shape) == 1 and size is not None and shape[0] in (size[0] * size[1] * c for c in (1, 2)):
        return Grid(shape[0] // (size[0] * size[1]), size[1], size[0])
    if len(shape) == 3 and shape[0] in (1, 2) and size in (None, (shape[2], shape[1])):
        return Grid(*shape)
    raise ConfigError(
        f"{name} takes input of shape {shape}, which is no sensor of one or two channels"
        + (f" and size {size[0]} x {size[1]}" if size else ": set size = [width, height]")
    )


def _recordings(name: str, request: Request) -> list[tuple[int, bytes]]:
    """Each recording's place among the media, and its bytes; checked before any work."""
    found = []
    for index, part in enumerate(request.media):
        if not isinstance(part, Video) or part.media_type != MEDIA_TYPE:
            kind = getattr(part, "media_type", None) or "video of an unknown type"
            raise Unsupported(
                f"{name} takes recordings of events ({MEDIA_TYPE}), not {kind}",
                param="messages",
                code="unsupported",
            )
        if part.data is None:
            raise RequestError(
                f"recording {index + 1} is a URL, and nothing here fetches it: send its bytes",
                param="messages",
            )
        found.append((index, part.data))
    if not found:
        raise RequestError(
            f"there is no recording to watch: add one of type {MEDIA_TYPE}", param="messages"
        )
    return found
