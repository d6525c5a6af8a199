"""A member on other machines: a Model here whose work the replicas of a pool do.

A replica that dies is replaced. A request that it had not begun to answer is asked once more, of
another; one whose answer had begun fails, as a second beginning would repeat it. Every call is
metered and booked here, where it is asked, so there is one book whatever happens out there.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import count
from typing import Any

from msgspec.structs import replace

from bicameral.cluster.join import Cluster, Lost, Trouble, joined
from bicameral.cluster.pool import Pool
from bicameral.cluster.replica import Replica
from bicameral.cluster.settings import Settings, checked
from bicameral.cluster.wire import AHEAD, Batch, batch, lift
from bicameral.engines.told import Told
from bicameral.errors import Broken, Overloaded, Timeout, Unreachable
from bicameral.model import admit
from bicameral.options import ClusterOptions
from bicameral.right.across import raised
from bicameral.types import Card, Done, Event, Reach, Request

log = logging.getLogger("bicameral.cluster")
_LATE = 1.0  # seconds a model may need to say itself that a deadline has passed
_LAST = 1.0  # seconds a closed stream waits for what the leaf has still to tell


@asynccontextmanager
async def open(
    name: str,
    table: Mapping[str, Any],
    settings: Settings,
    options: ClusterOptions,
    source: str,
) -> AsyncIterator[Far]:
    """The model of a [models.NAME] table of `source`, its `cluster` left out, in the cluster.

    Raises what opening it here would raise, ChipError if no node takes it, or ConfigError if there
    is no cluster.
    """
    checked(name, settings)
    async with AsyncExitStack() as stack:
        cluster = await stack.enter_async_context(joined(options))
        far = Far(name, cluster, settings, (name, dict(table), source))
        stack.push_async_callback(far.pool.close)
        await far.start()
        yield far


class Far:
    """A Model whose engine runs in replicas on the nodes of a cluster."""

    def __init__(
        self, name: str, cluster: Cluster, settings: Settings, given: tuple[Any, ...]
    ) -> None:
        self._name = name
        self._cluster = cluster
        self._settings = settings
        self._given = given
        self._numbers = count(1)
        self._card: Card | None = None
        self.pool = Pool(name, settings, self._make, self._open, cluster.leaving)

    @property
    def card(self) -> Card:
        """What the first replica says of itself; off this machine it is at reach site at least."""
        if self._card is None:
            raise Unreachable(self._name, "no replica has opened it yet")
        return self._card

    async def start(self) -> None:
        """Open as many replicas as there must be."""
        await self.pool.start()

    def _make(self) -> Replica:
        return Replica(self._name, self._cluster.actor(self._settings, *self._given))

    async def _open(self, replica: Replica) -> None:
        card = await replica.open(self._cluster, self._settings)
        if not self._cluster.local:
            # Any node may be another machine, and the next replica on another than this one.
            card = replace(card, reach=max(card.reach, Reach.SITE))
        if self._card is None:
            self._card = card
        elif card != self._card:
            log.warning("%s: a replica's card differs; the first one's counts", self._name)

    def run(self, request: Request) -> AsyncGenerator[Event]:
        """The events of the model; what a death cut off before its first event is asked again."""
        return self.telling(request, Told())

    async def telling(self, request: Request, told: Told) -> AsyncGenerator[Event]:
        """The same; `told` gets what the leaf told there, and the try that a death cut off."""
        admit(self.card, request)
        for last in (False, True):
            talk = _Talk(self._name, next(self._numbers), await self.pool.take(request), request)
            begun = False
            try:
                await talk.ask()
                while not talk.over:
                    came = await talk.next()
                    came.tell(told)
                    for event in came.events:
                        begun = True
                        yield event
                        if isinstance(event, Done):
                            self.pool.worked()
                            return
                        talk.taken()
                    if came.fault is not None:
                        raise raised(came.fault)
                raise _silent(self._name, talk.replica)
            except Lost as lost:
                self.pool.lost(talk.replica, str(lost))
                died = Broken(self._name, f"its replica died as it answered ({lost})")
                if begun or last:
                    raise died from lost
                told.lost.append(died)
            except Trouble as trouble:
                raise Broken(self._name, f"Ray failed to carry its answer: {trouble}") from trouble
            finally:
                await self._ended(talk, told)

    async def _ended(self, talk: _Talk, told: Told) -> None:
        """Have the work stopped if it goes on; the replica is taken until it has ended."""
        if talk.over:
            self.pool.give(talk.replica)
            return
        ending = asyncio.create_task(self._stopped(talk))
        self.pool.hold(ending)
        if talk.replica.tells:
            await asyncio.wait({ending}, timeout=_LAST)
            if ending.done() and (rest := ending.result()):
                rest.tell(told)

    async def _stopped(self, talk: _Talk) -> Batch | None:
        try:
            return await asyncio.wait_for(talk.stop(), self._settings.grace_seconds)
        except TimeoutError:
            grace = self._settings.grace_seconds
            self.pool.lost(talk.replica, f"it worked on {grace:g} s after it was told to stop")
        except Lost as lost:
            self.pool.lost(talk.replica, str(lost))
        except Trouble as trouble:
            self.pool.lost(talk.replica, f"Ray failed to stop it: {trouble}")
        finally:
            self.pool.give(talk.replica)
        return None


def _silent(name: str, replica: Replica) -> Exception:
    """Why an answer just ended."""
    return Lost("it had to go") if replica.going else Broken(name, "ended without saying so")


class _Talk:
    """One try of one request with one replica."""

    def __init__(self, name: str, id: int, replica: Replica, request: Request) -> None:
        self._name = name
        self._id = id
        self._request = request
        self._batches: Any = None
        self._taken = 0
        self.replica = replica
        self.over = False

    async def ask(self) -> None:
        """Send the request; Overloaded if the object store has no room for its bytes."""
        body, large = lift(self._request)
        actor = self.replica.actor
        try:
            beside = [await actor.put(shared) for shared in large]
        except Trouble as error:
            self.over = True
            raise Overloaded(self._name, f"no room for what it should see: {error}") from error
        self._batches = actor.stream("ask", self._id, body, *beside)

    async def next(self) -> Batch:
        """What there is by now, once there is something."""
        try:
            came: Batch = batch.decode(await self._within())
        except Lost:
            self.over = True
            raise
        self.over = came.over
        return came

    async def _within(self) -> Any:
        left = self._request.remaining()
        following = self.replica.actor.following(self._batches)
        if left is None:
            return await following
        try:
            async with asyncio.timeout(left + _LATE):
                return await following
        except TimeoutError as error:
            raise Timeout(self._name, "total", left + _LATE) from error

    def taken(self) -> None:
        """An event was read: let the replica say more, some events at a time."""
        self._taken += 1
        if self._taken % (AHEAD // 2) == 0:
            self.replica.actor.call("more", self._id, AHEAD // 2)

    async def stop(self) -> Batch:
        """End the work there; a Batch once it has ended."""
        actor = self.replica.actor
        came: Batch = batch.decode(await actor.answer(actor.call("stop", self._id)))
        return came
