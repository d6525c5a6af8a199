"""OpenAI's chat JSON to a Request: strict, so that every fault of a body is a RequestError."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Iterator, Mapping
from functools import cache, partial
from typing import Any, TypeVar

import msgspec
from msgspec import Struct

from bicameral import config
from bicameral.config import ServerOptions
from bicameral.errors import RequestError
from bicameral.server import media, schema
from bicameral.types import (
    JsonFormat,
    Message,
    Part,
    Reach,
    Reasoning,
    Request,
    Role,
    Sampling,
    Text,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
    Wire,
)

T = TypeVar("T", bound=Struct)
Headers = Mapping[bytes, bytes]

_NOT_BRACKETS = bytes(set(range(256)) - set(b"{}[]"))
_NUL = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")
# What clients add to an answer that they send back: it repeats or comments what is beside it.
_ECHOED = {"annotations", "parsed", "parsed_arguments", "index"}
LONGEST = 86_400.0
_raw = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


class Chat(Struct, frozen=True):
    """A decoded chat body: the model asked for and the request, which carries its wire.

    `explain`: the answer shall say who was asked, and why.
    """

    model: str
    request: Request
    explain: bool = False


def chat(body: bytes, headers: Headers, options: ServerOptions, request_id: str) -> Chat:
    """The chat request in `body`; RequestError names the field that is wrong."""
    tree = parse(body, options.max_depth)
    asked = typed(tree, schema.ChatBody)
    if len(asked.messages) > options.max_messages:
        raise RequestError(
            f"there are {len(asked.messages)} messages, this server takes {options.max_messages}",
            param="messages",
        )
    stream = bool(asked.stream)
    usage = bool(asked.stream_options and asked.stream_options.include_usage)
    request = Request(
        messages=tuple(_messages(asked.messages, options)),
        sampling=_sampling(asked),
        tools=tuple(map(_tool, asked.tools or ())),
        tool_choice=_tool_choice(asked),
        parallel_tool_calls=asked.parallel_tool_calls,
        format=_format(asked),
        n=asked.n or 1,
        extra=unmodelled(tree, asked),
        wire=Wire(_theirs(body, tree), stream, usage),
        id=request_id,
        **limits(headers),
    )
    return Chat(asked.model, request, _explain(asked, headers))


def _explain(asked: schema.ChatBody, headers: Headers) -> bool:
    if asked.bicameral is not None and asked.bicameral.explain:
        return True
    explain = headers.get(b"x-bicameral-explain")
    return explain is not None and bool(_header("x-bicameral-explain", explain, ("0", "1").index))


def _theirs(body: bytes, tree: Mapping[str, Any]) -> bytes:
    """The body without what is ours, which another server would refuse."""
    if "bicameral" not in tree:
        return body
    fields = _raw(body)
    del fields["bicameral"]
    return msgspec.json.encode(fields)


def parse(body: bytes, max_depth: int) -> dict[str, Any]:
    """The object in `body`, or RequestError: no repeated keys, no NaN, no NUL, not too deep."""
    try:
        tree = msgspec.json.decode(body)
    except UnicodeDecodeError as error:
        raise RequestError("the body is not UTF-8 text") from error
    except RecursionError as error:
        raise _too_deep(max_depth) from error
    except msgspec.DecodeError as error:
        raise RequestError(f"the body is not valid JSON: {error}", code="invalid_json") from error
    if not isinstance(tree, dict):
        raise RequestError("the body must be a JSON object")
    _check_shape(tree, body, max_depth)
    return tree


def typed(tree: Mapping[str, Any], kind: type[T]) -> T:
    """`tree` as `kind`; RequestError names the field that does not fit."""
    try:
        return msgspec.convert(tree, kind)
    except msgspec.ValidationError as error:
        reason, _, path = str(error).partition(" - at `")
        param = path.rstrip("`").removeprefix("$").lstrip(".") or None
        if field := re.search("(?:missing required|unknown) field `(.*)`", reason):
            param = f"{param}.{field[1]}" if param else field[1]
        raise RequestError(f"{param}: {reason}", param=param) from error


def unmodelled(tree: Mapping[str, Any], asked: Struct) -> dict[str, Any]:
    """What the wire carries at any depth and `asked` does not, by path: `messages[].content[].x`.

    Null counts as absent, and what clients add to an answer that they send back as said.
    """
    return dict(_odd(tree, asked, ""))


def _odd(node: Any, read: Any, at: str) -> Iterator[tuple[str, Any]]:
    if isinstance(read, list):
        for item, twin in zip(node, read, strict=True):
            yield from _odd(item, twin, f"{at}[]")
    elif isinstance(read, Struct):
        known = _names(type(read))
        for key, value in node.items():
            path = f"{at}.{key}" if at else key
            if key not in known:
                if value is not None and not (at and key in _ECHOED):
                    yield path, value
            elif type(value) is dict or type(value) is list:
                yield from _odd(value, getattr(read, key, None), path)


@cache
def _names(kind: type[Struct]) -> frozenset[str]:
    return frozenset({*kind.__struct_encode_fields__, kind.__struct_config__.tag_field or ""})


def limits(headers: Headers) -> dict[str, Any]:
    """Reach, deadline and budget from our own headers, as fields of a Request."""
    fields: dict[str, Any] = {}
    if (reach := headers.get(b"x-bicameral-reach")) is not None:
        fields["reach"] = _header("x-bicameral-reach", reach, _reach)
    if (timeout := headers.get(b"x-bicameral-timeout")) is not None:
        fields["deadline"] = time.monotonic() + _header("x-bicameral-timeout", timeout, _seconds)
    if (budget := headers.get(b"x-bicameral-budget")) is not None:
        fields["budget"] = _header("x-bicameral-budget", budget, config.nano)
    return fields


def _header(name: str, value: bytes, read: Any) -> Any:
    try:
        return read(value.decode("ascii"))
    except (ValueError, KeyError) as error:
        raise RequestError(f"the header {name} is wrong: {_HEADERS[name]}", param=name) from error


_HEADERS = {
    "x-bicameral-reach": "write device, site, private or public",
    "x-bicameral-timeout": f"write seconds, more than 0 and at most {LONGEST:g}",
    "x-bicameral-explain": "write 1 or 0",
    "x-bicameral-budget": 'write dollars as a decimal, such as "0.25"',
}


def _reach(text: str) -> Reach:
    if not text.islower():
        raise ValueError(text)
    return Reach[text.upper()]


def _seconds(text: str) -> float:
    if not re.fullmatch(r"\d{1,6}(\.\d{1,9})?", text):
        raise ValueError(text)
    seconds = float(text)
    if not 0 < seconds <= LONGEST:
        raise ValueError(text)
    return seconds


# --- shape -------------------------------------------------------------------------------------


def _check_shape(tree: dict[str, Any], body: bytes, max_depth: int) -> None:
    """Count colons and brackets outside strings: cheaper than a second parser."""
    bare = _bare(body)
    if bare.count(b"{") + bare.count(b"[") > max_depth and _depth(bare) > max_depth:
        raise _too_deep(max_depth)
    if bare.count(b":") != _keys(tree):
        raise RequestError("the body repeats a key within one object", code="duplicate_key")
    if b"\\u0000" in body and _NUL.search(body):
        raise RequestError("the body holds a NUL character; remove it")


def _bare(body: bytes) -> bytes:
    """Valid JSON without its strings: past the escapes, every second piece between quotes."""
    if b"\\" in body:
        body = body.replace(b"\\\\", b"").replace(b'\\"', b"")
    return b"".join(body.split(b'"')[::2])


def _depth(bare: bytes) -> int:
    deepest = depth = 0
    for bracket in bare.translate(None, _NOT_BRACKETS):
        if bracket in b"{[":
            depth += 1
            deepest = max(deepest, depth)
        else:
            depth -= 1
    return deepest


def _keys(tree: dict[str, Any]) -> int:
    """How many keys the objects of `tree` have together."""
    count = 0
    nodes: list[Any] = [tree]
    for node in nodes:  # grows as it goes
        values = node
        if type(node) is dict:
            count += len(node)
            values = node.values()
        nodes += [value for value in values if type(value) is dict or type(value) is list]
    return count


def _too_deep(max_depth: int) -> RequestError:
    return RequestError(f"the body is nested deeper than {max_depth} levels", code="too_deep")


# --- messages ----------------------------------------------------------------------------------


def _messages(turns: Iterable[schema.Turn], options: ServerOptions) -> Iterator[Message]:
    called: set[str] = set()
    for index, turn in enumerate(turns):
        if isinstance(turn, schema.Assistant):
            called.update(call.id for call in turn.tool_calls or ())
            yield Message("assistant", tuple(_assistant(turn, index)), turn.name)
        elif isinstance(turn, schema.ToolTurn):
            yield _tool_turn(turn, called, index)
        elif isinstance(turn.content, str):
            yield Message(_ROLES[type(turn)], (Text(turn.content),), turn.name)
        else:
            parts = _parts(turn.content, options, f"messages[{index}]")
            yield Message(_ROLES[type(turn)], parts, turn.name)


_ROLES: dict[type, Role] = {
    schema.System: "system",
    schema.Developer: "developer",
    schema.User: "user",
}


def _tool_turn(turn: schema.ToolTurn, called: set[str], at: int) -> Message:
    where = f"messages[{at}]"
    if turn.tool_call_id not in called:
        raise RequestError(
            f"{where}: no earlier assistant message makes the call it answers",
            param=f"{where}.tool_call_id",
        )
    return Message("tool", (ToolResult(turn.tool_call_id, _plain(turn.content)),))


def _plain(content: str | list[schema.TextPart]) -> str:
    return content if isinstance(content, str) else "".join(part.text for part in content)


def _assistant(turn: schema.Assistant, at: int) -> Iterator[Part]:
    if turn.reasoning_content:
        yield Reasoning(turn.reasoning_content)
    if isinstance(turn.content, str):
        yield Text(turn.content)
    for part in turn.content if isinstance(turn.content, list) else ():
        yield Text(part.text if isinstance(part, schema.TextPart) else part.refusal)
    if turn.refusal:
        yield Text(turn.refusal)
    for index, call in enumerate(turn.tool_calls or ()):
        _check_arguments(call.function.arguments, f"messages[{at}].tool_calls[{index}]")
        yield ToolCall(call.id, call.function.name, call.function.arguments, index)


def _check_arguments(arguments: str, where: str) -> None:
    try:
        msgspec.json.decode(arguments or "{}")
    except (ValueError, RecursionError) as error:
        param = f"{where}.function.arguments"
        raise RequestError(f"{param}: is not JSON", param=param) from error


def _parts(content: Any, options: ServerOptions, where: str) -> tuple[Part, ...]:
    return tuple(
        _part(part, options, f"{where}.content[{index}]") for index, part in enumerate(content)
    )


def _part(part: Any, options: ServerOptions, where: str) -> Part:
    match part:
        case schema.TextPart():
            return Text(part.text)
        case schema.ImagePart():
            check = partial(media.image, max_pixels=options.max_image_pixels)
            return check(part.image_url.url, part.image_url.detail, param=f"{where}.image_url")
        case schema.VideoPart():
            return media.video(part.video_url.url, param=f"{where}.video_url")
        case _:
            sound = part.input_audio
            return media.audio(sound.data, sound.format, param=f"{where}.input_audio")


# --- the other fields --------------------------------------------------------------------------


def _sampling(asked: schema.ChatBody) -> Sampling:
    newer, older = asked.max_completion_tokens, asked.max_tokens
    if asked.top_logprobs and not asked.logprobs:
        raise RequestError("top_logprobs needs logprobs: true", param="top_logprobs")
    stop = (asked.stop,) if isinstance(asked.stop, str) else tuple(asked.stop or ())
    return Sampling(
        max_tokens=older if newer is None else newer,
        temperature=asked.temperature,
        top_p=asked.top_p,
        seed=asked.seed,
        stop=stop,
        frequency_penalty=asked.frequency_penalty,
        presence_penalty=asked.presence_penalty,
        logit_bias=asked.logit_bias,
        logprobs=bool(asked.logprobs),
        top_logprobs=asked.top_logprobs,
    )


def _tool(tool: schema.FunctionTool) -> Tool:
    f = tool.function
    return Tool(f.name, f.description, f.parameters, f.strict)


def _tool_choice(asked: schema.ChatBody) -> ToolChoice | None:
    choice = asked.tool_choice
    if choice is None:
        return None
    if not asked.tools and choice != "none":
        raise RequestError("tool_choice needs tools", param="tool_choice")
    if not isinstance(choice, schema.Choice):
        return ToolChoice(choice)
    name = choice.function.name
    if all(tool.function.name != name for tool in asked.tools or ()):
        raise RequestError(f"tool_choice: there is no tool '{name}'", param="tool_choice")
    return ToolChoice("function", name)


def _format(asked: schema.ChatBody) -> JsonFormat | None:
    match asked.response_format:
        case schema.ObjectFormat():
            return JsonFormat()
        case schema.SchemaFormat(json_schema=wanted):
            schema_ = wanted.schema if wanted.schema is not None else {}
            return JsonFormat(schema_, wanted.name, wanted.strict, wanted.description)
        case _:
            return None
