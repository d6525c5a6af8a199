"""A deterministic model that says what its options tell it; needs no key, network or chip.

It can be slow, fail, die mid-stream, lie with confidence, call a tool, make a clip, and it counts
its runs and cancellations, so minds and servers can be tried without a real model.
"""

from __future__ import annotations

import asyncio
import math
import re
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Literal

from msgspec import Meta
from msgspec.structs import replace

from bicameral.config import MemberOptions
from bicameral.content import VideoFormat
from bicameral.errors import (
    Broken,
    ModelError,
    Overloaded,
    Rejected,
    Timeout,
    TooLong,
    Unauthorized,
    Unreachable,
)
from bicameral.model import admit
from bicameral.types import (
    Card,
    Delta,
    Done,
    Embedding,
    Event,
    Feature,
    Finish,
    Modality,
    Part,
    Percept,
    Progress,
    Reach,
    Reasoning,
    Request,
    Text,
    TokenLogprob,
    ToolCall,
    Usage,
    Video,
)

Failure = Literal[
    "unreachable", "timeout", "overloaded", "unauthorized", "rejected", "too_long", "broken"
]
_CLIPS = Path(__file__).parent / "script"
_MEDIA_TYPES: Mapping[VideoFormat, str] = {
    "mp4": "video/mp4",
    "gif": "image/gif",
    "npz": "application/x-npz",
    "png": "image/png",
}


class Options(MemberOptions, frozen=True, kw_only=True):
    """`reply` empty: it echoes the question. `replies` maps a question to its own reply.

    `delay` passes before every piece (a word), in seconds; `die_after` pieces the stream breaks;
    `confidence` is the probability it claims for every token; `usage` false: it reports none.
    `percepts` is what it perceives in any media, if asked to perceive. Asked for a video it takes
    `video_steps`, which count as pieces, and gives a clip of 8 frames in one second.
    """

    reply: str = ""
    replies: Mapping[str, str] = {}
    reasoning: str = ""
    delay: float = 0.0
    fail: Failure | None = None
    retry_after: float | None = None
    die_after: int | None = None
    confidence: float = 0.9
    usage: bool = True
    tool_arguments: str = "{}"
    calls_tools: bool = False
    features: tuple[Feature, ...] = tuple(f for f in Feature if f is not Feature.MANY)
    accepts: tuple[Modality, ...] = (Modality.TEXT,)
    emits: tuple[Modality, ...] = (Modality.TEXT,)
    extra: tuple[str, ...] = ()
    context: int | None = None
    percepts: tuple[Percept, ...] = ()
    video_steps: Annotated[int, Meta(ge=1, le=10_000)] = 4


@asynccontextmanager
async def open(name: str, options: Options) -> AsyncIterator[Scripted]:
    """The scripted model called `name`."""
    yield Scripted(name, options)


