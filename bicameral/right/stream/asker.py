"""Asks reasoning about events, one after the other, and keeps those it cannot ask about yet.

Every event that is handed in ends in exactly one of: yes, no, unclear, or undescribed. While the
model does not answer it is tried again and again, with growing pauses; of what is live the newest
event is asked about first.
"""

from __future__ import annotations

import asyncio
import base64
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from msgspec import Struct

from bicameral.errors import (
    BicameralError,
    BudgetError,
    ConfigError,
    ModelError,
    ReachError,
    RequestError,
    Timeout,
    Unauthorized,
)
from bicameral.right.stream import question
from bicameral.right.stream.clock import Clock
from bicameral.right.stream.evidence import Sighting, save
from bicameral.right.stream.notices import Alarm, Described, Dismissed, Down, Notice, Undescribed
from bicameral.right.stream.pending import Pending
from bicameral.right.stream.settings import WatchSettings
from bicameral.types import Answer, Request

Ask = Callable[[Request], Awaitable[Answer]]
Pause = Callable[[float], Awaitable[None]]
_PAUSES = (1.0, 2.0, 4.0, 8.0, 16.0, 30.0)
_HOPELESS = (RequestError, ConfigError, BudgetError, ReachError, Unauthorized)


class Wish(Struct, frozen=True, kw_only=True):
    """What is asked of every event, and what an alarm brings along.

    `picture`: the moment itself, as a data URL. `folder`: where to save the clip.
    """

    ask: str
    picture: bool = False
    folder: Path | None = None


