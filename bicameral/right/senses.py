"""The perceivers of a brain: each part of a request is perceived once, whoever needs to know.

What was found is remembered by the content of the part, not by its name or address, so the
pictures of a conversation cost nothing when a follow-up question brings them again.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import NamedTuple, Protocol

from msgspec import Struct
from msgspec.structs import replace

from bicameral.errors import BicameralError, Broken, RequestError, Timeout
from bicameral.model import Model, collect
from bicameral.types import (
    Answer,
    Audio,
    Call,
    Image,
    Message,
    Modality,
    Percept,
    Reach,
    Request,
    Video,
)

Media = Image | Audio | Video
_KINDS: Mapping[type, Modality] = {
    Image: Modality.IMAGE,
    Audio: Modality.AUDIO,
    Video: Modality.VIDEO,
}
_LARGE = 1 << 20  # bytes that take longer to hash than a thread takes to start


class Fetcher(Protocol):
    """Gets what a URL names; see `bicameral.right.fetch`."""

    async def get(
        self, url: str, kind: Modality, *, reach: Reach, deadline: float | None
    ) -> tuple[bytes, str]:
        """The bytes and their media type; RequestError if it must not or cannot be had."""
        ...


class Found(Struct, frozen=True, kw_only=True):
    """What all perceivers made of one part; `failed` says who could not, and why."""

    percepts: tuple[Percept, ...] = ()
    by: tuple[str, ...] = ()
    failed: Mapping[str, BicameralError] = {}
    calls: tuple[Call, ...] = ()


class _Key(NamedTuple):
    """Whoever asks the same perceiver for the same content, under the same limits, shares."""

    name: str
    digest: bytes
    reach: Reach
    budget: int | None


class _Shared:
    """One perception that several requests wait for; cancelled when nobody does any more."""

    def __init__(self, task: asyncio.Task[Answer]) -> None:
        self.task = task
        self.waiting = 0

    async def wait(self) -> Answer:
        self.waiting += 1
        try:
            return await asyncio.shield(self.task)
        finally:
            self.waiting -= 1
            if not self.waiting and not self.task.done():
                self.task.cancel()


class Senses:
    """Perceivers, and a memory of what they found in the last `remembered` parts each."""

    def __init__(
        self,
        perceivers: Sequence[Model],
        *,
        fetcher: Fetcher | None = None,
        remembered: int = 1024,
    ) -> None:
        self._perceivers = tuple(perceivers)
        self._fetcher = fetcher
        self._remembered = remembered
        self._memory: OrderedDict[tuple[str, bytes], Answer] = OrderedDict()
        self._running: dict[_Key, _Shared] = {}

    @property
    def kinds(self) -> frozenset[Modality]:
        """What they can translate; a clip is translated through its pictures."""
        kinds = frozenset().union(*(model.card.accepts for model in self._perceivers))
        media = kinds & frozenset(_KINDS.values())
        return media | {Modality.VIDEO} if Modality.IMAGE in media else media

    async def at_hand(self, part: Media, request: Request) -> Media:
        """The part with its bytes: itself, or fetched; RequestError if that is not allowed."""
        if isinstance(part, Audio) or part.data is not None:
            return part
        if self._fetcher is None or part.url is None:
            raise RequestError(
                "messages: the model that answers cannot fetch from a URL: send the content "
                "itself as a data: URL, or let the operator set [right] fetch = true",
                param="messages",
                code="blocked_url",
            )
        data, media_type = await self._fetcher.get(
            part.url, _KINDS[type(part)], reach=request.reach, deadline=request.deadline
        )
        return replace(part, url=None, data=data, media_type=media_type)

    async def perceive(self, part: Media, request: Request) -> Found:
        """What every perceiver of its kind finds in `part`, which has its bytes.

        A part that makes no sense is a RequestError. A perceiver that fails is left out; if all
        do, the error of the first is raised. The request gives reach, deadline and budget.
        """
        kind = _KINDS[type(part)]
        askable = [model for model in self._perceivers if kind in model.card.accepts]
        key = await _digest(part)
        answers = await asyncio.gather(*(self._ask(m, key, part, request) for m in askable))
        found = _joined(answers)
        for error in found.failed.values():
            if isinstance(error, RequestError) or not found.by:
                error.calls = found.calls
                raise error
        return found

    async def _ask(self, model: Model, digest: bytes, part: Media, request: Request) -> Answer:
        name = model.card.name
        known = self._memory.get((name, digest))
        if known is not None and model.card.reach <= request.reach:
            self._memory.move_to_end((name, digest))
            return replace(known, calls=())
        key = _Key(name, digest, request.reach, request.budget)
        shared = self._running.get(key)
        if shared is None or shared.task.done():
            shared = self._start(key, model, part, request)
        try:
            async with asyncio.timeout(request.remaining()):
                return await shared.wait()
        except TimeoutError:
            return Answer(model=name, error=Timeout(name, "total", 0))

    def _start(self, key: _Key, model: Model, part: Media, request: Request) -> _Shared:
        asked = Request(
            messages=(Message("user", (part,)),),
            output=Modality.PERCEPT,
            reach=request.reach,
            budget=request.budget,
            id=request.id,
            booking=request.booking,
        )
        shared = _Shared(asyncio.create_task(_looked(model, asked)))
        self._running[key] = shared
        shared.task.add_done_callback(lambda task: self._ended(key, task))
        return shared

    def _ended(self, key: _Key, task: asyncio.Task[Answer]) -> None:
        if self._running[key].task is task:
            del self._running[key]
        if task.cancelled() or task.exception() is not None or task.result().error is not None:
            return
        self._memory[key.name, key.digest] = task.result()
        while len(self._memory) > self._remembered:
            self._memory.popitem(last=False)


async def _looked(model: Model, request: Request) -> Answer:
    """What it found; asked once more if it broke off, as nothing was told to anyone yet."""
    answer = await collect(model, request)
    if not isinstance(answer.error, Broken):
        return answer
    again = await collect(model, request)
    return replace(again, calls=(*answer.calls, *again.calls))


def _joined(answers: Sequence[Answer]) -> Found:
    good = [answer for answer in answers if answer.error is None]
    return Found(
        percepts=tuple(percept for answer in good for percept in answer.percepts),
        by=tuple(answer.model for answer in good),
        failed={a.model: a.error for a in answers if isinstance(a.error, BicameralError)},
        calls=tuple(call for answer in answers for call in answer.calls),
    )


async def _digest(part: Media) -> bytes:
    data = part.data or b""
    if len(data) < _LARGE:
        return _hashed(data, type(part).__name__)
    return await asyncio.to_thread(_hashed, data, type(part).__name__)


def _hashed(data: bytes, kind: str) -> bytes:
    return blake2b(data, digest_size=16, person=kind.encode()).digest()
