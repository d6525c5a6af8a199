"""What llama.cpp would silently ignore or get wrong is refused here, by name, before any work.

llama.cpp turns a JSON schema into a grammar. A keyword it does not know is dropped, a pattern it
cannot translate becomes 'any string': the answer would look checked and not be. Read against
common/json-schema-to-grammar.cpp and tried on the binding that pyproject pins.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from bicameral.errors import RequestError, Unsupported
from bicameral.types import Request

_NOTES = {"title", "description", "default", "examples", "deprecated", "readOnly", "writeOnly"}
_NOTES |= {"$schema", "$id", "$comment", "$defs", "definitions", "discriminator"}
_KEYWORDS: Mapping[str, frozenset[str]] = {
    "object": frozenset({"properties", "required", "additionalProperties"}),
    "array": frozenset({"items", "prefixItems", "minItems", "maxItems"}),
    "string": frozenset({"pattern", "format", "minLength", "maxLength"}),
    "integer": frozenset({"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"}),
    "number": frozenset(),
    "boolean": frozenset(),
    "null": frozenset(),
}
_FORMATS = {"date", "time", "date-time", "uuid"}
_SIZES = ("minItems", "maxItems", "minLength", "maxLength")
_MOST = 2000  # repetitions: llama.cpp's own limit
_DEEP, _MANY, _LONG = 64, 5000, 64 * 2**10


def schema(root: Any, *, param: str) -> None:
    """Raise Unsupported for what the grammar would not enforce in this JSON schema."""
    _Schema(root, param).check()


class _Schema:
    def __init__(self, root: Any, param: str) -> None:
        self._root = root
        self._param = param
        self._left = _MANY

    def check(self) -> None:
        self._visit(self._root, "#", 0)
        for group in ("$defs", "definitions"):
            for name, node in self._mapping(self._root.get(group, {}), f"#/{group}").items():
                self._visit(node, f"#/{group}/{name}", 1)

    def _visit(self, node: Any, at: str, depth: int) -> None:
        self._left -= 1
        if depth > _DEEP or self._left < 0:
            self._refuse(at, f"is beyond {_DEEP} levels or {_MANY} parts")
        self._mapping(node, at)
        for branch in ("$ref", "anyOf", "oneOf", "allOf", "const", "enum"):
            if branch in node:
                self._only(node, at, {branch, "type"} if branch in ("const", "enum") else {branch})
                self._branch(branch, node[branch], at, depth)
                return
        self._typed(node, at, depth)

    def _branch(self, branch: str, value: Any, at: str, depth: int) -> None:
        if branch == "$ref":
            self._resolve(value, at)
        elif branch in ("const", "enum"):
            if branch == "enum" and not (isinstance(value, list) and value):
                self._refuse(f"{at}/enum", "must be a list of at least one value")
        elif not isinstance(value, list) or not value:
            self._refuse(f"{at}/{branch}", "must be a list of at least one schema")
        elif branch == "allOf" and len(value) > 1:
            self._refuse(f"{at}/allOf", "with more than one schema is not supported: merge them")
        else:
            for index, node in enumerate(value):
                self._visit(node, f"{at}/{branch}/{index}", depth + 1)

    def _resolve(self, ref: Any, at: str) -> None:
        node = self._root
        if not isinstance(ref, str) or not ref.startswith("#/"):
            self._refuse(f"{at}/$ref", "must begin with '#/'")
        for step in ref[2:].split("/"):
            if not isinstance(node, dict) or step not in node:
                self._refuse(f"{at}/$ref", f"leads nowhere: '{ref}'")
            node = node[step]

    def _typed(self, node: Mapping[str, Any], at: str, depth: int) -> None:
        kinds = node.get("type", _implied(node))
        for kind in kinds if isinstance(kinds, list) else [kinds]:
            if kind not in _KEYWORDS:
                self._refuse(f"{at}/type", f"'{kind}' is no JSON type")
        known = [_KEYWORDS[kind] for kind in (kinds if isinstance(kinds, list) else [kinds])]
        self._only(node, at, {"type"}.union(*known))
        self._sizes(node, at)
        self._string(node, at)
        for where, child in _children(node):
            self._visit(child, f"{at}/{where}", depth + 1)

    def _sizes(self, node: Mapping[str, Any], at: str) -> None:
        for key in _SIZES:
            if key in node and not (_whole(node[key]) and 0 <= node[key] <= _MOST):
                self._refuse(f"{at}/{key}", f"must be a whole number from 0 to {_MOST}")
        for key in _KEYWORDS["integer"]:
            if key in node and not (_whole(node[key]) and abs(node[key]) < 2**53):
                self._refuse(f"{at}/{key}", "must be a whole number below 2^53")
        required = node.get("required", [])
        if not isinstance(required, list) or not set(required) <= set(node.get("properties", {})):
            self._refuse(f"{at}/required", "must be a list of names that 'properties' describes")

    def _string(self, node: Mapping[str, Any], at: str) -> None:
        if "format" in node and node["format"] not in _FORMATS:
            known = ", ".join(sorted(_FORMATS))
            self._refuse(f"{at}/format", f"'{node['format']}' is not enforced; known: {known}")
        if "pattern" in node:
            self._only(node, at, {"type", "pattern"})
            if problem := _pattern(node["pattern"]):
                self._refuse(f"{at}/pattern", problem)

    def _only(self, node: Mapping[str, Any], at: str, allowed: set[str]) -> None:
        for key in node:
            if key not in allowed and key not in _NOTES and not key.startswith("x-"):
                self._refuse(f"{at}/{key}", "is not enforced here; leave it out")

    def _mapping(self, node: Any, at: str) -> Mapping[str, Any]:
        if not isinstance(node, dict):
            self._refuse(at, "must be an object")
        return node  # type: ignore[no-any-return]

    def _refuse(self, at: str, why: str) -> None:
        raise Unsupported(f"JSON schema: {at} {why}", param=self._param, code="unsupported")


def _implied(node: Mapping[str, Any]) -> str:
    """The type llama.cpp assumes where none is given."""
    for kind in ("array", "string", "integer"):
        if _KEYWORDS[kind] & node.keys():
            return kind
    return "object"


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _children(node: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    properties = node.get("properties", {})
    if not isinstance(properties, dict):
        yield "properties", properties
    else:
        for name, child in properties.items():
            yield f"properties/{name}", child
    if not isinstance(node.get("additionalProperties", True), bool):
        yield "additionalProperties", node["additionalProperties"]
    if "items" in node:
        yield "items", node["items"]
    for index, child in enumerate(node.get("prefixItems", ())):
        yield f"prefixItems/{index}", child


# What the translation gets right: literals, escaped punctuation, plain classes, groups, |, * + ?
# and bounded repetition. '.' and [^…] would let a bare quote through and break the JSON.
_ATOM = r"(?:[^\\\[\](){}.*+?|^$\"\x00-\x1f]|\\[-/.*+?|^$(){}\[\]]|\[[^\\\[\]^\"\x00-\x1f]+\])"
_PATTERN = re.compile(rf"\^(?:{_ATOM}|[(|)])(?:{_ATOM}|[(|)]|[*+?]|\{{\d+(?:,\d*)?\}})*\$")
_TWICE = re.compile(r"(?<!\\)[*+?}][*+?{]|\(\?|[(|](?<!\\[(|])[*+?{]|\(\)")


def _pattern(pattern: Any) -> str | None:
    """Why the pattern cannot be enforced; None if it can."""
    if not isinstance(pattern, str) or len(pattern) > 1000:
        return "must be a string of at most 1000 characters"
    try:
        re.compile(pattern)
    except (re.error, OverflowError, RecursionError) as error:
        return f"is not a valid regular expression ({error})"
    if not (pattern.startswith("^") and pattern.endswith("$")):
        return "must begin with '^' and end with '$'"
    if not _PATTERN.fullmatch(pattern) or _TWICE.search(pattern):
        return "uses more than literals, [classes], groups, |, *, +, ? and {m,n}"
    if any(int(n) > _MOST for n in re.findall(r"\d+", " ".join(re.findall(r"\{[^}]*\}", pattern)))):
        return f"repeats more than {_MOST} times"
    return None


# --- fields ------------------------------------------------------------------------------------


def number(low: float, high: float, *, whole: bool = False) -> Callable[[Any], str | None]:
    """A check that a value is a number from `low` to `high`."""
    kinds = (int,) if whole else (int, float)

    def check(value: Any) -> str | None:
        good = isinstance(value, kinds) and not isinstance(value, bool) and low <= value <= high
        return None if good else f"must be a {'whole ' if whole else ''}number, {low:g} to {high:g}"

    return check


def _flag(value: Any) -> str | None:
    return None if isinstance(value, bool) else "must be true or false"


def _object(value: Any) -> str | None:
    return None if isinstance(value, dict) else "must be an object"


def _grammar(value: Any) -> str | None:
    if not isinstance(value, str) or not value.strip() or len(value) > _LONG:
        return f"must be a GBNF grammar of 1 to {_LONG} characters"
    if value.lstrip().startswith("%llguidance"):  # one that is wrong would be ignored
        return "must be GBNF, not an llguidance grammar"
    return "is nested too deep" if value.count("(") > 1000 else None


EXTRA: Mapping[str, Callable[[Any], str | None]] = {
    "top_k": number(0, 2**31 - 1, whole=True),
    "min_p": number(0, 1),
    "typical_p": number(0, 1),
    "repeat_penalty": number(0.01, 10),
    "repeat_last_n": number(-1, 2**31 - 1, whole=True),
    "mirostat": number(0, 2, whole=True),
    "mirostat_tau": number(0, 100),
    "mirostat_eta": number(0, 1),
    "xtc_probability": number(0, 1),
    "xtc_threshold": number(0, 1),
    "dry_multiplier": number(0, 100),
    "ignore_eos": _flag,
    "cache_prompt": _flag,
    "grammar": _grammar,
    "chat_template_kwargs": _object,
}
"""The provider fields llama.cpp honours, each with its check."""

_SAMPLING: Mapping[str, Callable[[Any], str | None]] = {
    "max_tokens": number(1, 2**31 - 1, whole=True),
    "temperature": number(0, 100),
    "top_p": number(0, 1),
    "frequency_penalty": number(-2, 2),
    "presence_penalty": number(-2, 2),
    "top_logprobs": number(0, 20, whole=True),
}


def fields(request: Request) -> None:
    """Raise RequestError, by name, for values that llama.cpp would bend to something else."""
    for name, check in _SAMPLING.items():
        value = getattr(request.sampling, name)
        _refuse(name, None if value is None else check(value))
    for name, check in EXTRA.items():
        if name in request.extra:
            _refuse(name, check(request.extra[name]))
    _refuse("stop", "has an empty string" if "" in request.sampling.stop else None)
    _refuse("logit_bias", _bias(request.sampling.logit_bias or {}))
    _refuse("tool_choice", _choice(request))
    if "grammar" in request.extra and (request.format or request.tools):
        _refuse("grammar", "cannot be joined with response_format or tools")


def _choice(request: Request) -> str | None:
    choice = request.tool_choice
    if choice is None or choice.mode in ("auto", "none"):
        return None
    if request.format:
        return "a call that must be made cannot be joined with response_format"
    names = [tool.name for tool in request.tools]
    known = choice.name in names or (choice.mode == "required" and names)
    return None if known else "names no tool of the request"


def _bias(bias: Mapping[str, float]) -> str | None:
    within = number(-100, 100)
    if all(token.isdecimal() and within(value) is None for token, value in bias.items()):
        return None
    return "must map token ids to numbers from -100 to 100"


def _refuse(name: str, problem: str | None) -> None:
    if problem:
        raise RequestError(f"{name}: {problem}", param=name, code="invalid_value")
