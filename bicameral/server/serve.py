"""Runs the server: binds, reloads on SIGHUP, drains on SIGTERM, ends with exit code 0.

Going down: /readyz turns 503 and new requests are refused while running ones go on for up to
`drain_timeout`; those still running then end with an error event. A second signal skips the wait.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import uvicorn
from msgspec.structs import replace

from bicameral.brain import Brain, load_config
from bicameral.config import ClusterOptions, Config, ServerOptions, convert
from bicameral.errors import BicameralError, ConfigError
from bicameral.ledger import telemetry
from bicameral.server import log
from bicameral.server.app import App
from bicameral.server.connection import Connection, sweep
from bicameral.server.metrics import Metrics

logger = logging.getLogger("bicameral.server")
_FAREWELL = 2


class Server:
    """A Brain behind a socket; `url` is where it answers. `metrics` are told of every call."""

    def __init__(
        self,
        brain: Brain,
        options: ServerOptions,
        metrics: Metrics | None = None,
        ray: str | None = None,
    ) -> None:
        self._brain = brain
        self._options = options
        self._ray = ray
        self.app = App(brain, options, metrics)
        self._socket = _bind(options.host, options.port)
        host, port = self._socket.getsockname()[:2]
        self.url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
        self._uvicorn = _Uvicorn(
            uvicorn.Config(
                telemetry.incoming(self.app) if brain.traces else self.app,
                http=partial(Connection, options),  # type: ignore[arg-type]
                ws="none",
                lifespan="off",
                interface="asgi3",
                log_config=None,
                access_log=False,
                proxy_headers=False,
                server_header=False,
                timeout_keep_alive=options.idle_timeout,  # type: ignore[arg-type]
                timeout_graceful_shutdown=_FAREWELL,
            )
        )
        self._reloading: set[asyncio.Task[None]] = set()
        self._stopping: asyncio.Task[None] | None = None

    async def run(self) -> None:
        """Serve until `stop` has been called and everything has ended."""
        sweeper = asyncio.create_task(self._sweep())
        try:
            await self.app.videos.start()
            await self._uvicorn.serve(sockets=[self._socket])
        finally:
            sweeper.cancel()
            await self.app.videos.close()
            self._socket.close()

    async def up(self) -> None:
        """Wait until it answers."""
        await self._uvicorn.up.wait()

    def stop(self) -> None:
        """Drain, then end; called again it ends at once."""
        desk = self.app.desk
        if desk.stopping:
            desk.cancel()
            self._uvicorn.should_exit = True
            return
        desk.stopping = True
        logger.info("stopping: %d requests are running", len(desk.tasks))
        self._stopping = asyncio.create_task(self._drain())

    def reload(self, path: Path | None) -> None:
        """Read the config again; if it is wrong the old config stays and the log says why.

        Without a path it is looked for as at the start: weights pulled since then join the mind.
        """
        task = asyncio.create_task(self._reload(path))
        self._reloading.add(task)
        task.add_done_callback(self._reloading.discard)

    async def _reload(self, path: Path | None) -> None:
        before = self._brain.config
        try:
            config = _on(load_config(path), self._ray)
            await self._brain.reload(config)
        except BicameralError as error:
            logger.error("the old config stays: %s", error)
            return
        if _lasting(config) != _lasting(before):
            logger.warning("changes of [server], [ledger] and [videos] wait for the next start")
        logger.info("reloaded %s", config.source)

    async def _drain(self) -> None:
        tasks = self.app.desk.tasks
        if tasks:
            await asyncio.wait(tuple(tasks), timeout=self._options.drain_timeout)
        self.app.desk.cancel()
        self._uvicorn.should_exit = True

    async def _sweep(self) -> None:
        o = self._options
        pause = max(0.02, min(1.0, o.header_timeout / 4, o.write_timeout / 4))
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(pause)
            sweep(self._uvicorn.server_state.connections, loop.time())


def _lasting(config: Config) -> tuple[Any, ...]:
    """The tables that are read at the start only."""
    return config.server, config.ledger, config.videos


class _Uvicorn(uvicorn.Server):
    """Leaves the signals to us, and says when it is up."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.up = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen."""
        try:
            await super().startup(sockets)
        finally:
            self.up.set()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Take none."""
        yield


@asynccontextmanager
async def serving(brain: Brain, options: ServerOptions) -> AsyncIterator[Server]:
    """A server that runs in this loop until the block is left."""
    server = Server(brain, options)
    task = asyncio.create_task(server.run())
    try:
        await server.up()
        yield server
    finally:
        server.stop()
        await task


def serve(
    config: str | Path | None = None,
    *,
    host: str | None = None,
    port: int | None = None,
    ray: str | None = None,
    ready: Callable[[str], None] | None = None,
) -> None:
    """Serve the config file until SIGTERM or SIGINT; `ready` gets the url.

    `ray` is the address of the cluster that members may run in, before that of [cluster].
    Raises ConfigError or WeightsError before anything is bound.
    """
    log.configure()
    loaded = _on(load_config(config), ray)
    options = loaded.server
    if host is not None:
        options = replace(options, host=host)
    if port is not None:
        options = replace(options, port=port)
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(_serve(loaded, options, ray, ready))


def _on(config: Config, ray: str | None) -> Config:
    """The config with the cluster at `ray`, if one is given, for the members that may use one."""
    if ray is None:
        return config
    if not any(table.get("cluster") for table in config.models.values()):
        raise ConfigError(f"{config.source}: --ray: no [models.NAME] table says cluster = true")
    given = {**msgspec.structs.asdict(config.cluster or ClusterOptions()), "address": ray}
    return replace(config, cluster=convert(given, ClusterOptions, config.source, "cluster"))


async def _serve(
    config: Config,
    options: ServerOptions,
    ray: str | None,
    ready: Callable[[str], None] | None,
) -> None:
    metrics = Metrics()
    async with (
        telemetry.opened() as traces,
        Brain.open(config, tell=log.decision, note=metrics.called, traces=traces) as brain,
    ):
        server = Server(brain, options, metrics, ray)
        _spare_the_collector()
        _listen_to_signals(server, Path(config.source))
        logger.info("listening on %s", server.url)
        if ready:
            ready(server.url)
        await server.run()


def _spare_the_collector() -> None:
    """What lives as long as the server need not be looked at again; the rest is mostly acyclic."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


def _listen_to_signals(server: Server, path: Path) -> None:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, server.stop)
    loop.add_signal_handler(signal.SIGHUP, server.reload, path if path.exists() else None)


def _loop_factory() -> Any:
    try:
        import uvloop
    except ModuleNotFoundError:
        return None
    return uvloop.new_event_loop


def _bind(host: str, port: int) -> socket.socket:
    try:
        info = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, protocol, _, address = info[0]
        bound = socket.socket(family, kind, protocol)
    except OSError as error:
        raise ConfigError(f"[server] host: {host} is no address of this machine") from error
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
        bound.listen(2048)
    except OSError as error:
        bound.close()
        raise ConfigError(
            f"[server] {host}:{port} cannot be used ({error.strerror}); choose another port"
        ) from error
    bound.setblocking(False)
    return bound
