"""A trained video diffusion transformer as a Model: pictures, clips and masks in, a clip out.

`path` is a model.safetensors of `bicameral vdt train`. It makes `slots` clips at once, one sampling
step at a time, and tells each step; closing the stream stops it before the next. Nothing is fetched
and no text is read, as its card says: a prompt that is not empty is refused. As a sceptic it tells
of clips instead whether they are reasonable.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncGenerator, AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Annotated, Literal

from msgspec import Meta, Struct
from msgspec.structs import replace

from bicameral.config import MemberOptions
from bicameral.engines.hf.line import Line, deadline
from bicameral.engines.hf.load import device, first_line
from bicameral.engines.llama_cpp import CORES
from bicameral.engines.media.optional import library, present
from bicameral.engines.vdt.asking import Asked, Habits, asked
from bicameral.engines.vdt.sceptic import Sceptic, looking
from bicameral.errors import BicameralError, Broken, ConfigError
from bicameral.model import admit
from bicameral.types import (
    NO_USAGE,
    Card,
    Delta,
    Done,
    Event,
    Feature,
    Image,
    Modality,
    Price,
    Progress,
    Reach,
    Request,
    Usage,
    Video,
    VideoLimits,
)

if TYPE_CHECKING:
    from pathlib import Path

    from bicameral.engines.vdt.load import Loaded

EXTRA = "video"
_STEPS = {"modern": 32, "faithful": 100}
_MOST_STEPS = {"modern": 200, "faithful": 1000}
_CHIPS = {"cuda": "gpu", "xpu": "gpu", "mps": "gpu"}
_FREE = Price(input=0, output=0)
_LARGER = 4  # times the pixels that the net learned from, at most, where nothing is said


class Options(MemberOptions, frozen=True, kw_only=True):
    """`path` is a model.safetensors, a folder that has one, or nano, which comes along.

    `device` is cpu, cuda:0 or auto: the chip that torch finds. `precision` auto: bfloat16 but on a
    CPU. `steps` (32 of a modern net, 100 of a faithful one), `guidance` (what its weights say, else
    none: 1) and `fps` hold where a request is silent. `slots` clips are made at once, `queue` more
    may wait; `threads` is for a CPU. No clip is longer than `max_frames`, no frame larger than
    `max_pixels` (four times those that the net learned from). A `sceptic` makes no clips: it
    perceives them, and says whether what happens follows from what went before; run `bicameral vdt
    surprise --calibrate` once for it.
    """

    path: str
    device: str = "auto"
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    steps: Annotated[int, Meta(ge=1, le=1000)] | None = None
    guidance: Annotated[float, Meta(ge=0, le=20)] | None = None
    fps: Annotated[float, Meta(ge=0.1, le=240)] = 10.0
    slots: Annotated[int, Meta(ge=1, le=64)] = 1
    queue: Annotated[int, Meta(ge=0, le=10**6)] = 16
    threads: Annotated[int, Meta(ge=1, le=512)] | None = None
    max_frames: Annotated[int, Meta(ge=1, le=4096)] = 256
    max_pixels: Annotated[int, Meta(ge=1, le=2**26)] | None = None
    sceptic: bool = False


@asynccontextmanager
async def open(name: str, options: Options) -> AsyncIterator[VideoDiffusion | Sceptic]:
    """Load the weights in a thread and serve them until left."""
    model = await asyncio.to_thread(_load, name, options)
    try:
        yield model
    finally:
        await model.close()


def _load(name: str, options: Options) -> VideoDiffusion | Sceptic:
    library("torch", extra=EXTRA)
    for needed in ("numpy", "PIL", "safetensors"):
        present(needed, extra=EXTRA)
    from bicameral.engines.vdt import load

    file, where = load.find(options.path), device(name, options.device)
    half = options.precision == "bfloat16" or (options.precision == "auto" and where.type != "cpu")
    loaded = load.load(file, where, half=half)
    habits = _habits(name, options, loaded)
    card = Card(
        name=name,
        engine="vdt",
        accepts=frozenset({Modality.IMAGE, Modality.VIDEO}),
        emits=frozenset({Modality.VIDEO}),
        features=frozenset({Feature.SEED}),
        reach=options.reach_or(Reach.DEVICE),
        owner=options.owner,
        price=options.price() or _FREE,
        chip=_CHIPS.get(where.type, where.type),
        watts=options.watts,
        serves=load.called(file),
        clips=habits.limits,
    )
    if options.sceptic:
        return _sceptic(card, options, habits, loaded, file)
    return VideoDiffusion(card, options, habits, loaded)


def _sceptic(card: Card, options: Options, habits: Habits, loaded: Loaded, file: Path) -> Sceptic:
    from bicameral.engines.vdt import calibration

    usual = calibration.read(file)
    if usual is None:
        raise ConfigError(
            f"[models.{card.name}] sceptic: what is usual for {file} was never measured: run "
            f"`bicameral vdt surprise --calibrate --model {file}`"
        )
    takes, gives = frozenset({Modality.VIDEO}), frozenset({Modality.PERCEPT})
    card = replace(card, accepts=takes, emits=gives, features=frozenset(), clips=None)
    look = looking(card.name, loaded, usual, habits)
    return Sceptic(card, look, _line(card, options), _workers(card, options, loaded))


def _habits(name: str, options: Options, loaded: Loaded) -> Habits:
    design = loaded.design
    pixels = design.width * design.height
    limits = VideoLimits(
        width=design.width,
        height=design.height,
        fixed=design.kind == "faithful",
        cell=design.cell,
        pixels=options.max_pixels or _LARGER * pixels,
        frames=options.max_frames,
        steps=_MOST_STEPS[design.kind],
    )
    steps = options.steps or _STEPS[design.kind]
    if steps > limits.steps:
        raise ConfigError(
            f"[models.{name}] steps: a {design.kind} net takes {limits.steps} at most"
        )
    if limits.frames < design.frames or limits.pixels < pixels:
        raise ConfigError(
            f"[models.{name}] max_frames, max_pixels: its own clips have {design.frames} frames "
            f"of {pixels} pixels: allow those at least"
        )
    guidance = loaded.guidance if options.guidance is None else options.guidance
    return Habits(design=design, limits=limits, steps=steps, guidance=guidance, fps=options.fps)


class VideoDiffusion:
    """A net with `slots` places to make clips at and a bounded line before them."""

    def __init__(self, card: Card, options: Options, habits: Habits, loaded: Loaded) -> None:
        self._card, self._habits, self._loaded = card, habits, loaded
        self._line = _line(card, options)
        self._workers = _workers(card, options, loaded)
        self._making: dict[asyncio.Future[_Over | None], _Run] = {}

    @property
    def card(self) -> Card:
        """What the file and the options say it is."""
        return self._card

    async def run(self, request: Request) -> AsyncGenerator[Event]:
        """A Progress after every step, then the clip."""
        admit(self._card, request)
        wanted = asked(request, self._habits)
        run = self._begin(wanted, request.sampling.seed, await self._line.enter(request))
        try:
            async for event in self._events(run, request):
                yield event
        finally:
            run.cancel()

    async def close(self) -> None:
        """Stop what is being made, wait until it has, then let go of the weights."""
        for run in self._making.values():
            run.cancel()
        if self._making:
            await asyncio.wait(list(self._making))
        await asyncio.to_thread(self._workers.shutdown)

    def _begin(self, wanted: Asked, seed: int | None, began: float) -> _Run:
        run = _Run(self._card.name, self._loaded, wanted, seed)
        work = asyncio.get_running_loop().run_in_executor(self._workers, run.work)
        self._making[work] = run

        def ended(work: asyncio.Future[_Over | None]) -> None:
            del self._making[work]
            self._line.leave(began)
            run.said.put_nowait(work.exception() or work.result())

        work.add_done_callback(ended)
        return run

    async def _events(self, run: _Run, request: Request) -> AsyncIterator[Event]:
        name = self._card.name
        while True:
            async with deadline(name, request, "total"):
                said = await run.said.get()
            if not isinstance(said, Progress):
                break
            yield Delta(said, by=name)
        if isinstance(said, BicameralError):
            raise said
        if not isinstance(said, _Over):
            why = first_line(said) if said else "the model was closed"
            raise Broken(name, f"the clip broke off: {why}") from said
        yield Delta(said.video, by=name)
        yield Done(usage=said.usage, by=name, served=self._card.serves)


def _line(card: Card, options: Options) -> Line:
    return Line(
        card.name,
        slots=options.slots,
        queue=options.queue,
        cores=CORES if card.chip == "cpu" else None,
        threads=options.threads or CORES.count,
    )


def _workers(card: Card, options: Options, loaded: Loaded) -> ThreadPoolExecutor:
    """A thread for each slot."""
    start = partial(_threads, loaded, options.threads or CORES.count)
    return ThreadPoolExecutor(options.slots, thread_name_prefix=card.name, initializer=start)


def _threads(loaded: Loaded, count: int) -> None:
    """Have a worker compute on `count` cores, if it is them that compute."""
    if loaded.device.type == "cpu":
        library("torch", extra=EXTRA).set_num_threads(count)


class _Over(Struct, frozen=True):
    """A clip that was made, and what it took."""

    video: Video
    usage: Usage


class _Run:
    """One clip by a worker thread; `said` ends with _Over, or with what went wrong."""

    def __init__(self, name: str, loaded: Loaded, wanted: Asked, seed: int | None) -> None:
        self._name, self._loaded, self._asked = name, loaded, wanted
        self._seed = secrets.randbits(63) if seed is None else seed
        self._loop = asyncio.get_running_loop()
        self._gone = False
        self.said: asyncio.Queue[Progress | _Over | BaseException | None] = asyncio.Queue()

    def work(self) -> _Over | None:
        """Make it to the end; blocks, so it runs in the worker thread."""
        from bicameral.engines.vdt.film import encode
        from bicameral.engines.vdt.make import Manner, make
        from bicameral.engines.vdt.wishes import wish

        if self._gone:
            return None
        wanted, given = self._asked, wish(self._asked)
        manner = Manner(steps=wanted.steps, guidance=wanted.guidance, seed=self._seed)
        film = make(
            self._name, self._loaded, given, manner, told=self._tell, gone=lambda: self._gone
        )
        if film is None:
            return None
        pictures = sum(isinstance(each, Image) for each in wanted.references)
        lasts = round(1000 * len(film) / given.fps)
        usage = replace(NO_USAGE, images=pictures, media_ms=lasts, cost=None)
        return _Over(encode(film, given.fps, wanted.format), usage)

    def _tell(self, done: int, total: int) -> None:
        with suppress(RuntimeError):  # the loop was closed under us
            self._loop.call_soon_threadsafe(self.said.put_nowait, Progress(done, total))

    def cancel(self) -> None:
        """Stop before the next step."""
        self._gone = True
