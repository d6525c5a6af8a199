"""Our requests as OpenAI JSON, and OpenAI JSON as our errors and usage.

Source of the format: https://platform.openai.com/docs/api-reference/chat
"""

from __future__ import annotations

import logging
import re
from base64 import b64encode
from collections.abc import Iterator, Mapping
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Any

import msgspec
from msgspec import Struct

from bicameral.engines.remote.refusal import status_error
from bicameral.errors import ModelError, TooLong
from bicameral.types import (
    Audio,
    Finish,
    Image,
    JsonFormat,
    Message,
    Part,
    Request,
    Sampling,
    Text,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
    Usage,
    Video,
)

log = logging.getLogger(__name__)
Json = dict[str, Any]

_ABSURD = 10**9
_DEAREST = 10_000  # dollars a call
_FINISH: dict[str, Finish] = {
    "stop": "stop",
    "length": "length",
    "tool_calls": "tool_calls",
    "content_filter": "content_filter",
    "function_call": "tool_calls",
    "sensitive": "content_filter",  # GLM
    "model_context_window_exceeded": "length",  # GLM
}
# Reasons by which servers say that the answer is not whole: OpenRouter, GLM, DeepSeek, vLLM.
CUT = frozenset({"error", "network_error", "insufficient_system_resource", "abort"})


def finish(word: str) -> Finish:
    """Our word for a finish_reason; a server's own word counts as stop."""
    return _FINISH.get(word, "stop")


# --- requests ----------------------------------------------------------------------------------


def chat_body(request: Request, model: str, *, max_tokens_field: str, ask_usage: bool) -> bytes:
    """The body of a streamed chat completion."""
    body: Json = {**request.extra}
    body.update(model=model, messages=[m for each in request.messages for m in _message(each)])
    body["stream"] = True
    if ask_usage:
        body["stream_options"] = {"include_usage": True}
    body.update(_sampling(request.sampling, max_tokens_field))
    if request.tools:
        body["tools"] = [_tool(tool) for tool in request.tools]
    if request.tool_choice:
        body["tool_choice"] = _tool_choice(request.tool_choice)
    if request.parallel_tool_calls is not None:
        body["parallel_tool_calls"] = request.parallel_tool_calls
    if request.format:
        body["response_format"] = _format(request.format)
    return msgspec.json.encode(body)


def embeddings_body(request: Request, model: str) -> bytes:
    """The body of an embeddings call: one input for each message."""
    inputs = [message.text for message in request.messages]
    body = {**request.extra, "model": model, "input": inputs, "encoding_format": "float"}
    return msgspec.json.encode(body)


def _sampling(s: Sampling, max_tokens_field: str) -> Json:
    fields: Json = {
        max_tokens_field: s.max_tokens,
        "temperature": s.temperature,
        "top_p": s.top_p,
        "seed": s.seed,
        "stop": list(s.stop) or None,
        "frequency_penalty": s.frequency_penalty,
        "presence_penalty": s.presence_penalty,
        "logit_bias": s.logit_bias,
        "logprobs": s.logprobs or None,
        "top_logprobs": s.top_logprobs,
    }
    return {name: value for name, value in fields.items() if value is not None}


def _message(message: Message) -> Iterator[Json]:
    """One message of ours; every tool result is a message of its own over there."""
    results = [part for part in message.parts if isinstance(part, ToolResult)]
    for result in results:
        yield {"role": "tool", "tool_call_id": result.call_id, "content": result.text}
    if results:
        return
    # Every server knows "system"; "developer" only OpenAI's, and to it they mean the same.
    role = "system" if message.role == "developer" else message.role
    wire: Json = {"role": role, "content": _content(message.parts)}
    if message.name:
        wire["name"] = message.name
    calls = [_call(part) for part in message.parts if isinstance(part, ToolCall)]
    if calls:
        wire["tool_calls"] = calls
        wire["content"] = wire["content"] or None
    yield wire


