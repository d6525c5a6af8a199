"""One replica of a member: an actor on some node, and what it has to do."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from importlib.metadata import version

from bicameral.cluster.join import Actor, Cluster, Lost, Trouble
from bicameral.cluster.settings import Settings
from bicameral.cluster.wire import Opened, opened
from bicameral.errors import ChipError, ConfigError, Unreachable
from bicameral.right.across import raised
from bicameral.types import Card


class Replica:
    """An actor that runs the model; `ongoing` counts requests that it has not ended yet."""

    def __init__(self, name: str, actor: Actor) -> None:
        self._name = name
        self.actor = actor
        self.node = ""
        self.ongoing = 0
        self.asked = 0
        self.up = False
        self.going = False
        self.idle = asyncio.Event()
        self.idle.set()
        self.tells = False

    @property
    def free(self) -> bool:
        """Whether it takes new requests at all."""
        return self.up and not self.going

    def take(self) -> None:
        """One more request."""
        self.ongoing += 1
        self.asked += 1
        self.idle.clear()

    def give(self) -> None:
        """One request fewer."""
        self.ongoing -= 1
        if self.ongoing == 0:
            self.idle.set()

    async def open(self, cluster: Cluster, settings: Settings) -> Card:
        """Its card, once it has a node and the model is open there.

        Raises ChipError if no node takes it, what opening the model raised there, or Unreachable.
        """
        try:
            await self._placed(cluster, settings)
            return await self._opened(settings)
        except (Lost, Trouble) as error:
            raise Unreachable(self._name, f"its replica ended as it opened: {error}") from error

    async def _placed(self, cluster: Cluster, settings: Settings) -> None:
        place = self.actor.answer(self.actor.call("place"))
        try:
            there = await asyncio.wait_for(place, settings.place_seconds)
        except TimeoutError as error:
            raise ChipError(await _unplaced(self._name, cluster, settings)) from error
        installed, _, self.node = there.partition(" ")
        if installed != version("bicameral"):
            raise ConfigError(
                f"[models.{self._name}.cluster] a node has Bicameral {installed}, this one "
                f"{version('bicameral')}: install the same on every node"
            )

    async def _opened(self, settings: Settings) -> Card:
        opening = self.actor.answer(self.actor.call("open"))
        try:
            told: Opened = opened.decode(await asyncio.wait_for(opening, settings.start_seconds))
        except TimeoutError as error:
            raise ConfigError(
                f"[models.{self._name}.cluster] start_seconds: the model was not open after "
                f"{settings.start_seconds:g} s"
            ) from error
        if told.fault is not None:
            raise raised(told.fault)
        if told.card is None:
            raise Unreachable(self._name, "its node opened no model")
        self.tells, self.up = told.tells, True
        return told.card

    async def death(self) -> str:
        """Waits until the actor is gone; why, as far as Ray knows."""
        try:
            await self.actor.answer(self.actor.call("stand"))
        except (Lost, Trouble) as error:
            return str(error)
        return "it left"

    async def end(self, seconds: float) -> None:
        """Close the model if it does so within `seconds`, and end the actor."""
        self.going, self.up = True, False
        if seconds:
            with suppress(Lost, Trouble, TimeoutError):  # it is ended by force then
                await asyncio.wait_for(self.actor.answer(self.actor.call("close")), seconds)
        await self.actor.kill()


async def _unplaced(name: str, cluster: Cluster, settings: Settings) -> str:
    """Why no node took it, in words."""
    wanted = {**settings.resources, "CPU": settings.num_cpus}
    nodes = [_plain(node) for node in await cluster.nodes()]
    has = "; ".join(_list(node) for node in nodes) or "no node"
    asks = _list({label: amount for label, amount in wanted.items() if amount})
    able = any(all(n.get(label, 0) >= least for label, least in wanted.items()) for n in nodes)
    why = (
        "every node that has it is taken, or slow at starting a process: add one, lower replicas "
        "or num_cpus, or raise place_seconds"
        if able
        else "no node has that: start one with it (ray start --resources), or change resources"
    )
    return (
        f"[models.{name}.cluster] a replica needs {asks} and found no place within "
        f"{settings.place_seconds:g} s; {why}. Nodes: {has}"
    )


def _plain(node: Mapping[str, float]) -> dict[str, float]:
    """Without what Ray adds of its own."""
    return {
        label: amount
        for label, amount in node.items()
        if ":" not in label and label not in ("memory", "object_store_memory")
    }


def _list(resources: Mapping[str, float]) -> str:
    return ", ".join(f"{label} {amount:g}" for label, amount in sorted(resources.items())) or "none"