class Scripted:
    """A Model that follows a script; `runs` and `cancelled` count what happened to it."""

    def __init__(self, name: str, options: Options) -> None:
        self._options = options
        self.runs = 0
        self.running = 0
        self.cancelled = 0
        self._card = Card(
            name=name,
            engine="scripted",
            accepts=frozenset(options.accepts),
            emits=frozenset(options.emits),
            features=frozenset(options.features),
            extra=frozenset(options.extra),
            context=options.context,
            reach=options.reach_or(Reach.DEVICE),
            owner=options.owner,
            price=options.price(),
            chip="none",
            watts=options.watts,
            serves="scripted",
        )

    @property
    def card(self) -> Card:
        """What the options say it is."""
        return self._card

    async def run(self, request: Request) -> AsyncGenerator[Event]:
        """Say the script, one word a Delta."""
        admit(self._card, request)
        self.runs += 1
        self.running += 1
        finished = False
        try:
            async for event in self._say(request):
                yield event
            finished = True
        except ModelError:
            finished = True
            raise
        finally:
            self.running -= 1
            self.cancelled += not finished

    async def _say(self, request: Request) -> AsyncIterator[Event]:
        o = self._options
        await asyncio.sleep(o.delay)
        if o.fail:
            raise self._failure(o.fail)
        if request.output is Modality.EMBEDDING:
            for index, message in enumerate(request.messages):
                yield Delta(Embedding(_vector(message.text), index), by=self._card.name)
            yield Done(usage=self._usage(request, 0), by=self._card.name)
            return
        if request.output is Modality.VIDEO:
            async for event in self._film(request):
                yield event
            return
        pieces, reason = self._script(request)
        for said, piece in enumerate(pieces):
            self._live(said)
            if said:
                await asyncio.sleep(o.delay)
            yield Delta(piece, by=self._card.name, logprobs=self._logprobs(request, piece))
        yield Done(usage=self._usage(request, len(pieces)), reason=reason, by=self._card.name)

    async def _film(self, request: Request) -> AsyncIterator[Event]:
        name, steps = self._card.name, self._options.video_steps
        for done in range(1, steps + 1):
            self._live(done - 1)
            if done > 1:
                await asyncio.sleep(self._options.delay)
            yield Delta(Progress(done, steps), by=name)
        kind = request.video.format if request.video else "mp4"
        data = (_CLIPS / f"clip.{kind}").read_bytes()
        yield Delta(Video(data=data, media_type=_MEDIA_TYPES[kind]), by=name)
        usage = self._usage(request, 0)
        if self._options.usage:
            usage = replace(usage, media_ms=1000)
        yield Done(usage=usage, by=name)

    def _live(self, said: int) -> None:
        if said == self._options.die_after:
            raise Broken(self._card.name, f"died after {said} pieces, as its script says")

    def _script(self, request: Request) -> tuple[Sequence[Part], Finish]:
        o = self._options
        if request.output is Modality.PERCEPT:
            return o.percepts, "stop"
        if o.calls_tools and request.tools and not _after_tool(request):
            first, *more = _words(o.tool_arguments) or [""]
            call = ToolCall(id="call_0", name=request.tools[0].name, arguments=first)
            return [call, *(ToolCall(arguments=word) for word in more)], "tool_calls"
        text = o.replies.get(request.question, o.reply or request.question)
        for stop in request.sampling.stop:
            text = text.partition(stop)[0]
        words = _words(text)
        limit = request.sampling.max_tokens
        cut = limit is not None and limit < len(words)
        thought: list[Part] = [Reasoning(o.reasoning)] if o.reasoning else []
        return [*thought, *map(Text, words[:limit])], "length" if cut else "stop"

    def _logprobs(self, request: Request, piece: object) -> tuple[TokenLogprob, ...]:
        if not request.sampling.logprobs or not isinstance(piece, Text):
            return ()
        return (TokenLogprob(piece.text, math.log(self._options.confidence)),)

    def _usage(self, request: Request, said: int) -> Usage:
        if not self._options.usage:
            return Usage()
        asked = sum(len(m.text.split()) for m in request.messages)
        return Usage(
            prompt_tokens=asked, completion_tokens=said, cached_tokens=0, reasoning_tokens=0
        )

    def _failure(self, kind: Failure) -> ModelError:
        name, why = self._card.name, "fails, as its script says"
        match kind:
            case "unreachable":
                return Unreachable(name, why)
            case "timeout":
                return Timeout(name, "first token", self._options.delay)
            case "overloaded":
                return Overloaded(name, why, retry_after=self._options.retry_after)
            case "unauthorized":
                return Unauthorized(name, why)
            case "rejected":
                return Rejected(name, why, param="messages", code="scripted")
            case "too_long":
                return TooLong(name, why)
            case "broken":
                return Broken(name, why)


def _words(text: str) -> list[str]:
    return re.findall(r"\S+\s*|\s+", text)


def _after_tool(request: Request) -> bool:
    return bool(request.messages) and request.messages[-1].role == "tool"


def _vector(text: str) -> tuple[float, ...]:
    """Letter frequencies: deterministic, and nearer for texts that share letters."""
    counts = [float(text.lower().count(chr(c))) for c in range(ord("a"), ord("z") + 1)]
    norm = math.sqrt(sum(c * c for c in counts)) or 1.0
    return tuple(c / norm for c in counts)
