"""The short way: a request that came as OpenAI JSON goes on as the same bytes, and so its answer.

Only the model's name is replaced and usage asked for. The answer is looked at in passing, for its
usage, its end and its errors, never written anew; each event keeps its JSON byte for byte.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
from msgspec import Raw, Struct

from bicameral.engines.remote.json_events import JsonEvents
from bicameral.engines.remote.openai_read import Body
from bicameral.engines.remote.openai_wire import CUT, finish, usage
from bicameral.engines.remote.refusal import Refusal
from bicameral.errors import Broken, ModelError
from bicameral.types import Done, Event, Relay, Wire

Headers = tuple[tuple[str, str], ...]

_fields = msgspec.json.Decoder(dict[str, Raw]).decode
_encode = msgspec.json.Encoder().encode
_NONE = Raw(b"")
_ASK = Raw(b'{"include_usage":true}')


def splice(wire: Wire, model: str, *, ask_usage: bool) -> bytes:
    """The body with `model` in place of its model, and usage asked for if it is streamed."""
    fields = _fields(wire.body)
    fields["model"] = Raw(_encode(model))
    if wire.stream and ask_usage and not wire.include_usage:
        fields["stream_options"] = _with_usage(fields.get("stream_options"))
    return _encode(fields)


def _with_usage(options: Raw | None) -> Raw:
    if options is None or bytes(options) == b"null":
        return _ASK
    return Raw(_encode({**_fields(options), "include_usage": True}))


def passed_on(headers: Mapping[str, str]) -> Headers:
    """The upstream's headers that tell the caller something: its limits, time and request id."""
    found = []
    for name, value in headers.items():
        low = name.lower()
        if low.startswith("x-ratelimit-") or low == "openai-processing-ms":
            found.append((low, value))
        elif low == "x-request-id":
            found.append(("x-upstream-request-id", value))
    return tuple(found)


class _Choice(Struct, gc=False):
    finish_reason: str | None = None
    usage: Any = None  # Kimi


class _Chunk(Struct, gc=False):
    model: str | None = None
    choices: list[_Choice] | None = None
    usage: Any = None
    error: Any = None


_look = msgspec.json.Decoder(_Chunk).decode


class RelayStream:
    """Forwards the events of a streamed answer; `wanted`: the client asked for usage."""

    def __init__(
        self, name: str, refusal: Refusal, cap: int, headers: Headers, *, wanted: bool
    ) -> None:
        self._name = name
        self._refusal = refusal
        self._events = JsonEvents(name, cap, _look)
        self._headers = headers
        self._wanted = wanted
        self._served: str | None = None
        self._usage: Any = None
        self._finish: str | None = None
        self._sent = False

    @property
    def complete(self) -> bool:
        """The [DONE] has come."""
        return self._events.complete

    def take(self, chunk: bytes) -> Iterator[Event]:
        """One Relay of all the events that `chunk` completes."""
        yield from self._relay(self._events.feed(chunk))

    def end(self) -> Iterator[Event]:
        """What was left open, and the Done if the answer was whole."""
        yield from self._relay(self._events.end())
        if self._finish is None and not (self.complete and self._sent):
            raise Broken(self._name, "the stream ended before the answer did")
        yield self.so_far()

    def so_far(self) -> Done:
        """The Done as it would be if the answer ended here."""
        return Done(
            usage=usage(self._usage, self._name),
            reason=finish(self._finish or "stop"),
            by=self._name,
            served=self._served,
        )

    def _relay(self, events: Iterator[tuple[_Chunk, bytes]]) -> Iterator[Event]:
        kept: list[bytes] = []
        try:
            for chunk, data in events:
                if self._note(chunk, data):
                    kept.append(_framed(data))
        except ModelError:
            yield from self._joined(kept)  # what came before the error is the client's
            raise
        yield from self._joined(kept)

    def _joined(self, kept: list[bytes]) -> Iterator[Event]:
        if kept:
            headers = () if self._sent else self._headers
            self._sent = True
            yield Relay(b"".join(kept), by=self._name, headers=headers)

    def _note(self, chunk: _Chunk, data: bytes) -> bool:
        """Take down what the event says; whether it is the client's to see."""
        if chunk.error:
            raise self._refusal(200, data)
        if chunk.model:
            self._served = chunk.model
        for choice in chunk.choices or ():
            self._usage = choice.usage or self._usage
            self._finish = choice.finish_reason or self._finish
        if self._finish in CUT:
            raise Broken(self._name, f"the answer ended with '{self._finish}'")
        if not chunk.usage:
            return True
        self._usage = chunk.usage
        return self._wanted or bool(chunk.choices)


def _framed(data: bytes) -> bytes:
    if b"\n" in data:
        data = data.replace(b"\n", b"\ndata: ")
    return b"data: %b\n\n" % data


class _Message(Struct, gc=False):
    content: Any = None
    tool_calls: Any = None
    function_call: Any = None
    refusal: Any = None
    reasoning_content: Any = None
    reasoning: Any = None
    audio: Any = None


class _Answered(Struct, gc=False):
    finish_reason: str | None = None
    message: _Message | None = None

    @property
    def empty(self) -> bool:
        """Whether it says that it is done and says nothing else."""
        m = self.message or _Message()
        said = (m.tool_calls, m.function_call, m.refusal, m.reasoning_content, m.reasoning, m.audio)
        return m.content is None and not any(said) and self.finish_reason in (None, "stop")


class _Completion(Struct, gc=False):
    model: str | None = None
    choices: list[_Answered] | None = None
    data: Raw = _NONE  # embeddings, left as they are
    usage: Any = None
    error: Any = None


_whole = msgspec.json.Decoder(_Completion).decode


class RelayBody:
    """Forwards an answer that is not streamed, after a look whether it makes sense."""

    def __init__(self, name: str, refusal: Refusal, cap: int, headers: Headers) -> None:
        self.complete = False
        self._name = name
        self._refusal = refusal
        self._body = Body(name, cap)
        self._headers = headers
        self._done = Done(by=name)

    def take(self, chunk: bytes) -> tuple[Event, ...]:
        """Nothing: the body goes on whole."""
        self._body.add(chunk)
        return ()

    def end(self) -> Iterator[Event]:
        """The body, then the Done."""
        body = self._body.whole()
        try:
            answer = _whole(body)
        except (msgspec.DecodeError, UnicodeDecodeError) as exc:
            raise Broken(self._name, f"the answer cannot be read: {exc}") from exc
        reason = self._check(answer, body)
        self._done = Done(
            usage=usage(answer.usage, self._name, embedded=answer.data is not _NONE),
            reason=finish(reason),
            by=self._name,
            served=answer.model,
        )
        yield Relay(body, by=self._name, headers=self._headers)
        yield self._done

    def so_far(self) -> Done:
        """The Done, once the body is whole."""
        return self._done

    def _check(self, answer: _Completion, body: bytes) -> str:
        if answer.error:
            raise self._refusal(200, body)
        if answer.data is not _NONE:  # embeddings
            return "stop"
        if not answer.choices:
            raise self._refusal(200, body)
        first = answer.choices[0]
        if first.empty:
            raise Broken(self._name, "the answer is empty")
        if first.finish_reason in CUT:
            raise Broken(self._name, f"the answer ended with '{first.finish_reason}'")
        return first.finish_reason or "stop"
