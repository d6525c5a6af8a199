"""A model in a process of its own: it may be pinned, bounded, crash and come back.

`Apart` is a Model around an engine that another process runs (see `worker`). A process that dies,
or says nothing for too long, is killed and started again, later and later if that does not help. A
request that it had not begun to answer is asked once more; one whose answer had begun fails, as
a second beginning would repeat it. Secrets reach the process by its environment alone.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from itertools import count
from typing import Annotated, Any

from msgspec import Meta

from bicameral.callosum.channel import Local, pair
from bicameral.callosum.drive import Drive
from bicameral.callosum.link import Link
from bicameral.callosum.packets import LinkError
from bicameral.callosum.pool import Pool, PoolFull
from bicameral.callosum.received import Received
from bicameral.config import Closed
from bicameral.engines.told import Told
from bicameral.errors import (
    BicameralError,
    Broken,
    ConfigError,
    Overloaded,
    Timeout,
    Unreachable,
)
from bicameral.model import admit
from bicameral.right.across import (
    AHEAD,
    EDGE,
    Asks,
    Fault,
    More,
    Open,
    Opened,
    Said,
    Stop,
    Stopped,
    Tells,
    encode,
    lift,
    raised,
    tells,
)
from bicameral.types import Card, Done, Event, Request

_BEAT = 0.5
_LATE = 1.0  # seconds a model may need to say itself that a deadline has passed
_LONGEST = 30.0  # seconds between two starts, at most
_PATIENT = 1.0  # seconds a request waits for a process that keeps crashing


class Settings(Closed, frozen=True, kw_only=True):
    """The [models.NAME.apart] table; `apart = true` takes it as it is here. Sizes are bytes.

    `cores` are those the process may run on, `memory` is its address space at most, `pool` what
    pictures, sounds and clips on their way to it may take together. It has `start` seconds to
    open the model, counts as hung when it says nothing for `silent` seconds, and as deaf when it
    works on for `grace` seconds after it was told to stop.
    """

    cores: tuple[Annotated[int, Meta(ge=0)], ...] = ()
    memory: Annotated[int, Meta(ge=2**24)] | None = None
    pool: Annotated[int, Meta(ge=2**16)] = 64 * 2**20
    start: Annotated[float, Meta(gt=0)] = 120.0
    silent: Annotated[float, Meta(gt=0)] = 10.0
    grace: Annotated[float, Meta(gt=0)] = 10.0


@asynccontextmanager
async def open(
    name: str, table: Mapping[str, Any], settings: Settings, source: str
) -> AsyncIterator[Apart]:
    """The model of a [models.NAME] table of `source`, its `apart` left out, in its own process.

    Raises what opening it here would raise.
    """
    _check(name, settings)
    model = Apart(name, Open(name, table, source, settings.cores, settings.memory), settings)
    try:
        await model.start()
        yield model
    finally:
        await model.close()


def _check(name: str, settings: Settings) -> None:
    if settings.cores:
        import os

        if not hasattr(os, "sched_getaffinity"):
            raise ConfigError(f"[models.{name}.apart] cores: this system cannot pin a process")
        if missing := set(settings.cores) - os.sched_getaffinity(0):
            raise ConfigError(f"[models.{name}.apart] cores: there is no core {min(missing)} here")


class _Run:
    """A request on its way; None in its queue: the process is gone."""

    def __init__(self, request: Request) -> None:
        self.request = request
        self.events: asyncio.Queue[Event | BicameralError | None] = asyncio.Queue()
        self.begun = False
        self.over = False
        self.taken = 0


class Apart:
    """A Model whose work is done in another process; one process at a time."""

    def __init__(self, name: str, wanted: Open, settings: Settings) -> None:
        self._name = name
        self._wanted = wanted
        self._settings = settings
        self._pool = Pool(settings.pool)
        self._numbers = count(1)
        self._runs: dict[int, _Run] = {}
        self._stopping: dict[int, asyncio.TimerHandle] = {}
        self._card: Card | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._link: Link | None = None
        self._drive: Drive | None = None
        self._up = asyncio.Event()
        self._opened: asyncio.Future[Card] | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._next_start = 0.0
        self._why = ""
        self._closed = False
        self._gone = asyncio.Event()
        self.crashes = 0
        self.restarts = 0

    @property
    def card(self) -> Card:
        """What the model says of itself in its own process."""
        if self._card is None:
            raise Unreachable(self._name, "its process has not opened it yet")
        return self._card

    def run(self, request: Request) -> AsyncGenerator[Event]:
        """The events of the model; what a crash cut off before its first event is asked again."""
        return self.telling(request, Told())

    async def telling(self, request: Request, told: Told) -> AsyncGenerator[Event]:
        """The same; `told` gets the try that the crash cut off, as the model had taken it up."""
        admit(self.card, request)
        for last in (False, True):
            id = next(self._numbers)
            run = self._runs[id] = _Run(request)
            try:
                await self._ask(id, run)
                while event := await self._event(run):
                    if isinstance(event, BicameralError):
                        raise event
                    run.begun = True
                    yield event
                    if isinstance(event, Done):
                        self.crashes = 0
                        return
                    self._taken(id, run)
            finally:
                self._end(id, run)
            died = Broken(self._name, f"its process died as it answered ({self._why})")
            if run.begun or last:
                raise died
            told.lost.append(died)

    # --- one request ---------------------------------------------------------------------------

    async def _ask(self, id: int, run: _Run) -> None:
        """Send the request once the process is up and the pool has room for its bytes."""
        left = run.request.remaining()
        deadline = time.monotonic() + (self._settings.start if left is None else left)
        while True:
            await self._until_up(deadline)
            try:
                asked, tensors = lift(id, run.request, self._pool)
            except PoolFull as error:
                if self._pool.stats().leases == 0 or time.monotonic() >= deadline:
                    raise Overloaded(
                        self._name, f"no room for what it should see: {error}"
                    ) from error
                await asyncio.sleep(0.01)
                continue
            self._post(asked, tensors)
            return

    async def _until_up(self, deadline: float) -> None:
        if self._up.is_set():
            return
        if self._closed:
            raise Unreachable(self._name, "it was closed")
        wait = self._next_start - time.monotonic()
        if wait > _PATIENT:
            raise Unreachable(
                self._name, f"its process died {self.crashes} times; it starts in {wait:.0f} s"
            )
        try:
            await asyncio.wait_for(self._up.wait(), max(0.0, deadline - time.monotonic()))
        except TimeoutError as error:
            raise Unreachable(self._name, "its process did not start in time") from error

    async def _event(self, run: _Run) -> Event | BicameralError | None:
        left = run.request.remaining()
        if left is None:
            return await run.events.get()
        try:
            return await asyncio.wait_for(run.events.get(), left + _LATE)
        except TimeoutError as error:
            raise Timeout(self._name, "total", left + _LATE) from error

    def _taken(self, id: int, run: _Run) -> None:
        """Let the process say more, some events at a time."""
        run.taken += 1
        if run.taken % (AHEAD // 2) == 0:
            self._post(More(id, AHEAD // 2))

    def _end(self, id: int, run: _Run) -> None:
        del self._runs[id]
        if not run.over and self._up.is_set():
            self._post(Stop(id))
            later = asyncio.get_running_loop().call_later
            self._stopping[id] = later(self._settings.grace, self._deaf)

    def _deaf(self) -> None:
        self._lost(f"it worked on {self._settings.grace:g} s after it was told to stop")

    def _post(self, asked: Asks, tensors: Any = ()) -> None:
        if self._link is None or self._drive is None:
            return
        try:
            self._link.send("control", encode(asked), tensors)
        except (LinkError, PoolFull) as error:
            for tensor in tensors:
                self._pool.release(tensor)
            raise Overloaded(self._name, f"its process takes no more: {error}") from error
        self._drive.nudge()

    # --- the process ---------------------------------------------------------------------------

    async def start(self) -> None:
        """Start the process and wait for its model; what it raised is raised here."""
        self._opened = asyncio.get_running_loop().create_future()
        self._spawn()
        try:
            self._card = await asyncio.wait_for(self._opened, self._settings.start)
        except TimeoutError as error:
            raise ConfigError(
                f"[models.{self._name}.apart] start: the model was not open after "
                f"{self._settings.start:g} s"
            ) from error
        self._up.set()
        if self._keeper is None:
            self._keeper = asyncio.create_task(self._keep())

    def _spawn(self) -> None:
        ours, theirs = pair()
        fd = theirs.fileno()
        command = [sys.executable, "-m", "bicameral.right.worker", str(fd)]
        with theirs:
            # Whatever it prints goes to stderr, where it can be seen and disturbs nothing.
            self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
                command, pass_fds=[fd], stdin=subprocess.DEVNULL, stdout=2
            )
        misses = max(1, round(self._settings.silent / _BEAT))
        self._link = Link(
            sends=[EDGE], takes=["control"], pool=self._pool, beat=_BEAT, misses=misses
        )
        self._link.attach(Local(ours))
        self._drive = Drive(self._link, self._got, self._lost, often=_BEAT / 2)
        self._post(self._wanted)

    def _got(self, message: Received) -> None:
        with message:
            self._told(tells.decode(message.body))

    def _told(self, told: Tells) -> None:
        match told:
            case Opened(card):
                self._open(card)
            case Said(id, delta, relay, done) if id in self._runs:
                event = delta or relay or done
                self._runs[id].over = done is not None
                self._runs[id].events.put_nowait(event)
            case Fault(None):
                self._open(raised(told))
            case Fault(id) if id in self._runs:
                self._runs[id].over = True
                self._runs[id].events.put_nowait(raised(told))
            case Stopped(id) | Fault(int(id)) if id in self._stopping:
                self._stopping.pop(id).cancel()
            case Said(id, _, _, Done()) if id in self._stopping:
                self._stopping.pop(id).cancel()

    def _open(self, what: Card | BicameralError) -> None:
        if self._opened is None or self._opened.done():
            return
        if isinstance(what, BicameralError):
            self._opened.set_exception(what)
        else:
            self._opened.set_result(what)

    def _lost(self, why: str) -> None:
        """The process is dead, silent or deaf."""
        self._why = why
        self._up.clear()
        if self._opened and not self._opened.done():
            self._opened.set_exception(
                ConfigError(
                    f"[models.{self._name}] its process died before the model was open; "
                    "what it said is on stderr"
                )
            )
        if self._keeper:
            self._gone.set()

    async def _keep(self) -> None:
        """Bring the process back whenever it is gone."""
        while True:
            await self._gone.wait()
            self._gone.clear()
            await self._reap()
            for run in self._runs.values():
                run.events.put_nowait(None)
            self.crashes += 1
            pause = 0.0 if self.crashes == 1 else min(_LONGEST, 0.25 * 2**self.crashes)
            self._next_start = time.monotonic() + pause
            await asyncio.sleep(pause)
            self.restarts += 1
            try:
                await self.start()
            except BicameralError as error:
                self._why = str(error)
                self._gone.set()

    async def _reap(self) -> None:
        """Kill what is left of the process; only then is its memory used again."""
        for handle in self._stopping.values():
            handle.cancel()
        self._stopping.clear()
        if self._drive:
            self._drive.stop()
        if self._process:
            self._process.kill()
            code = await asyncio.to_thread(self._process.wait)
            self._why = f"{self._why}; exit code {code}"
        if self._link:
            self._link.close()
        self._link = self._drive = None

    async def close(self) -> None:
        """End the process: in good order if it listens, else by force."""
        self._closed = True
        if self._keeper:
            self._keeper.cancel()
            await asyncio.gather(self._keeper, return_exceptions=True)
        self._up.clear()
        if self._drive:
            self._drive.stop()
        if self._link and self._process:
            self._link.close("done")
            with suppress(subprocess.TimeoutExpired):
                await asyncio.to_thread(self._process.wait, self._settings.grace)
        await self._reap()
        for run in self._runs.values():
            run.events.put_nowait(Unreachable(self._name, "it was closed"))
        self._pool.close()
