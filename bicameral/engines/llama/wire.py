"""Requests to the bodies that llama.cpp's server takes, and its chunks to events. Pure.

Text of a message never acts as a control token: llama.cpp tokenizes the finished prompt with
control tokens on, so a user who writes <|im_end|> would end his own turn. Such a text gets a
zero-width space after its first character: readers do not see it, the tokenizer does not match.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from bicameral.engines.llama.tools import call_schema, must_call
from bicameral.errors import ModelError, Rejected, RequestError, TooLong, Unsupported
from bicameral.types import (
    Delta,
    Finish,
    Image,
    Message,
    Part,
    Reasoning,
    Request,
    Text,
    TokenLogprob,
    Tool,
    ToolCall,
    ToolResult,
    Usage,
)

Chunk = Mapping[str, Any]
Clean = Callable[[str], str]
_MEDIA = "<__media__>"  # stands for an image in the prompt
_FINISH: Mapping[str, Finish] = {"length": "length", "tool_calls": "tool_calls"}
_RANDOM_SEED = 2**32 - 1


def cleaner(control: Sequence[str]) -> Clean:
    """What makes text harmless for a model with these control tokens."""
    longest_first = sorted({*control, _MEDIA}, key=len, reverse=True)
    pattern = re.compile("|".join(re.escape(token) for token in longest_first if len(token) > 1))
    return lambda text: pattern.sub(lambda found: f"{found[0][0]}\u200b{found[0][1:]}", text)


# --- requests ----------------------------------------------------------------------------------


def body(request: Request, clean: Clean) -> dict[str, Any]:
    """The chat completion body for `request`, streamed, with usage."""
    made: dict[str, Any] = {
        "messages": [_message(message, clean) for message in request.messages],
        "stream": True,
        "stream_options": {"include_usage": True},
        "return_progress": True,  # without it, nothing is heard of, or can cancel, a long prompt
        **_sampling(request),
        **request.extra,
    }
    if request.tools and not (request.tool_choice and request.tool_choice.mode == "none"):
        made["tools"] = [_tool(tool, clean) for tool in request.tools]
    if request.parallel_tool_calls is not None:
        made["parallel_tool_calls"] = request.parallel_tool_calls
    if must := must_call(request):
        made["response_format"] = _format(call_schema(must))
    elif request.format:
        made["response_format"] = _format(request.format.schema)
    return made


def _format(schema: dict[str, Any] | None) -> dict[str, Any]:
    if schema is None:
        return {"type": "json_object"}
    return {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}


def _message(message: Message, clean: Clean) -> dict[str, Any]:
    role = "system" if message.role == "developer" else message.role
    made: dict[str, Any] = {"role": role, "content": _content(message.parts, clean)}
    calls = [_call(part, clean) for part in message.parts if isinstance(part, ToolCall)]
    if calls:
        made["tool_calls"] = calls
    thoughts = "".join(part.text for part in message.parts if isinstance(part, Reasoning))
    if thoughts:
        made["reasoning_content"] = clean(thoughts)
    for part in message.parts:
        if isinstance(part, ToolResult):
            made["tool_call_id"] = part.call_id
    return made


def _content(parts: Sequence[Part], clean: Clean) -> str | list[dict[str, Any]]:
    """A string where there is text only; neighbouring texts are joined before they are cleaned."""
    if not any(isinstance(part, Image) for part in parts):
        return clean(_joined(parts))
    made: list[dict[str, Any]] = []
    run: list[Part] = []
    for part in parts:
        if isinstance(part, Image):
            made += [*_text(run, clean), {"type": "image_url", "image_url": {"url": _url(part)}}]
            run = []
        else:
            run.append(part)
    return [*made, *_text(run, clean)]


def _text(parts: Sequence[Part], clean: Clean) -> list[dict[str, Any]]:
    text = clean(_joined(parts))
    return [{"type": "text", "text": text}] if text else []


def _joined(parts: Sequence[Part]) -> str:
    text = "".join(part.text for part in parts if isinstance(part, Text | ToolResult))
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise RequestError(
                "messages: a text is not valid Unicode (a lone surrogate)", param="messages"
            ) from error
    return text


def _url(image: Image) -> str:
    if image.data is None:
        raise Unsupported(
            "a local model does not fetch images: send the bytes (a data: URL), not an address",
            param="messages",
            code="unsupported",
        )
    kind = image.media_type or "image/png"
    return f"data:{kind};base64,{base64.b64encode(image.data).decode()}"


def _call(call: ToolCall, clean: Clean) -> dict[str, Any]:
    function = {"name": clean(call.name), "arguments": clean(call.arguments)}
    return {"id": call.id, "type": "function", "function": function}


def _tool(tool: Tool, clean: Clean) -> dict[str, Any]:
    function: dict[str, Any] = {"name": clean(tool.name), "parameters": tool.parameters or {}}
    if tool.description is not None:
        function["description"] = clean(tool.description)
    return {"type": "function", "function": function}


def _sampling(request: Request) -> dict[str, Any]:
    s = request.sampling
    made: dict[str, Any] = {
        "max_tokens": s.max_tokens,
        "temperature": s.temperature,
        "top_p": s.top_p,
        "frequency_penalty": s.frequency_penalty,
        "presence_penalty": s.presence_penalty,
        "seed": None if s.seed is None else s.seed % _RANDOM_SEED,
        "stop": list(s.stop) or None,
        "logit_bias": dict(s.logit_bias) if s.logit_bias else None,
        "logprobs": s.logprobs or None,
        # llama.cpp takes 0 rivals to mean no logprobs at all
        "top_logprobs": max(1, s.top_logprobs or 0) if s.logprobs else None,
    }
    return {key: value for key, value in made.items() if value is not None}


# --- answers -----------------------------------------------------------------------------------


def deltas(chunk: Chunk, by: str) -> Iterator[Delta]:
    """What a chunk says; progress reports and the closing chunks say nothing."""
    for choice in chunk.get("choices", ()):
        delta = choice["delta"]
        logprobs = tuple(_logprobs(choice.get("logprobs")))
        if thought := delta.get("reasoning_content"):
            yield Delta(Reasoning(thought), by=by)
        if delta.get("content") or logprobs:
            yield Delta(Text(delta.get("content") or ""), by=by, logprobs=logprobs)
        for call in delta.get("tool_calls", ()):
            yield Delta(_fragment(call), by=by)


def _fragment(call: Mapping[str, Any]) -> ToolCall:
    function = call.get("function", {})
    return ToolCall(
        id=call.get("id") or "",
        name=function.get("name") or "",
        arguments=function.get("arguments") or "",
        index=call.get("index", 0),
    )


def _logprobs(found: Mapping[str, Any] | None) -> Iterator[TokenLogprob]:
    for token in (found or {}).get("content") or ():
        top = tuple((rival["token"], rival["logprob"]) for rival in token["top_logprobs"])
        yield TokenLogprob(token["token"], token["logprob"], top)


def reason(chunk: Chunk) -> Finish | None:
    """Why the answer ended, if this chunk says so."""
    for choice in chunk.get("choices", ()):
        if word := choice.get("finish_reason"):
            return _FINISH.get(word, "stop")
    return None


def usage(chunk: Chunk, *, thought: bool) -> Usage | None:
    """The tokens consumed, if this chunk reports them; thoughts are not counted apart."""
    found = chunk.get("usage")
    if not found:
        return None
    return Usage(
        prompt_tokens=found.get("prompt_tokens"),
        completion_tokens=found.get("completion_tokens"),
        cached_tokens=(found.get("prompt_tokens_details") or {}).get("cached_tokens"),
        reasoning_tokens=None if thought else 0,
    )


def fault(model: str, error: Mapping[str, Any]) -> ModelError:
    """The error of our tree for llama.cpp's."""
    kind, message = str(error.get("type", "")), str(error.get("message", "no reason given"))
    if kind == "exceed_context_size_error":
        return TooLong(model, message)
    status = error.get("code")
    return Rejected(model, message, status=status if status in (400, 501) else 400, kind=kind)