def _content(parts: tuple[Part, ...]) -> str | list[Json]:
    items = [item for part in parts if (item := _item(part))]
    if all(item["type"] == "text" for item in items):
        return "".join(item["text"] for item in items)
    return items


def _item(part: Part) -> Json | None:
    match part:
        case Text():
            return {"type": "text", "text": part.text}
        case Image():
            image: Json = {"url": part.url or data_url(part.data or b"", part.media_type)}
            if part.detail:
                image["detail"] = part.detail
            return {"type": "image_url", "image_url": image}
        case Video():
            url = part.url or data_url(part.data or b"", part.media_type or "video/mp4")
            return {"type": "video_url", "video_url": {"url": url}}
        case Audio():
            sound = {"data": b64encode(part.data).decode(), "format": part.format}
            return {"type": "input_audio", "input_audio": sound}
        case _:
            return None  # reasoning is not sent back; calls are a field of the message


def data_url(data: bytes, media_type: str | None) -> str:
    """`data` as a data: URL; the type of a picture is read from its first bytes if not given."""
    return f"data:{media_type or image_type(data)};base64,{b64encode(data).decode()}"


def image_type(data: bytes) -> str:
    """The media type of an encoded picture; image/jpeg if it is none we know."""
    if data.startswith(b"\x89PNG"):
        return "image/png"
    if data.startswith(b"GIF8"):
        return "image/gif"
    return "image/webp" if data[8:12] == b"WEBP" else "image/jpeg"


def _call(part: ToolCall) -> Json:
    function = {"name": part.name, "arguments": part.arguments}
    return {"id": part.id, "type": "function", "function": function}


def _tool(tool: Tool) -> Json:
    fields = {
        "name": tool.name,
        "description": tool.description,
        "parameters": tool.parameters,
        "strict": tool.strict,
    }
    return {"type": "function", "function": {k: v for k, v in fields.items() if v is not None}}


def _tool_choice(choice: ToolChoice) -> str | Json:
    if choice.mode == "function":
        return {"type": "function", "function": {"name": choice.name}}
    return choice.mode


def _format(form: JsonFormat) -> Json:
    if form.schema is None:
        return {"type": "json_object"}
    fields = {
        "name": form.name,
        "schema": form.schema,
        "strict": form.strict,
        "description": form.description,
    }
    schema = {k: v for k, v in fields.items() if v is not None}
    return {"type": "json_schema", "json_schema": schema}


# --- answers -----------------------------------------------------------------------------------


def usage(raw: Any, model: str, *, embedded: bool = False) -> Usage:
    """Usage as reported, each field None if it is missing, negative or absurd.

    Cached tokens are looked for where OpenAI, DeepSeek and Kimi put them, the cost where OpenRouter
    does. `embedded`: no answer was written, so its tokens are none even if nobody says so.
    """
    if not isinstance(raw, dict):
        return Usage()
    prompt, completion = raw.get("prompt_tokens_details"), raw.get("completion_tokens_details")
    cached = _get(prompt, "cached_tokens")
    if cached is None:
        cached = raw.get("prompt_cache_hit_tokens", raw.get("cached_tokens"))
    return clean(
        model,
        prompt=raw.get("prompt_tokens"),
        completion=raw.get("completion_tokens", 0 if embedded else None),
        cached=cached,
        reasoning=_get(completion, "reasoning_tokens"),
        cost=_charged(raw, model),
    )


def _charged(raw: Json, model: str) -> int | None:
    """Nano-dollars that OpenRouter says it charges: its `cost` is in dollars, as a JSON number.

    Who brings a key of their own to it pays the model's provider beside that.
    Source: https://openrouter.ai/docs/use-cases/usage-accounting
    """
    costs = [raw.get("cost")]
    if raw.get("is_byok") is True:
        costs.append(_get(raw.get("cost_details"), "upstream_inference_cost"))
    amounts = [_dollars(model, cost) for cost in costs]
    known = [amount for amount in amounts if amount is not None]
    return sum(known) if len(known) == len(amounts) else None


