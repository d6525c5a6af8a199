"""The Model protocol, its contract in words, and the folds over its stream.

The contract, checked for every model by tests/engines/test_contract.py:

1. `run` yields Deltas (or Relays, only if the request carries a wire), then exactly one Done.
2. It raises an error of bicameral.errors and nothing else; after an error comes no event.
3. Closing the stream (aclose, or cancelling the task that reads it) stops the work upstream.
4. What the card does not list is refused by name before any work: `run` starts with `admit`.
5. Usage that the model did not report is None, never 0.
6. One model serves many concurrent runs; a run shares no state with another.
"""

from __future__ import annotations

import math
import time
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from typing import Protocol

from msgspec.structs import replace

from bicameral.errors import BicameralError, BudgetError, ReachError, RequestError, Unsupported
from bicameral.types import (
    NO_USAGE,
    Answer,
    Audio,
    Card,
    Done,
    Embedding,
    Event,
    Feature,
    Finish,
    Image,
    Modality,
    Part,
    Percept,
    Reasoning,
    Relay,
    Request,
    Text,
    TokenLogprob,
    ToolCall,
    Usage,
    Video,
)


class Model(Protocol):
    """Anything that answers: one network, a remote API, or many models acting as one."""

    @property
    def card(self) -> Card:
        """What this model is and honours; it never changes."""
        ...

    def run(self, request: Request) -> AsyncGenerator[Event]:
        """Yield Deltas, then exactly one Done. Closing the stream cancels the work upstream."""
        ...


# Fields that identify the caller or tune bookkeeping; they never change an answer, so every model
# takes them, and the remote ones receive them.
ADVISORY = frozenset(
    {"user", "metadata", "safety_identifier", "prompt_cache_key", "service_tier", "store"}
)

_MODALITY: dict[type, Modality] = {
    Image: Modality.IMAGE,
    Audio: Modality.AUDIO,
    Video: Modality.VIDEO,
}


def admit(card: Card, request: Request) -> None:
    """Raise ReachError, Unsupported, RequestError or BudgetError if the card rules it out."""
    if card.reach > request.reach:
        raise ReachError(
            f"{card.name} is at reach '{card.reach.name.lower()}', but this request may travel "
            f"no further than '{request.reach.name.lower()}'"
        )
    for param, what in unmet(card, request):
        raise Unsupported(f"{card.name} does not support {what}", param=param, code="unsupported")
    if card.clips is not None and request.video is not None:
        for param, what in card.clips.broken(request.video):
            raise RequestError(f"{param}: {what}", param=param, code="invalid_value")
    if request.budget is not None and not card.members:
        _within_budget(card, request, request.budget)


def unmet(card: Card, request: Request) -> Iterator[tuple[str, str]]:
    """Each (field, what) that the request asks for and the card does not list."""
    if request.output not in card.emits:
        yield "model", f"{request.output.value} output"
    for message in request.messages:
        for part in message.parts:
            yield from _unread(card, part, request.output)
    for param, feature in _features(request):
        if feature not in card.features:
            yield param, f"'{param}'"
    if card.extra is not None:
        for field in request.extra:
            if field not in card.extra and field not in ADVISORY:
                yield field, f"the field '{field}'"


def _unread(card: Card, part: Part, output: Modality) -> Iterator[tuple[str, str]]:
    needed = _MODALITY.get(type(part))
    if needed and needed not in card.accepts:
        yield "messages", f"{needed.value} input"
    says = isinstance(part, Text) and part.text.strip()
    if says and output is Modality.VIDEO and Modality.TEXT not in card.accepts:
        yield "prompt", 'a prompt: it makes clips and reads no text; send ""'


def _features(request: Request) -> Iterator[tuple[str, Feature]]:
    s = request.sampling
    if request.tools:
        yield "tools", Feature.TOOLS
    if request.format:
        schema = request.format.schema is not None
        yield "response_format", Feature.JSON_SCHEMA if schema else Feature.JSON_OBJECT
    if s.logprobs:
        yield "logprobs", Feature.LOGPROBS
    if s.seed is not None:
        yield "seed", Feature.SEED
    if s.stop:
        yield "stop", Feature.STOP
    if s.frequency_penalty:
        yield "frequency_penalty", Feature.PENALTIES
    if s.presence_penalty:
        yield "presence_penalty", Feature.PENALTIES
    if s.logit_bias:
        yield "logit_bias", Feature.LOGIT_BIAS
    if request.n > 1:
        yield "n", Feature.MANY


