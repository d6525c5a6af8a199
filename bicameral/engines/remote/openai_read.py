"""Answers in OpenAI JSON as Deltas: chat completion chunks and embeddings."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import msgspec
from msgspec import Struct

from bicameral.engines.remote.json_events import JsonEvents
from bicameral.engines.remote.openai_wire import CUT, finish, usage
from bicameral.engines.remote.refusal import Refusal
from bicameral.errors import Broken
from bicameral.types import (
    Delta,
    Done,
    Embedding,
    Event,
    Reasoning,
    Text,
    TokenLogprob,
    ToolCall,
)

log = logging.getLogger(__name__)


class _Function(Struct, gc=False, frozen=True):
    name: str | None = None
    arguments: str | None = None


class _Call(Struct, gc=False):
    index: int | None = None
    id: str | None = None
    function: _Function = _Function()


class _Piece(Struct, gc=False):
    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None  # OpenRouter, newer vLLM
    refusal: str | None = None
    tool_calls: list[_Call] | None = None


class _Rival(Struct, gc=False):
    token: str
    logprob: float


class _Logprob(_Rival, gc=False):
    top_logprobs: list[_Rival] | None = None


class _Logprobs(Struct, gc=False):
    content: list[_Logprob] | None = None


class _Choice(Struct, gc=False):
    index: int = 0
    delta: _Piece | None = None
    finish_reason: str | None = None
    logprobs: _Logprobs | None = None
    usage: Any = None  # Kimi


class _Chunk(Struct, gc=False):
    model: str | None = None
    choices: list[_Choice] | None = None
    usage: Any = None
    error: Any = None


_decode = msgspec.json.Decoder(_Chunk).decode


class ChatStream:
    """Chat completion chunks to Deltas. Reads the first choice only, as n is 1 on this path."""

    def __init__(self, name: str, refusal: Refusal, cap: int) -> None:
        self._name = name
        self._refusal = refusal
        self._events = JsonEvents(name, cap, _decode)
        self._served: str | None = None
        self._usage: Any = None
        self._finish: str | None = None
        self._said = False
        self._calls: list[str] = []

    @property
    def complete(self) -> bool:
        """The [DONE] has come."""
        return self._events.complete

    def take(self, chunk: bytes) -> Iterator[Event]:
        """Deltas of every event that `chunk` completes."""
        for event, data in self._events.feed(chunk):
            yield from self._event(event, data)

    def end(self) -> Iterator[Event]:
        """The Done, if the answer was whole."""
        for event, data in self._events.end():
            yield from self._event(event, data)
        if self._finish is None and not (self.complete and self._said):
            raise Broken(self._name, "the stream ended before the answer did")
        if self._finish == "stop" and not self._said:
            raise Broken(self._name, "the answer is empty")
        yield self.so_far()

    def so_far(self) -> Done:
        """The Done as it would be if the answer ended here."""
        return Done(
            usage=usage(self._usage, self._name),
            reason=finish(self._finish or "stop"),
            by=self._name,
            served=self._served,
        )

    def _event(self, chunk: _Chunk, data: bytes) -> Iterator[Event]:
        if chunk.error:
            raise self._refusal(200, data)
        self._served = chunk.model or self._served
        self._usage = chunk.usage or self._usage
        for choice in chunk.choices or ():
            if choice.index == 0:
                yield from self._choice(choice)

    def _choice(self, choice: _Choice) -> Iterator[Event]:
        self._usage = choice.usage or self._usage
        if choice.delta:
            yield from self._piece(choice.delta, _logprobs(choice.logprobs))
        if choice.finish_reason in CUT:
            raise Broken(self._name, f"the answer ended with '{choice.finish_reason}'")
        self._finish = choice.finish_reason or self._finish

    def _piece(self, piece: _Piece, logprobs: tuple[TokenLogprob, ...]) -> Iterator[Event]:
        thought = piece.reasoning_content or piece.reasoning
        if thought:
            self._said = True
            yield Delta(Reasoning(thought), by=self._name)
        text = piece.content or piece.refusal
        if text or logprobs:
            yield Delta(Text(text or ""), by=self._name, logprobs=logprobs)
        if piece.content is not None or piece.refusal is not None:
            self._said = True
        for call in piece.tool_calls or ():
            self._said = True
            yield Delta(self._call(call), by=self._name)

    def _call(self, call: _Call) -> ToolCall:
        """A fragment; servers that leave out the index begin a new call with a new id."""
        if call.index is None and call.id and call.id not in self._calls:
            self._calls.append(call.id)
        index = call.index if call.index is not None else max(0, len(self._calls) - 1)
        function = call.function
        return ToolCall(
            id=call.id or "",
            name=function.name or "",
            arguments=function.arguments or "",
            index=index,
        )


def _logprobs(raw: _Logprobs | None) -> tuple[TokenLogprob, ...]:
    if raw is None or not raw.content:
        return ()
    return tuple(
        TokenLogprob(t.token, t.logprob, tuple((r.token, r.logprob) for r in t.top_logprobs or ()))
        for t in raw.content
    )


class _Vector(Struct, gc=False):
    embedding: tuple[float, ...]
    index: int = 0


class _Vectors(Struct, gc=False):
    model: str | None = None
    data: list[_Vector] | None = None
    usage: Any = None
    error: Any = None


class Embeddings:
    """The body of an embeddings call to one Delta for each input, in the order of the inputs."""

    def __init__(self, name: str, refusal: Refusal, cap: int, expected: int) -> None:
        self.complete = False
        self._name = name
        self._refusal = refusal
        self._body = Body(name, cap)
        self._expected = expected
        self._done = Done(by=name)

    def take(self, chunk: bytes) -> Iterator[Event]:
        """Nothing: the body is read whole."""
        self._body.add(chunk)
        return iter(())

    def end(self) -> Iterator[Event]:
        """The vectors, then the Done."""
        body = self._body.whole()
        try:
            answer = msgspec.json.decode(body, type=_Vectors)
        except (msgspec.DecodeError, UnicodeDecodeError) as exc:
            raise Broken(self._name, f"the embeddings cannot be read: {exc}") from exc
        if answer.error or answer.data is None:
            raise self._refusal(200, body)
        if sorted(v.index for v in answer.data) != list(range(self._expected)):
            raise Broken(self._name, f"did not give the {self._expected} embeddings asked for")
        counts = usage(answer.usage, self._name, embedded=True)
        self._done = Done(usage=counts, by=self._name, served=answer.model)
        for vector in sorted(answer.data, key=lambda v: v.index):
            yield Delta(Embedding(vector.embedding, vector.index), by=self._name)
        yield self._done

    def so_far(self) -> Done:
        """The Done, once the body is whole."""
        return self._done


class Body:
    """The pieces of a body that is read whole; Broken past `cap` bytes."""

    def __init__(self, name: str, cap: int) -> None:
        self._name = name
        self._cap = cap
        self._pieces: list[bytes] = []
        self._size = 0

    def add(self, chunk: bytes) -> None:
        """The next piece."""
        self._size += len(chunk)
        if self._size > self._cap:
            raise Broken(self._name, f"the answer is longer than {self._cap} bytes")
        self._pieces.append(chunk)

    def whole(self) -> bytes:
        """All pieces as one."""
        return self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