def _dollars(model: str, value: Any) -> int | None:
    if not isinstance(value, int | float) or isinstance(value, bool):
        return None  # some servers have an object there
    if not 0 <= value <= _DEAREST:
        log.warning("%s reported an impossible cost; it is taken as unknown", model)
        return None
    return int((Decimal(str(value)) * 10**9).to_integral_value(ROUND_HALF_EVEN))


def clean(
    model: str,
    *,
    prompt: Any,
    completion: Any,
    cached: Any,
    reasoning: Any,
    cost: int | None = None,
) -> Usage:
    """Usage of these counts; one that cannot be true becomes None and a warning."""
    asked = _count(model, "prompt_tokens", prompt, _ABSURD)
    return Usage(
        prompt_tokens=asked,
        completion_tokens=_count(model, "completion_tokens", completion, _ABSURD),
        cached_tokens=_count(model, "cached_tokens", cached, _ABSURD if asked is None else asked),
        reasoning_tokens=_count(model, "reasoning_tokens", reasoning, _ABSURD),
        cost=cost,
    )


def _count(model: str, field: str, value: Any, most: int) -> int | None:
    if value is None:
        return None
    if type(value) is int and 0 <= value <= most:
        return value
    if not (isinstance(value, float) and value.is_integer() and 0 <= value <= most):
        log.warning("%s reported an impossible %s; it is taken as unknown", model, field)
        return None
    return int(value)


def _get(raw: Any, field: str) -> Any:
    return raw.get(field) if isinstance(raw, dict) else None


# --- refusals ----------------------------------------------------------------------------------

_TOO_LONG = frozenset({"context_length_exceeded", "exceed_context_size_error"})
# vLLM and SGLang give no code for it; the number keeps an echoed prompt from matching by chance.
_TOO_LONG_SAID = re.compile(r"maximum context length (is|of) \d+|longer than the model's context")


class _Refusal(Struct):
    """The shapes in which servers explain themselves: OpenAI, Ollama, FastAPI, Spark, old vLLM."""

    error: Any = None
    message: Any = None
    detail: Any = None
    code: Any = None
    type: Any = None
    param: Any = None


def fault(name: str, status: int, body: bytes, retry: float | None) -> ModelError:
    """The error told by a refusal's status and body; a 200 may carry an error too."""
    try:
        said = msgspec.json.decode(body, type=_Refusal)
    except msgspec.DecodeError:
        return status_error(name, status, "answered what is not JSON", retry=retry)
    inner = said.error if isinstance(said.error, Mapping) else {}
    code = _word(inner.get("code", said.code))
    kind = _word(inner.get("type", said.type))
    if status == 200 and isinstance(code, int) and 400 <= code < 600:
        status = code
    message = _message_of(said, inner)
    if status == 413 or code in _TOO_LONG or kind in _TOO_LONG:
        return TooLong(name, message)
    if status == 400 and _TOO_LONG_SAID.search(message):
        return TooLong(name, message)
    param = _word(inner.get("param", said.param))
    error = status_error(
        name,
        status,
        message,
        retry=retry,
        param=None if param is None else str(param),
        code=code,
        kind=None if kind is None else str(kind),
    )
    if code == "insufficient_quota":  # a 429 that time does not heal
        error.retryable = False
    return error


def _message_of(said: _Refusal, inner: Mapping[str, Any]) -> str:
    for value in (inner.get("message"), said.error, said.message, said.detail):
        if isinstance(value, str) and value:
            return value[:600]
    if isinstance(said.detail, list):  # FastAPI; its `input` would echo the prompt
        return "; ".join(str(_get(item, "msg")) for item in said.detail[:5])[:600]
    return "gave an error without a message"


def _word(value: Any) -> str | int | None:
    return value if isinstance(value, str | int) else None
