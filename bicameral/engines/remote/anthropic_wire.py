"""Our requests and answers in the form of Anthropic's Messages API.

Source: https://platform.claude.com/docs/en/api/messages (and /streaming, /errors beside it)
"""

from __future__ import annotations

import logging
import re
from base64 import b64encode
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
from msgspec import Struct

from bicameral.engines.remote.json_events import JsonEvents
from bicameral.engines.remote.openai_wire import clean, image_type
from bicameral.engines.remote.refusal import Refusal, status_error
from bicameral.errors import Broken, ModelError, RequestError, TooLong
from bicameral.types import (
    Delta,
    Done,
    Event,
    Finish,
    Image,
    Message,
    Part,
    Reasoning,
    Request,
    Text,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
    Usage,
)

log = logging.getLogger(__name__)
Json = dict[str, Any]

# Fields of the Messages API that we do not model; a request's `extra` may hold them.
EXTRA = frozenset({"thinking", "top_k", "cache_control"})
_CHOICE = {"auto": "auto", "none": "none", "required": "any"}


# --- requests ----------------------------------------------------------------------------------


def body(request: Request, model: str, max_tokens: int) -> bytes:
    """The body of a streamed message; `max_tokens` where the request sets none."""
    s = request.sampling
    system = [m.text for m in request.messages if m.role in ("system", "developer")]
    fields: Json = {
        "model": model,
        "max_tokens": s.max_tokens or max_tokens,
        "stream": True,
        "system": "\n\n".join(system) or None,
        "messages": _turns(request.messages),
        "temperature": s.temperature,
        "top_p": s.top_p,
        "stop_sequences": list(s.stop) or None,
        "tools": [_tool(tool) for tool in request.tools] or None,
        "tool_choice": _choice(request),
        "output_config": _output(request),
        "metadata": _metadata(request.extra),
        **{name: value for name, value in request.extra.items() if name in EXTRA},
    }
    return msgspec.json.encode({k: v for k, v in fields.items() if v is not None})


def _turns(messages: tuple[Message, ...]) -> list[Json]:
    """User and assistant in turn: neighbours of one role are joined, as the API wants it."""
    turns: list[Json] = []
    for message in messages:
        if message.role in ("system", "developer"):
            continue
        role = "assistant" if message.role == "assistant" else "user"
        blocks = [block for part in message.parts if (block := _block(part))]
        if turns and turns[-1]["role"] == role:
            turns[-1]["content"] += blocks
        elif blocks:
            turns.append({"role": role, "content": blocks})
    return turns


def _block(part: Part) -> Json | None:
    match part:
        case Text():
            return {"type": "text", "text": part.text} if part.text else None
        case Image():
            return {"type": "image", "source": _source(part)}
        case ToolCall():
            return {"type": "tool_use", "id": part.id, "name": part.name, "input": _input(part)}
        case ToolResult():
            return {"type": "tool_result", "tool_use_id": part.call_id, "content": part.text}
        case _:
            return None  # reasoning goes back only with its signature, which we do not keep


def _source(image: Image) -> Json:
    if image.data is None:
        return {"type": "url", "url": image.url}
    kind = image.media_type or image_type(image.data)
    return {"type": "base64", "media_type": kind, "data": b64encode(image.data).decode()}


def _input(call: ToolCall) -> Any:
    try:
        return msgspec.json.decode(call.arguments or "{}")
    except msgspec.DecodeError as exc:
        raise RequestError(
            f"the arguments of the tool call '{call.id}' are not JSON",
            param="messages",
            code="invalid_tool_arguments",
        ) from exc


def _tool(tool: Tool) -> Json:
    fields = {
        "name": tool.name,
        "description": tool.description,
        "input_schema": tool.parameters or {"type": "object", "properties": {}},
        "strict": tool.strict,
    }
    return {k: v for k, v in fields.items() if v is not None}


def _choice(request: Request) -> Json | None:
    choice = request.tool_choice
    if not request.tools or (choice is None and request.parallel_tool_calls is not False):
        return None
    choice = choice or ToolChoice("auto")
    wire: Json = {"type": _CHOICE.get(choice.mode, "tool")}
    if choice.mode == "function":
        wire["name"] = choice.name
    if request.parallel_tool_calls is False and choice.mode != "none":
        wire["disable_parallel_tool_use"] = True
    return wire


def _output(request: Request) -> Json | None:
    if request.format is None or request.format.schema is None:
        return None
    return {"format": {"type": "json_schema", "schema": request.format.schema}}


def _metadata(extra: Mapping[str, Any]) -> Json | None:
    user = extra.get("safety_identifier") or extra.get("user")
    return {"user_id": user} if isinstance(user, str) else None


# --- answers -----------------------------------------------------------------------------------

_FINISH: dict[str, Finish] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "pause_turn": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
}


class _Block(Struct, gc=False):
    type: str = ""
    id: str = ""
    name: str = ""
    text: str = ""