def _within_budget(card: Card, request: Request, budget: int) -> None:
    """Fail closed: an unknown price, or an answer without an upper bound, does not fit."""
    worst = worst_cost(card, request)
    if worst is None:
        raise BudgetError(
            f"{card.name} has no known price, or nothing bounds its answer (max_tokens, its "
            "context) or what media consume, so its cost cannot be kept within the budget"
        )
    if worst > budget:
        raise BudgetError(
            f"{card.name} could cost {worst} nano-dollars, the request's budget leaves {budget}"
        )


def worst_cost(card: Card, request: Request) -> int | None:
    """An upper bound in nano-dollars: a token is at least one byte; None if nothing bounds it."""
    if card.price is None:
        return None
    if card.price.free:
        return 0
    most = bound(card, request)
    return None if most is None else card.price.most(most)


def bound(card: Card, request: Request) -> Usage | None:
    """No less than what the request can consume; None if nothing bounds it, as with media.

    Without max_tokens the context is the bound, where it is known. Vectors and percepts are no
    tokens.
    """
    said = request.sampling.max_tokens
    said = card.context if said is None else said
    said = said if request.output is Modality.TEXT else 0
    if said is None or _unmeasured(request):
        return None
    size = sum(16 + sum(map(_bytes, m.parts)) for m in request.messages)
    size += sum(len(repr(tool).encode()) for tool in (*request.tools, request.format or ""))
    return replace(
        NO_USAGE, prompt_tokens=size, completion_tokens=request.n * said, media_ms=_film(request)
    )


def _film(request: Request) -> int | None:
    """Milliseconds of film that are to be made; None if the request leaves the length open."""
    if request.output is not Modality.VIDEO:
        return 0
    spec = request.video
    if spec is None or not spec.frames or not spec.fps:
        return None
    return math.ceil(1000 * spec.frames / spec.fps)


def _bytes(part: Part) -> int:
    return len((part.text if isinstance(part, Text) else repr(part)).encode(errors="replace"))


def _unmeasured(request: Request) -> bool:
    return any(type(part) in _MODALITY for m in request.messages for part in m.parts)


class Fold:
    """Folds a stream of events into an Answer; `add` each event, then `answer()`."""

    def __init__(self, model: str) -> None:
        self.model = model
        self.began = time.monotonic()
        self._text: list[str] = []
        self._reasoning: list[str] = []
        self._calls: dict[int, ToolCall] = {}
        self._embeddings: list[Embedding] = []
        self._percepts: list[Percept] = []
        self._videos: list[Video] = []
        self._logprobs: list[TokenLogprob] = []
        self._by = model
        self._done: Done | None = None

    def add(self, event: Event) -> None:
        """Take in the next event."""
        if isinstance(event, Done):
            self._done = event
            return
        self._by = event.by or self._by
        if isinstance(event, Relay):
            return
        self._logprobs.extend(event.logprobs)
        self._part(event.part)

    def _part(self, part: Part) -> None:
        match part:
            case Text():
                self._text.append(part.text)
            case Reasoning():
                self._reasoning.append(part.text)
            case ToolCall():
                known = self._calls.get(part.index, ToolCall(index=part.index))
                self._calls[part.index] = ToolCall(
                    id=known.id or part.id,
                    name=known.name or part.name,
                    arguments=known.arguments + part.arguments,
                    index=part.index,
                )
            case Embedding():
                self._embeddings.append(part)
            case Percept():
                self._percepts.append(part)
            case Video():
                self._videos.append(part)

    def answer(self, error: Exception | None = None) -> Answer:
        """What was folded so far; with `error` if that ended the stream."""
        done = self._done
        reason: Finish | None = done.reason if done else None
        return Answer(
            model=self.model,
            text="".join(self._text),
            reasoning="".join(self._reasoning),
            tool_calls=tuple(self._calls.values()),
            embeddings=tuple(self._embeddings),
            percepts=tuple(self._percepts),
            videos=tuple(self._videos),
            logprobs=tuple(self._logprobs),
            usage=done.usage if done else Usage(),
            reason=reason,
            by=(done.by if done else "") or self._by,
            calls=done.calls if done else getattr(error, "calls", ()),
            why=done.why if done else "",
            decisions=done.decisions if done else (),
            seconds=time.monotonic() - self.began,
            error=error,
        )


async def collect(model: Model, request: Request) -> Answer:
    """Run to the end and fold; a member's failure becomes an Answer with its `error`."""
    fold = Fold(model.card.name)
    try:
        async with aclosing(model.run(request.but())) as events:
            async for event in events:
                fold.add(event)
    except BicameralError as error:
        return fold.answer(error)
    return fold.answer()
