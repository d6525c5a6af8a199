"""Keeps one server up: starts it, watches it, starts it again with back-off, and gives up."""

from __future__ import annotations

import asyncio
import logging
import tempfile
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from glob import glob
from pathlib import Path

from bicameral.engines.launch import listening
from bicameral.engines.launch.child import Child, tail, whole
from bicameral.engines.launch.health import Health
from bicameral.engines.launch.options import Options
from bicameral.engines.launch.order import Orders
from bicameral.engines.launch.recipe import Recipe, untried
from bicameral.engines.remote.member import Remote
from bicameral.errors import (
    BicameralError,
    ChipError,
    ConfigError,
    ModelError,
    Overloaded,
    Unreachable,
)

log = logging.getLogger(__name__)
_PORTS = 4  # free ports that are tried before somebody is said to take them all
_TELL = 15.0  # seconds between two words on a slow start
_LONGEST = 30.0
_TAKEN = "address already in use"

Reach = Callable[[int], AbstractAsyncContextManager[Remote]]
"""How the server on a port is spoken to."""


class PortTaken(ConfigError):
    """Somebody else has the port that the server was to listen on."""


class Deaths:
    """Counts deaths: how long to pause after each, and when it is enough."""

    def __init__(self, most: int, seconds: float, clock: Callable[[], float] = time.monotonic):
        self._most = most
        self._seconds = seconds
        self._clock = clock
        self._times: deque[float] = deque()

    def another(self) -> float | None:
        """Seconds to wait before the next start; None: there have been too many."""
        now = self._clock()
        self._times.append(now)
        while now - self._times[0] > self._seconds:
            self._times.popleft()
        if len(self._times) >= self._most:
            return None
        return back_off(len(self._times))


def back_off(times: int) -> float:
    """Seconds before the next start after so many failures in a row."""
    return float(min(_LONGEST, 0.25 * 2 ** min(times, 10)))


class Life:
    """One server from being up to its death; `why` is set when it is over."""

    def __init__(self, remote: Remote) -> None:
        self.remote = remote
        self.over = asyncio.Event()
        self.why = ""


