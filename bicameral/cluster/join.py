"""The one file that knows Ray: joining a cluster, what its nodes have, actors and their ends.

Ray has one connection to a cluster per process. The first who joins opens it, the last who leaves
closes it; one that was there before is used and left as it is.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import threading
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from importlib import import_module
from typing import Any

from bicameral.cluster.settings import Settings
from bicameral.cluster.wire import Shared
from bicameral.cluster.worker import Worker
from bicameral.errors import BicameralError, ConfigError
from bicameral.options import ClusterOptions

_PATIENT = 5.0  # seconds for a connection to the address of a cluster


class Lost(BicameralError):
    """The actor is gone, or can no longer be told from one that is."""


class Trouble(BicameralError):
    """Ray could not carry a message there or back."""


class _Joined:
    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.users = 0
        self.ours = False
        self.address = ""


_JOINED = _Joined()


@asynccontextmanager
async def joined(options: ClusterOptions) -> AsyncIterator[Cluster]:
    """The cluster of `options`, as long as the block runs; ConfigError if there is none."""
    await asyncio.to_thread(_join, options)
    try:
        yield Cluster(options.address == "local")
    finally:
        await asyncio.to_thread(_leave)


def _library() -> Any:
    try:
        return import_module("ray")
    except ModuleNotFoundError as error:
        raise ConfigError("[cluster] needs Ray: pip install 'bicameral[cluster]'") from error


def _join(options: ClusterOptions) -> None:
    if options.address == "local":
        # Read when Ray is imported: what stays on this machine keeps to loopback, and nothing
        # calls home.
        os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    ray = _library()
    with _JOINED.lock:
        if _JOINED.users and _JOINED.address != options.address:
            raise ConfigError(
                f"[cluster] address: this process has joined {_JOINED.address} already; another "
                "takes effect at the next start"
            )
        if not ray.is_initialized():
            _connect(ray, options)
            _JOINED.ours = True
        _JOINED.users += 1
        _JOINED.address = options.address


def _leave() -> None:
    with _JOINED.lock:
        _JOINED.users -= 1
        if _JOINED.users == 0 and _JOINED.ours:
            _library().shutdown()
            _JOINED.ours = False


def _connect(ray: Any, options: ClusterOptions) -> None:
    address = options.address
    more: dict[str, Any] = {}
    if address == "local":
        more = {"include_dashboard": False, **_given(options.resources)}
    elif address != "auto":
        _reachable(address)
    log = logging.getLogger("ray")
    before = log.level
    log.setLevel(logging.ERROR)  # it warns that it leaves SIGTERM to us
    try:
        ray.init(
            address=address,
            namespace=options.namespace,
            log_to_driver=False,
            configure_logging=False,
            **more,
        )
    except (ConnectionError, RuntimeError, TimeoutError) as error:
        raise ConfigError(
            f"[cluster] address: there is no Ray cluster at '{address}' ({error}); start one with "
            'ray start --head, or set address = "local"'
        ) from error
    finally:
        log.setLevel(before)


def _reachable(address: str) -> None:
    """Ray itself would wait for a long time."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), _PATIENT).close()
    except OSError as error:
        raise ConfigError(
            f"[cluster] address: nothing answers at {address} ({error.strerror or error}); start "
            "a cluster there with ray start --head"
        ) from error


def _given(resources: Mapping[str, float]) -> dict[str, Any]:
    """Resources as Ray's own functions take them."""
    rest = {label: float(amount) for label, amount in resources.items()}
    found: dict[str, Any] = {}
    for label, key in (("CPU", "num_cpus"), ("GPU", "num_gpus")):
        if label in rest:
            amount = rest.pop(label)
            found[key] = int(amount) if amount == int(amount) else amount
    if rest:
        found["resources"] = rest
    return found


class _Placed(Worker):
    """A Worker that knows where Ray has put it."""

    async def place(self) -> str:
        """The version that stands here, and the id of the node."""
        return f"{await super().place()} {_library().get_runtime_context().get_node_id()}"


class Cluster:
    """A cluster that this process has joined; `local`: it ends at this machine."""

    def __init__(self, local: bool) -> None:
        self.local = local
        self._ray = _library()
        self._errors = import_module("ray.exceptions")

    def actor(self, settings: Settings, *given: Any) -> Actor:
        """An actor for one replica; Ray looks for a node for it until it is ended."""
        options = {
            "num_cpus": settings.num_cpus,
            "max_concurrency": 2 * settings.max_ongoing + 64,
            "max_restarts": 0,
            "max_task_retries": 0,
            "scheduling_strategy": "SPREAD",
            **_given(settings.resources),
        }
        if settings.memory is not None:
            options["memory"] = settings.memory
        made = self._ray.remote(_Placed).options(**options).remote(*given)
        return Actor(self._ray, self._errors, made)

    async def leaving(self) -> set[str]:
        """The nodes that Ray has been told to drain, by id."""
        state = import_module("ray._private.state").state
        return set(await asyncio.to_thread(state.get_draining_nodes))

    async def nodes(self) -> list[Mapping[str, float]]:
        """What each living node has in all, by label."""
        found = await asyncio.to_thread(self._ray.nodes)
        return [node["Resources"] for node in found if node["Alive"]]


class Actor:
    """A Worker somewhere in the cluster."""

    def __init__(self, ray: Any, errors: Any, actor: Any) -> None:
        self._ray = ray
        self._errors = errors
        self._actor = actor

    def call(self, method: str, *given: Any) -> Any:
        """Ask it to run a method; the answer is what `answer` makes of what this gives."""
        return getattr(self._actor, method).remote(*given)

    async def answer(self, call: Any) -> Any:
        """What a call gave. Raises Lost if the actor is gone, Trouble if Ray failed at it."""
        try:
            return await call
        except self._errors.RayActorError as error:
            raise Lost(_first_line(error)) from error
        except self._errors.RayError as error:
            raise Trouble(type(error).__name__) from error

    def stream(self, method: str, *given: Any) -> Any:
        """Ask it to run a method that yields; `following` gives one after the other."""
        return getattr(self._actor, method).options(num_returns="streaming").remote(*given)

    async def following(self, stream: Any) -> Any:
        """The next that a stream gives. Raises as `answer` does, Trouble also if it has ended."""
        try:
            return await self.answer(await anext(stream))
        except StopAsyncIteration:
            raise Trouble("the stream ended early") from None
        except self._errors.RayActorError as error:
            raise Lost(_first_line(error)) from error
        except self._errors.RayError as error:
            raise Trouble(type(error).__name__) from error

    async def put(self, shared: Shared) -> Any:
        """Bytes into the object store, which may take as long as other disks and memories do."""
        try:
            return await asyncio.to_thread(self._ray.put, shared)
        except self._errors.RayError as error:
            raise Trouble(type(error).__name__) from error

    async def kill(self) -> None:
        """End it now; it does not come back."""
        await asyncio.to_thread(self._ray.kill, self._actor)


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0].rstrip(".")