class Asker:
    """The questions of one watch. `add` from one task, `run` in another."""

    def __init__(
        self,
        wish: Wish,
        ask: Ask,
        settings: WatchSettings,
        clock: Clock,
        *,
        live: bool,
        pause: Pause = asyncio.sleep,
    ) -> None:
        self._wish = wish
        self._ask = ask
        self._settings = settings
        self._clock = clock
        self._live = live
        self._pause = pause
        self._pending = Pending(settings.backlog, newest_first=live)
        self._changed = asyncio.Condition()
        self._ending = self._hurry = False
        self._running: asyncio.Timeout | None = None
        self._fails = 0
        self._answered = False
        self.counts: Counter[str] = Counter()

    async def add(self, sighting: Sighting) -> list[Notice]:
        """Hand in an event; of a recording only when the one before is done, so that it waits."""
        async with self._changed:
            while not self._live and len(self._pending) and not self._ending:
                await self._changed.wait()
            shed = self._pending.add(sighting)
            self._changed.notify_all()
        return [self._given_up(old, "too many wait for the model") for old in shed]

    async def end(self, *, now: bool = False) -> None:
        """No more events come; `now`: nobody is to be asked any more either."""
        async with self._changed:
            self._ending = True
            self._hurry = self._hurry or now
            if now and self._running is not None:
                self._running.reschedule(asyncio.get_running_loop().time())
            self._changed.notify_all()

    async def run(self) -> AsyncIterator[Notice]:
        """What comes of the events, until the end."""
        try:
            while True:
                for old in self._pending.older(self._too_old()):
                    why = "the watch was ended" if self._hurry else "the model did not answer"
                    yield self._given_up(old, why)
                sighting = await self._next()
                if sighting is None:
                    return
                async for notice in self._about(sighting):
                    yield notice
        finally:
            self._pending.close()

    async def _next(self) -> Sighting | None:
        async with self._changed:
            while not len(self._pending):
                if self._ending:
                    return None
                await self._changed.wait()
            found = self._pending.take()
            self._changed.notify_all()
            return found

    async def _about(self, sighting: Sighting) -> AsyncIterator[Notice]:
        asking = question.yes_or_no(
            self._wish.ask, sighting, self._settings.answer_tokens, self._deadline()
        )
        late = self._clock.now() - sighting.born > self._settings.fresh
        try:
            answer = await self._call(asking)
        except BicameralError as error:
            if not self._answered and isinstance(error, _HOPELESS):
                raise
            async for notice in self._failed(sighting, error):
                yield notice
            return
        if self._fails:
            self._fails = 0
            yield Down(up=True, waiting=len(self._pending))
        async for notice in self._answer(sighting, question.read(answer.text), late):
            yield notice

    async def _answer(self, sighting: Sighting, said: str, late: bool) -> AsyncIterator[Notice]:
        delay = self._clock.now() - sighting.born
        self.counts[said] += 1
        self.counts["late"] += late
        if said == "yes":
            clip, why = await self._saved(sighting)
            yield Alarm(
                id=sighting.id, phase=sighting.phase, at=sighting.at, delay=delay, late=late,
                picture=_data_url(sighting) if self._wish.picture else None, clip=clip, why=why,
            )  # fmt: skip
            if self._settings.detail_tokens:
                yield await self._described(sighting)
            return
        yield Dismissed(
            id=sighting.id, phase=sighting.phase, at=sighting.at, delay=delay, late=late,
            answer="no" if said == "no" else "unclear",
        )  # fmt: skip

    async def _described(self, sighting: Sighting) -> Notice:
        tokens = self._settings.detail_tokens
        request = question.details(self._wish.ask, sighting, tokens, self._deadline())
        try:
            answer = await self._call(request)
        except BicameralError as error:
            return Described(id=sighting.id, text="", why=str(error))
        return Described(id=sighting.id, text=answer.text.strip())

    async def _failed(self, sighting: Sighting, error: BicameralError) -> AsyncIterator[Notice]:
        """Keep the event if another try may work, and pause."""
        if not (isinstance(error, ModelError) and error.retryable):
            yield self._given_up(sighting, str(error))
            return
        for old in self._pending.add(sighting):
            yield self._given_up(old, "too many wait for the model")
        if not self._fails:
            yield Down(up=False, waiting=len(self._pending), why=str(error))
        self._fails += 1
        with suppress(TimeoutError):
            async with self._within(None):
                await self._pause(_PAUSES[min(self._fails, len(_PAUSES)) - 1])

    async def _call(self, request: Request) -> Answer:
        """The answer; raises what stands in its way."""
        self.counts["calls"] += 1
        try:
            async with self._within(self._settings.within):
                answer = await self._ask(request)
        except TimeoutError as error:
            raise Timeout("the model", "total", self._settings.within) from error
        if answer.error is not None:
            raise answer.error
        self._answered = True
        return answer

    @asynccontextmanager
    async def _within(self, seconds: float | None) -> AsyncIterator[None]:
        """TimeoutError after `seconds`, or at once when `end` says now."""
        async with asyncio.timeout(0 if self._hurry else seconds) as self._running:
            yield
        self._running = None

    async def _saved(self, sighting: Sighting) -> tuple[str | None, str]:
        """The clip's file, if one was wished for, or why there is none: an alarm rings anyway."""
        folder = self._wish.folder
        if folder is None:
            return None, ""
        now = datetime.now(UTC).strftime("%Y%m%dT%H%M%S")  # two watches may share a folder
        name = f"{now}-{sighting.id}-{sighting.phase}-{sighting.at:.1f}s"
        try:
            return str(await asyncio.to_thread(save, folder, name, sighting)), ""
        except OSError as error:
            return None, f"the clip could not be saved: {error.strerror}"

    def _given_up(self, sighting: Sighting, why: str) -> Notice:
        self.counts["undescribed"] += 1
        return Undescribed(id=sighting.id, phase=sighting.phase, at=sighting.at, why=why)

    def _too_old(self) -> float:
        return float("inf") if self._hurry else self._clock.now() - self._settings.patience

    def _deadline(self) -> float:
        return time.monotonic() + self._settings.within


def _data_url(sighting: Sighting) -> str:
    kind = "audio/wav" if sighting.kind == "sound" else "image/jpeg"
    return f"data:{kind};base64,{base64.b64encode(sighting.shot.data).decode()}"
