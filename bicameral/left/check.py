"""Checkers: whether an answer passes, told by a JSON schema or a pattern.

Output-side evidence: a policy sees it as `Asked.checked`. Schemas are read offline, and both take
time in proportion to the text, whatever the schema, the pattern and the text are.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import ModuleType
from typing import Any, Protocol

from bicameral.errors import ConfigError
from bicameral.left import values
from bicameral.types import Answer, Request


class Checker(Protocol):
    """Tells whether an answer passes."""

    async def check(self, request: Request, answer: Answer) -> bool | None:
        """None: it cannot tell."""
        ...


class Schema:
    """Passes JSON that a schema admits: `schema`, or by default the one the request asks for.

    The text has to be JSON and nothing else. A request for any JSON passes an object; one that
    asks for no JSON, or with a schema that is none, cannot be told.
    """

    def __init__(self, schema: Mapping[str, Any] | None = None) -> None:
        self._rules = _library()
        self._own = None if schema is None else _validator(self._rules, schema)

    async def check(self, request: Request, answer: Answer) -> bool | None:
        """Whether the text is JSON of that shape."""
        if self._own is None and request.format is None:
            return None
        wanted = self._own
        try:
            value = values.parsed(answer.text)
            if wanted is None and request.format and request.format.schema is not None:
                wanted = _validator(self._rules, request.format.schema)
            return isinstance(value, dict) if wanted is None else bool(wanted.is_valid(value))
        except ConfigError:
            return None
        except ValueError:
            return False


class Pattern:
    """Passes a text in which a regular expression is found; one without look-around."""

    def __init__(self, pattern: str) -> None:
        self._found = _validator(_library(), {"type": "string", "pattern": pattern})

    async def check(self, request: Request, answer: Answer) -> bool | None:
        """Whether the pattern is in the text."""
        return bool(self._found.is_valid(answer.text))


def _library() -> ModuleType:
    try:
        import jsonschema_rs
    except ImportError as error:
        raise ConfigError(
            "checking answers needs jsonschema-rs: pip install 'bicameral[check]'"
        ) from error
    return jsonschema_rs


def _validator(rules: ModuleType, schema: Mapping[str, Any]) -> Any:
    linear = rules.RegexOptions()
    try:
        return rules.validator_for(dict(schema), pattern_options=linear, offline=True)
    except (ValueError, rules.ReferencingError) as error:
        raise ConfigError(f"cannot check answers: {error}") from error
