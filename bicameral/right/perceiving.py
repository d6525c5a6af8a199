"""A reasoning member that takes pictures, sounds and clips because perceivers translate them.

What the member takes natively it gets untouched. So every policy over members stays as it is, and a
text-only member answers about a picture. All media of the conversation are translated each time, in
order and numbered, so that "and the second one?" has something to point at.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import aclosing, asynccontextmanager
from functools import partial

from msgspec import Struct
from msgspec.structs import replace

from bicameral.engines.llama.voice import Open, Voice, opener
from bicameral.errors import BicameralError, RequestError
from bicameral.model import Model, admit
from bicameral.right.clip import pictures
from bicameral.right.senses import Found, Media, Senses
from bicameral.right.told import told
from bicameral.types import (
    Audio,
    Call,
    Card,
    Done,
    Event,
    Image,
    Message,
    Modality,
    Part,
    Request,
    Text,
    Video,
    spent_at_most,
)

_NAMES: dict[type, tuple[str, Modality]] = {
    Image: ("Picture", Modality.IMAGE),
    Audio: ("Recording", Modality.AUDIO),
    Video: ("Clip", Modality.VIDEO),
}
_LIMIT, _LEAST = 4000, 400  # characters that a part may take


class _Translated(Struct, frozen=True):
    request: Request
    calls: tuple[Call, ...]
    why: str


class Perceiving:
    """A Model around a member: its card takes more, its answers count the perceivers' calls."""

    def __init__(self, model: Model, senses: Senses) -> None:
        self._model = model
        self._senses = senses
        native = model.card.accepts
        kinds = senses.kinds | ({Modality.VIDEO} if Modality.IMAGE in native else frozenset())
        self._card = replace(model.card, accepts=native | kinds)

    @property
    def card(self) -> Card:
        """The member's own, taking also what is translated for it."""
        return self._card

    async def run(self, request: Request) -> AsyncGenerator[Event]:
        """The member's answer to the translated request."""
        if not self._foreign(request):
            async with aclosing(self._model.run(request)) as events:
                async for event in events:
                    yield event
            return
        translated = await self._translate(request)
        try:
            async with aclosing(self._model.run(translated.request)) as events:
                async for event in events:
                    yield _counted(event, translated) if isinstance(event, Done) else event
        except BicameralError as error:
            error.calls = (*translated.calls, *error.calls)
            raise

    @property
    def voice(self) -> Open | None:
        """The member's voice over the translated request; None if it has none."""
        opens = opener(self._model)
        return opens and partial(self._voice, opens)

    @asynccontextmanager
    async def _voice(self, opens: Open, request: Request) -> AsyncIterator[Voice]:
        if self._foreign(request):
            request = (await self._translate(request)).request
        async with opens(request) as voice:
            yield voice

    def _foreign(self, request: Request) -> tuple[Media, ...]:
        """The media that the member itself does not take."""
        native = self._model.card.accepts
        return tuple(part for part in request.media if _NAMES[type(part)][1] not in native)

    async def _translate(self, request: Request) -> _Translated:
        admit(self._card, replace(request, budget=None))
        native, foreign = self._model.card.accepts, self._foreign(request)
        limit = _limit(self._card, len(foreign))
        calls: list[Call] = []
        spoken: dict[str, None] = {}
        parts: list[tuple[Part, ...]] = []
        for what, part in _numbered(foreign):
            here = await self._senses.at_hand(part, request)
            in_place, founds = await self._in_words(what, here, request, limit)
            parts.append(in_place)
            calls += [call for found in founds for call in found.calls]
            spoken.update(dict.fromkeys(name for found in founds for name in found.by))
        return _Translated(
            _within(request.but(messages=_replaced(request, native, iter(parts))), calls),
            tuple(calls),
            f"{len(foreign)} of the parts perceived by {', '.join(spoken)}" if spoken else "",
        )

    async def _in_words(
        self, what: str, part: Media, request: Request, limit: int
    ) -> tuple[tuple[Part, ...], list[Found]]:
        """What the member gets instead of `part`, and what was found for it."""
        if not isinstance(part, Video):
            found = await self._senses.perceive(part, request)
            return (Text(told(what, found, limit=limit)),), [found]
        shots, whole = await pictures(part), await self._as_a_whole(part, request)
        if Modality.IMAGE in self._model.card.accepts:
            times = ", ".join(f"{at:.1f} s" for at, _ in shots)
            head = f"\n[{what}: pictures of it follow, taken at {times}; its sound is left out]\n"
            said = told(what, whole, limit=limit) if whole.percepts else ""
            return (Text(said + head), *(picture for _, picture in shots)), [whole]
        founds = [await self._senses.perceive(picture, request) for _, picture in shots]
        found = _timed([at for at, _ in shots], founds)
        found = replace(found, percepts=(*found.percepts, *whole.percepts))
        return (Text(told(f"{what} (without its sound)", found, limit=limit)),), [*founds, whole]

    async def _as_a_whole(self, clip: Video, request: Request) -> Found:
        """What those find who take clips; one that is not for them is told of without them."""
        try:
            return await self._senses.perceive(clip, request)
        except RequestError as error:
            return Found(calls=error.calls)


def _timed(times: list[float], founds: list[Found]) -> Found:
    """What was found in the pictures of a clip, each at its time; the same twice is said once."""
    percepts, seen = [], set()
    for at, found in zip(times, founds, strict=True):
        for percept in found.percepts:
            if (percept.kind, percept.text) in seen and percept.kind in ("text", "tag"):
                continue
            seen.add((percept.kind, percept.text))
            percepts.append(replace(percept, start=at))
    by = dict.fromkeys(name for found in founds for name in found.by)
    failed = {name: error for found in founds for name, error in found.failed.items()}
    return Found(percepts=tuple(percepts), by=tuple(by), failed=failed)


def _numbered(media: tuple[Media, ...]) -> Iterator[tuple[str, Media]]:
    """Each with what people would call it: Picture 1, Picture 2, Recording 1."""
    counts: dict[type, int] = {}
    for part in media:
        counts[type(part)] = counts.get(type(part), 0) + 1
        yield f"{_NAMES[type(part)][0]} {counts[type(part)]}", part


def _replaced(
    request: Request, native: frozenset[Modality], instead: Iterator[tuple[Part, ...]]
) -> tuple[Message, ...]:
    """The messages with the next of `instead` in place of each part the member does not take."""

    def kept(part: Part) -> bool:
        return not isinstance(part, Media) or _NAMES[type(part)][1] in native

    return tuple(
        replace(
            message,
            parts=tuple(
                p for part in message.parts for p in ((part,) if kept(part) else next(instead))
            ),
        )
        for message in request.messages
    )


def _within(request: Request, calls: list[Call]) -> Request:
    """What the perceivers cost is gone from the budget; an unknown cost leaves nothing."""
    if request.budget is None or not calls:
        return request
    spent = spent_at_most(calls)
    return request.within(budget=0 if spent is None else max(0, request.budget - spent))


def _limit(card: Card, parts: int) -> int:
    """Perception may fill about a third of the context: a token is some three characters."""
    if card.context is None:
        return _LIMIT
    return max(_LEAST, min(_LIMIT, card.context // parts))


def _counted(done: Done, translated: _Translated) -> Done:
    why = "; ".join(part for part in (translated.why, done.why) if part)
    return replace(done, calls=(*translated.calls, *done.calls), why=why)