class Keeper:
    """The server of one member, whichever process it is just now."""

    def __init__(
        self, name: str, options: Options, recipe: Recipe, orders: Orders, key: str, reach: Reach
    ) -> None:
        self._name = name
        self._options = options
        self._recipe = recipe
        self._orders = orders
        self._key = key
        self._reach = reach
        self._deaths = Deaths(options.deaths, options.deaths_seconds)
        self._life: Life | None = None
        self._why = "has not been started"
        self._over = False
        self._back_at = 0.0
        self._took = 1.0
        self._asked = False
        self._devices: set[str] = set()
        self._chip_misses = 0
        self._task: asyncio.Task[None] | None = None
        self.pid = 0
        self.restarts = 0

    def life(self) -> Life:
        """The server that is up; else Overloaded, or Unreachable if it will not come back."""
        if self._life is None:
            raise self.refusal()
        self._asked = True
        return self._life

    def refusal(self) -> ModelError:
        """Why nothing can be asked now."""
        if self._over:
            return Unreachable(self._name, self._why)
        wait = max(0.1, self._back_at - time.monotonic())
        return Overloaded(
            self._name,
            f"its server {self._why}; it is {self._next()}",
            retry_after=wait,
            status=503,
        )

    def _next(self) -> str:
        return "started again once the chip is back" if self._chip_misses else "being started again"

    async def open(self) -> None:
        """Start the server and wait until it is up; what prevents the first start is raised."""
        up: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._task = asyncio.create_task(self._keep(up))
        try:
            await asyncio.wait({up, self._task}, return_when=asyncio.FIRST_COMPLETED)
            if not up.done():
                self._task.result()
            up.result()
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """End the server and all it started."""
        self._over, self._why = True, "it was closed"
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    # --- the loop ------------------------------------------------------------------------------

    async def _keep(self, up: asyncio.Future[None]) -> None:
        while True:
            self._asked = False
            try:
                gone = await self._lives(up)
                lines = "" if self._asked else self._lines()  # else they may hold users' text
            except (BicameralError, OSError) as error:
                if not up.done():
                    up.set_exception(_ours(self._name, error))
                    return
                gone = isinstance(error, ChipError) or bool(self._missing())
                self._why, lines = f"did not start again{self._without(gone)}", f" {error}"
            pause = self._pause(gone)
            if pause is None:
                self._give_up(lines)
                return
            log.warning(
                "%s: its server %s; next start in %.1f s.%s", self._name, self._why, pause, lines
            )
            self._back_at = time.monotonic() + pause + self._took
            await self._rest(pause)
            self.restarts += 1

    def _pause(self, gone: bool) -> float | None:
        """Seconds to the next start; None: no more. A chip that has gone is always waited for."""
        if not gone:
            self._chip_misses = 0
            return self._deaths.another()
        self._chip_misses += 1
        return back_off(self._chip_misses)

    async def _rest(self, pause: float) -> None:
        """Wait so long, or until the device files of a chip that has gone are back."""
        end = time.monotonic() + pause
        waiting = bool(self._chip_misses and self._missing())
        while (left := end - time.monotonic()) > 0:
            await asyncio.sleep(min(left, self._options.health_seconds) if waiting else left)
            if waiting and not self._missing():
                return

    def _missing(self) -> list[str]:
        """Device files that were there when the server was last up, and are not now."""
        return sorted(self._devices - set(glob(self._recipe.devices)))

    def _without(self, gone: bool) -> str:
        return f", as its chip {self._options.chip or ''} was not found" if gone else ""

    async def _lives(self, up: asyncio.Future[None]) -> bool:
        """One server, from its start to its death: whether its chip has gone."""
        began = time.monotonic()
        async with self._started() as (child, health, port), self._reach(port) as remote:
            self._devices, self._chip_misses = set(glob(self._recipe.devices)), 0
            life = self._life = Life(remote)
            self._took = time.monotonic() - began
            log.info("%s: up on port %d after %.1f s", self._name, port, self._took)
            if not up.done():
                up.set_result(None)
            try:
                self._why = await health.falls(child)
                chip = self._chip_gone(child)
                self._why += chip
                if self._why.startswith("hung"):
                    await child.stop(now=True)
            finally:
                self._life = None
                life.why = self._why
                life.over.set()
        return bool(chip)

    def _give_up(self, lines: str) -> None:
        hint = "" if "never run by us" in lines else untried(self._options.recipe, self._recipe)
        self._why = (
            f"given up, as its server died {self._options.deaths} times within "
            f"{self._options.deaths_seconds:g} s. It {self._why}.{lines} "
            f"Mend it, then reload or restart Bicameral; its log is {self._orders.log}.{hint}"
        )
        self._over = True
        log.error("%s: %s", self._name, self._why)

    # --- one start -----------------------------------------------------------------------------

    @asynccontextmanager
    async def _started(self) -> AsyncIterator[tuple[Child, Health, int]]:
        """The server, up and serving what it should; it is ended when the block is left."""
        for attempt in range(1, _PORTS + 1):
            port = self._port()
            async with self._child(port) as child:
                try:
                    health = await self._rise(child, port)
                except PortTaken:
                    if self._options.port is not None or attempt == _PORTS:
                        raise
                    log.info("%s: somebody took port %d; another", self._name, port)
                    continue
                yield child, health, port
                return

    @asynccontextmanager
    async def _child(self, port: int) -> AsyncIterator[Child]:
        """Files that it reads at its start may hold its key, so they go when it does."""
        with tempfile.TemporaryDirectory(prefix="bicameral-", ignore_cleanup_errors=True) as folder:
            child = await Child.start(self._orders.order(port, Path(folder)))
            self.pid = child.pid
            try:
                yield child
            finally:
                self.pid = 0
                await whole(child.stop())

    def _port(self) -> int:
        port = self._options.port
        if port is not None and listening.taken(port):
            raise PortTaken(
                f"[models.{self._name}] port: {port} is taken by another program; choose another, "
                "or leave it out for a free one"
            )
        return listening.free_port() if port is None else port

    async def _rise(self, child: Child, port: int) -> Health:
        """Wait until it is up; it has to be ours, for us alone, and what was configured."""
        o = self._options
        health = Health(
            self._recipe, port, self._key, every=o.health_seconds, silent=o.hung_seconds
        )
        waiting = self._waiting(child)
        why = await health.rises(child, self._options.start_seconds, waiting)
        if why is not None:
            raise self._failed(why, child, port)
        if listening.strangers(port, child.pid):
            raise PortTaken(f"[models.{self._name}] another program answers on port {port}")
        if address := listening.exposed(port):
            raise ConfigError(
                f"[models.{self._name}] its server listens on {address}, where others can reach "
                f"it, not on {listening.HOST} only: mend args or command"
            )
        await self._check_model(health)
        return health

    async def _check_model(self, health: Health) -> None:
        """The recipe's page may tell the model or the name it is served under."""
        served = await health.serves()
        wanted = {self._options.model, self._options.alias}
        if served is None:
            log.info("%s: its server does not say which model it serves", self._name)
        elif wanted.isdisjoint(served):
            raise ConfigError(
                f"[models.{self._name}] model: its server serves {_names(served)}, not "
                f"'{self._options.alias}' as configured: "
                "mend model, served or args"
            )

    def _failed(self, why: str, child: Child, port: int) -> BicameralError:
        """Nothing has been asked yet, so what it printed holds no user's text."""
        lines = child.tail()
        if _TAKEN in lines.lower() or ("ended" in why and listening.taken(port)):
            return PortTaken(f"[models.{self._name}] port {port} is taken by another program")
        kind = ChipError if self._lost(lines) else ConfigError
        missing = f" Install it: {self._recipe.install}." if "No module named" in lines else ""
        chip = f" Its chip {self._options.chip or ''} was not found." if kind is ChipError else ""
        return kind(
            f"[models.{self._name}] its server {why}.{chip}{missing}{self._lines()} "
            f"See {self._orders.log}.{untried(self._options.recipe, self._recipe)}"
        )

    def _waiting(self, child: Child) -> Callable[[], None]:
        began = told = time.monotonic()

        def tell() -> None:
            nonlocal told
            now = time.monotonic()
            if now - told >= _TELL:
                told = now
                last = child.tail().rpartition(" | ")[2]
                log.info("%s: not up after %.0f s; its log: %s", self._name, now - began, last)

        return tell

    def _lines(self) -> str:
        lines = tail(self._orders.log)
        return f" Its last lines: {lines} (end)." if lines else ""

    def _chip_gone(self, child: Child) -> str:
        """What to add if the chip vanished: a fixed phrase, as the log may hold users' text."""
        gone = self._missing()
        if not gone and not self._lost(child.tail()):
            return ""
        which = f" ({', '.join(gone)})" if gone else ""
        return f", as its chip {self._options.chip or ''} has gone{which}"

    def _lost(self, lines: str) -> bool:
        return any(words in lines for words in self._recipe.lost)


def _names(served: tuple[str, ...]) -> str:
    shown = ", ".join(f"'{name[:100]}'" for name in served[:5])
    return shown if len(served) <= 5 else f"{shown} and {len(served) - 5} more"


def _ours(name: str, error: BicameralError | OSError) -> BicameralError:
    if isinstance(error, BicameralError):
        return error
    return ConfigError(f"[models.{name}] its server cannot be started ({error.strerror or error})")