class _Delta(Struct, gc=False):
    type: str = ""
    text: str = ""
    thinking: str = ""
    partial_json: str = ""
    stop_reason: str | None = None


class _Started(Struct, gc=False):
    model: str | None = None
    usage: dict[str, Any] | None = None


class _Event(Struct, gc=False):
    type: str = ""
    index: int = 0
    message: _Started | None = None
    content_block: _Block | None = None
    delta: _Delta | None = None
    usage: dict[str, Any] | None = None
    error: Any = None


_decode = msgspec.json.Decoder(_Event).decode


class MessageStream:
    """The events of a streamed message to Deltas."""

    def __init__(self, name: str, refusal: Refusal, cap: int) -> None:
        self.complete = False
        self._name = name
        self._refusal = refusal
        self._events = JsonEvents(name, cap, _decode)
        self._served: str | None = None
        self._usage: Json = {}
        self._stop: str | None = None
        self._calls: dict[int, int] = {}  # block index -> call index

    def take(self, chunk: bytes) -> Iterator[Event]:
        """Deltas of every event that `chunk` completes."""
        for event, data in self._events.feed(chunk):
            yield from self._event(event, data)

    def end(self) -> Iterator[Event]:
        """The Done, if the message was whole."""
        for event, data in self._events.end():
            yield from self._event(event, data)
        if self._stop is None:
            raise Broken(self._name, "the stream ended before the answer did")
        yield self.so_far()

    def so_far(self) -> Done:
        """The Done as it would be if the message ended here."""
        return Done(
            usage=usage(self._usage, self._name),
            reason=_FINISH.get(self._stop or "", "stop"),
            by=self._name,
            served=self._served,
        )

    def _event(self, event: _Event, data: bytes) -> Iterator[Event]:
        if event.error:
            raise self._refusal(200, data)
        if part := self._part(event):
            yield Delta(part, by=self._name)

    def _part(self, event: _Event) -> Part | None:
        """The piece of the answer in the event, whose other news are noted."""
        if event.usage:
            self._usage.update({k: v for k, v in event.usage.items() if v is not None})
        if event.type == "content_block_delta" and event.delta:
            return self._piece(event.index, event.delta)
        if event.type == "content_block_start" and event.content_block:
            return self._begun(event.index, event.content_block)
        if event.type == "message_start" and event.message:
            self._served = event.message.model
            # What it says of the output is a first number that stands for nothing yet.
            started = event.message.usage or {}
            self._usage.update({k: v for k, v in started.items() if k != "output_tokens"})
        elif event.type == "message_delta" and event.delta:
            self._stop = event.delta.stop_reason or self._stop
        elif event.type == "message_stop":
            self.complete = True
        return None

    def _begun(self, index: int, block: _Block) -> Part | None:
        if block.type == "tool_use":
            call = self._calls[index] = len(self._calls)
            return ToolCall(id=block.id, name=block.name, index=call)
        return Text(block.text) if block.text else None

    def _piece(self, index: int, delta: _Delta) -> Part | None:
        if delta.type == "text_delta":
            return Text(delta.text)
        if delta.type == "thinking_delta":
            return Reasoning(delta.thinking)
        if delta.type == "input_json_delta" and index in self._calls:
            return ToolCall(arguments=delta.partial_json, index=self._calls[index])
        return None


def usage(raw: Mapping[str, Any], model: str) -> Usage:
    """Usage in our terms: the prompt counts what was read from and written to the cache too."""
    parts = [raw.get("input_tokens")]
    parts += [raw.get(f"cache_{what}_input_tokens") for what in ("creation", "read")]
    parts[1:] = [0 if count is None else count for count in parts[1:]]
    known = all(isinstance(n, int) and n >= 0 for n in parts)
    return clean(
        model,
        prompt=sum(n for n in parts if n) if known else parts[0],
        completion=raw.get("output_tokens"),
        cached=raw.get("cache_read_input_tokens"),
        reasoning=None,
    )


# --- refusals ----------------------------------------------------------------------------------

_STATUS = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "api_error": 500,
    "timeout_error": 504,
    "overloaded_error": 529,
}
_TOO_LONG_SAID = re.compile(r"prompt is too long: \d+ tokens")  # it has no type of its own


class _Error(Struct):
    type: str | None = None
    message: str = ""


class _Refused(Struct):
    error: _Error


def fault(name: str, status: int, data: bytes, retry: float | None) -> ModelError:
    """The error told by a refusal; inside a 200 stream only its type says which."""
    try:
        error = msgspec.json.decode(data, type=_Refused).error
    except msgspec.DecodeError:
        return status_error(name, status, "answered what is not its JSON", retry=retry)
    if status == 200:
        status = _STATUS.get(error.type or "", 200)
    message = error.message[:600] or "gave an error without a message"
    if status == 413 or (status == 400 and _TOO_LONG_SAID.search(message)):
        return TooLong(name, message)
    return status_error(name, status, message, retry=retry, code=error.type, kind=error.type)
