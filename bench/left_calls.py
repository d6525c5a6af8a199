"""Tool calls as answers: what a model wrote, as calls by value; and what the models cost.

Prompted models write Python calls in a list, native ones JSON; what the benchmark's own decoder
could not read is no answer. Calls are equal where names and values are: order, spelling of
strings, `1` against `1.0` and arguments left at their declared default do not count.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

Schema = Mapping[str, Mapping[str, Any]]

NONE = "no call"
_FENCE = re.compile(r"^\s*```")


def schema(functions: Any) -> Schema:
    """Declared default values by function and argument."""
    listed = functions if isinstance(functions, list) else [functions]
    return {
        _name(f["name"]): {
            name: _default(spec)
            for name, spec in (f.get("parameters") or {}).get("properties", {}).items()
        }
        for f in listed
    }


def key(result: str, declared: Schema) -> str | None:
    """The calls in `result`, spelled one way; None: not readable as calls."""
    try:
        value = json.loads(result)
    except ValueError:
        value = result
    calls = _calls(value)
    if not calls:
        return None
    spelled = sorted(_spelled(name, arguments, declared) for name, arguments in calls)
    return "; ".join(spelled)


def _calls(value: Any) -> list[tuple[str, Mapping[str, Any]]] | None:
    if isinstance(value, list):
        found = [_native(part) for part in value]
        return None if any(part is None for part in found) else [p for p in found if p]
    if not isinstance(value, str):
        return None
    for read in (_tagged, _wrapped, _python):
        calls = read(value)
        if calls is not None:
            return calls
    return None


def _native(part: Any) -> tuple[str, Mapping[str, Any]] | None:
    """`{"name": arguments}`, or `{"name": ..., "arguments": ...}`."""
    if not isinstance(part, Mapping):
        return None
    if "name" in part and ("arguments" in part or "parameters" in part):
        name, arguments = part["name"], part.get("arguments", part.get("parameters"))
    elif len(part) == 1:
        name, arguments = next(iter(part.items()))
    else:
        return None
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments)
        except ValueError:
            return None
    return (str(name), arguments) if isinstance(arguments, Mapping) else None


def _tagged(text: str) -> list[tuple[str, Mapping[str, Any]]] | None:
    """`<function_call> {...}` or `<tool_call> {...}`, once for each call."""
    if not re.match(r"\s*<(?:function|tool)_call>", text):
        return None
    parts = re.split(r"</?(?:function|tool)_call>", text)
    return _loaded([part for part in parts if part.strip()])


def _wrapped(text: str) -> list[tuple[str, Mapping[str, Any]]] | None:
    """`{"tool_calls": [...]}`."""
    try:
        whole = json.loads(text)
    except ValueError:
        return None
    listed = whole.get("tool_calls") if isinstance(whole, Mapping) else whole
    return _calls(listed) if isinstance(listed, list) else None


def _loaded(parts: Sequence[str]) -> list[tuple[str, Mapping[str, Any]]] | None:
    try:
        return _calls([json.loads(part) for part in parts])
    except ValueError:
        return None


def _python(text: str) -> list[tuple[str, Mapping[str, Any]]] | None:
    """`[f(a=1), g(b="x")]`, the brackets optional."""
    body = text.replace("\\_", "_").strip().rstrip(";").replace("; ", ", ")
    body = body if body.startswith("[") else f"[{body}]"
    try:
        tree = ast.parse(body, mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    parts = tree.elts if isinstance(tree, ast.List) else []
    calls = [_call(part) for part in parts]
    return None if any(call is None for call in calls) else [call for call in calls if call]


def _call(node: ast.expr) -> tuple[str, Mapping[str, Any]] | None:
    if not isinstance(node, ast.Call):
        return None
    arguments: dict[str, Any] = {str(i): _literal(arg) for i, arg in enumerate(node.args)}
    arguments.update({word.arg or "**": _literal(word.value) for word in node.keywords})
    return ast.unparse(node.func), arguments


def _literal(node: ast.expr) -> Any:
    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return ast.unparse(node)


def _spelled(name: str, arguments: Mapping[str, Any], declared: Schema) -> str:
    defaults = declared.get(_name(name), {})
    parts = [
        f"{_name(key)}={_value(value)}"
        for key, value in sorted(arguments.items())
        if not (defaults.get(key) and _value(value).strip("'") == defaults[key])
    ]
    return f"{_name(name)}({','.join(parts)})"


def _name(name: str) -> str:
    return re.sub(r"\W", "_", str(name))


def _value(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return str(value)
    if isinstance(value, (int, float)):
        return f"{float(value):.10g}"
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{_name(k)}:{_value(v)}" for k, v in sorted(value.items())) + "}"
    if isinstance(value, (list, tuple, set)):
        return "[" + ",".join(_value(part) for part in value) + "]"
    return "'" + re.sub(r"[\s,./\-_*^'\"]", "", str(value)).lower() + "'"


def _default(spec: Any) -> str | None:
    """A default as `_value` spells it, from the schema or from the words "default is ..."."""
    if not isinstance(spec, Mapping):
        return None
    if "default" in spec:
        return _value(spec["default"]).strip("'")
    told = re.search(
        r"[Dd]efaults? (?:value )?(?:is|to|of)? ?['\"`]?([\w.\- ]+)", str(spec.get("description"))
    )
    if not told:
        return None
    text = told[1].strip().rstrip(".")
    try:
        return _value(float(text))
    except ValueError:
        return (
            _value(text.title() == "True")
            if text.lower() in ("true", "false")
            else _value(text).strip("'")
        )


# Dollars per million tokens, in and out, as listed in August 2024. (file): the litellm 1.109.1
# price file has the same model today; the rest is remembered.
_PRICES = {
    "claude-3-5-sonnet": (3, 15),  # remembered
    "claude-3-opus": (15, 75),  # remembered
    "claude-3-sonnet": (3, 15),  # file
    "claude-3-haiku": (0.25, 1.25),  # remembered
    "claude-2.1": (8, 24),  # remembered
    "claude-instant": (0.8, 2.4),  # file
    "gpt-4-1106": (10, 30),  # file
    "gpt-4-0125": (10, 30),  # remembered
    "gpt-4-turbo": (10, 30),  # file
    "gpt-4-0613": (30, 60),  # file
    "gpt-4o-2024-05-13": (5, 15),  # file
    "gpt-4o-2024-08-06": (2.5, 10),  # file
    "gpt-4o-mini": (0.15, 0.6),  # file
    "gpt-3.5-turbo-0125": (0.5, 1.5),  # file
    "gemini-1.5-pro": (3.5, 10.5),  # remembered, before the cut of October
    "gemini-1.5-flash": (0.35, 1.05),  # remembered, before the cut of 12 August
    "gemini-1.0-pro": (0.5, 1.5),  # remembered
    "mistral-large-2407": (3, 9),  # remembered
    "mistral-medium-2312": (2.7, 8.1),  # remembered
    "mistral-small-2402": (1, 3),  # remembered
    "mistral-tiny": (0.25, 0.25),  # file
    "open-mistral-nemo": (0.3, 0.3),  # remembered
    "open-mixtral-8x22b": (2, 6),  # remembered
    "open-mixtral-8x7b": (0.7, 0.7),  # remembered
    "command-r-plus": (3, 15),  # file
    "firefunction-v2": (0.9, 0.9),  # file
    "firefunction-v1": (0.5, 0.5),  # file
    "yi-large-fc": (3, 3),  # file
    "databricks-dbrx": (1.2, 1.2),  # file (fireworks)
}


def price(model: str) -> tuple[float, float] | None:
    """Dollars per million tokens in and out; None: no list price, or its tokens are not known."""
    found = [name for name in _PRICES if model.startswith(name)]
    return _PRICES[max(found, key=len)] if found else None
