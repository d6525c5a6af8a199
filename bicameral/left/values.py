"""JSON by value: order of keys, spaces and 1.0 for 1 make no difference."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from itertools import islice
from math import isfinite
from typing import Any

from bicameral.left.final import Piece
from bicameral.types import ToolCall

_OPENS = re.compile(r"[{\[]")
_TRIES = 10
# What a model says beside its result; two that agree on the result word these differently.
_ASIDE = frozenset(
    {
        *("reasoning", "explanation", "rationale", "thought", "thoughts", "thinking", "analysis"),
        *("steps", "comment", "comments", "chain_of_thought", "confidence", "notes"),
    }
)


def found(text: str) -> Piece | None:
    """The JSON that `text` is or holds (its first object or list), spelled by value."""
    whole = _read(text, len(text) - len(text.lstrip()))
    if whole and not text[whole.end :].strip():
        return whole
    places = (match.start() for match in islice(_OPENS.finditer(text), _TRIES))
    return next((piece for at in places if (piece := _read(text, at))), None)


def called(calls: Sequence[ToolCall]) -> str:
    """Tool calls by name and by the value of their arguments, in any order."""
    shown = []
    for call in calls:
        arguments = found(call.arguments)
        shown.append(f"{call.name} {arguments.text if arguments else call.arguments.strip()}")
    return "\n".join(sorted(shown))


def parsed(text: str) -> Any:
    """The value of a text that is JSON and nothing else; ValueError if it is not."""
    try:
        return _decoder.decode(text)
    except RecursionError as error:
        raise ValueError("JSON is nested too deep") from error


def _read(text: str, at: int) -> Piece | None:
    try:
        value, end = _decoder.raw_decode(text, at)
        shown = json.dumps(_by_value(value), sort_keys=True, ensure_ascii=False)
    except (ValueError, RecursionError):
        return None
    return Piece(shown, at, end)


def _by_value(value: Any) -> Any:
    match value:
        case float() if not isfinite(value):
            raise ValueError("JSON has no infinity")
        case float() if value.is_integer():
            return int(value)
        case list():
            return [_by_value(item) for item in value]
        case dict():
            told = {k: v for k, v in value.items() if k.casefold() not in _ASIDE}
            return {k: _by_value(v) for k, v in (told or value).items()}
    return value


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


_decoder = json.JSONDecoder(parse_constant=_no_constant)
