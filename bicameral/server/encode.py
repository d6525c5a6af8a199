"""Events to chat.completion chunks, and to a whole completion by folding the same stream."""

from __future__ import annotations

import time
from typing import Any

import msgspec

from bicameral.model import Fold
from bicameral.types import (
    Answer,
    Delta,
    Done,
    Event,
    Reasoning,
    Relay,
    Text,
    TokenLogprob,
    ToolCall,
    Usage,
)

END = b"data: [DONE]\n\n"
_json = msgspec.json.Encoder().encode
_LEAST = -9999.0


class Stream:
    """Turns each event of one answer into the bytes of server-sent events."""

    def __init__(self, answer_id: str, model: str, *, usage: bool, explain: bool) -> None:
        self._usage = usage
        self._explain = explain
        self._id = answer_id
        self._began = False
        self._relayed = False
        head = {"id": f"chatcmpl-{answer_id}", "object": "chat.completion.chunk"}
        self._head = _json(head | {"created": int(time.time()), "model": model})[:-1]

    def event(self, event: Event) -> bytes:
        """The bytes to write for `event`; may be empty."""
        if isinstance(event, Relay):
            self._relayed = True
            return event.data
        if isinstance(event, Done):
            return self._done(event)
        delta = _delta(event)
        if delta is None:
            return b""
        return self._chunk(self._opening(delta), logprobs=_logprobs(event.logprobs))

    def _opening(self, delta: dict[str, Any]) -> dict[str, Any]:
        if self._began:
            return delta
        self._began = True
        return {"role": "assistant", "content": None if delta else "", **delta}

    def _done(self, done: Done) -> bytes:
        said = b""
        if not self._relayed:
            said = self._chunk(self._opening({}), finish=done.reason)
            if self._usage:
                said += self._tail({"usage": usage(done.usage)})
        if self._explain:
            said += self._tail({"bicameral": explain(done, self._id)})
        return said + END

    def _chunk(
        self, delta: dict[str, Any], *, logprobs: Any = None, finish: str | None = None
    ) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": logprobs, "finish_reason": finish}
        end = b'],"usage":null}\n\n' if self._usage else b"]}\n\n"
        return b"".join((b"data: ", self._head, b',"choices":[', _json(choice), end))

    def _tail(self, fields: dict[str, Any]) -> bytes:
        return b"".join((b"data: ", self._head, b',"choices":[],', _json(fields)[1:], b"\n\n"))


def error_event(body: bytes) -> bytes:
    """An error inside a stream that has begun."""
    return b"data: " + body + b"\n\n"


class Whole:
    """Folds the events of one answer into one JSON body."""

    def __init__(self, answer_id: str, model: str, *, explain: bool) -> None:
        self._id = answer_id
        self._model = model
        self._explain = explain
        self._fold = Fold(model)
        self._relayed: list[bytes] = []
        self._done = Done()

    def add(self, event: Event) -> None:
        """Take in the next event."""
        if isinstance(event, Relay):
            self._relayed.append(event.data)
        elif isinstance(event, Done):
            self._done = event
        self._fold.add(event)

    def body(self) -> bytes:
        """The completion; an upstream's own body comes back untouched."""
        if self._relayed:
            return self._relayed_body(b"".join(self._relayed))
        answer = self._fold.answer()
        body = {
            "id": f"chatcmpl-{self._id}",
            "object": "chat.completion",
            "created": int(time.time()),
            "model": self._model,
            "choices": [_choice(answer)],
            "usage": usage(answer.usage),
        }
        if self._explain:
            body["bicameral"] = explain(self._done, self._id)
        return _json(body)

    def _relayed_body(self, data: bytes) -> bytes:
        if not self._explain:
            return data
        more = b',"bicameral":' + _json(explain(self._done, self._id)) + b"}"
        return data.rstrip().removesuffix(b"}") + more


def usage(used: Usage) -> dict[str, Any] | None:
    """OpenAI's usage object; None if the tokens are not known."""
    if used.total_tokens is None:
        return None
    body: dict[str, Any] = {
        "prompt_tokens": used.prompt_tokens,
        "completion_tokens": used.completion_tokens,
        "total_tokens": used.total_tokens,
    }
    if used.cached_tokens is not None:
        body["prompt_tokens_details"] = {"cached_tokens": used.cached_tokens}
    if used.reasoning_tokens is not None:
        body["completion_tokens_details"] = {"reasoning_tokens": used.reasoning_tokens}
    return body


def explain(done: Done, answer_id: str) -> dict[str, Any]:
    """Who was asked, what it cost in nano-dollars, and why; `decision` is null without a mind.

    `inner` are the decisions of minds that are members of it.
    """
    decision, *inner = done.decisions or (None,)
    told = {"id": answer_id, "calls": done.calls, "why": done.why, "decision": decision}
    return {**told, "inner": inner} if inner else told


def _delta(event: Delta) -> dict[str, Any] | None:
    match event.part:
        case Text(text):
            return {"content": text}
        case Reasoning(text):
            return {"reasoning_content": text}
        case ToolCall() as call:
            return {"tool_calls": [_fragment(call)]}
    return None


def _fragment(call: ToolCall) -> dict[str, Any]:
    """The first fragment of a call names it; the others only add arguments."""
    function: dict[str, Any] = {"arguments": call.arguments}
    fragment: dict[str, Any] = {"index": call.index, "function": function}
    if call.name:
        function["name"] = call.name
    if call.id:
        fragment |= {"id": call.id, "type": "function"}
    return fragment


def _choice(answer: Answer) -> dict[str, Any]:
    content = answer.text or (None if answer.tool_calls else "")
    message: dict[str, Any] = {"role": "assistant", "content": content, "refusal": None}
    if answer.reasoning:
        message["reasoning_content"] = answer.reasoning
    if answer.tool_calls:
        message["tool_calls"] = [_call(call) for call in answer.tool_calls]
    return {
        "index": 0,
        "message": message,
        "logprobs": _logprobs(answer.logprobs),
        "finish_reason": answer.reason,
    }


def _call(call: ToolCall) -> dict[str, Any]:
    function = {"name": call.name, "arguments": call.arguments}
    return {"id": call.id, "type": "function", "function": function}


def _logprobs(tokens: tuple[TokenLogprob, ...]) -> dict[str, Any] | None:
    if not tokens:
        return None
    content = [
        _token(t.token, t.logprob) | {"top_logprobs": [_token(*rival) for rival in t.top]}
        for t in tokens
    ]
    return {"content": content, "refusal": None}


def _token(token: str, logprob: float) -> dict[str, Any]:
    """JSON has no infinity: OpenAI writes -9999 for what cannot be."""
    return {"token": token, "logprob": max(logprob, _LEAST), "bytes": list(token.encode())}
