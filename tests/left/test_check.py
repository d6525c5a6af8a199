"""Checkers by schema and pattern: what passes, and hostile schemas, patterns and texts."""

from __future__ import annotations

import asyncio
import json

import pytest

from bicameral.errors import ConfigError
from bicameral.left.check import Pattern, Schema
from bicameral.types import Answer, JsonFormat, Request

PERSON = {"type": "object", "properties": {"age": {"type": "integer"}}, "required": ["age"]}
PLAIN = Request.ask("hello")


def check(checker, text: str, request: Request = PLAIN):
    return asyncio.run(checker.check(request, Answer(model="m", text=text)))


@pytest.mark.parametrize(
    ("text", "passes"),
    [
        ('{"age": 3}', True),
        ('{"age": 3.0}', True),
        ('{"age": "3"}', False),
        ("{}", False),
        ("age 3", False),
        ('```json\n{"age": 3}\n```', False),
        ('{"age": NaN}', False),
        ("", False),
        ("[" * 100_000, False),
        ('{"age":' * 50_000, False),
    ],
)
def test_json_of_the_operators_shape(text, passes):
    assert check(Schema(PERSON), text) is passes


def test_json_of_the_shape_that_the_request_asks_for():
    asked = PLAIN.but(format=JsonFormat(schema=PERSON))
    assert check(Schema(), '{"age": 3}', asked) is True
    assert check(Schema(), "[]", asked) is False
    any_object = PLAIN.but(format=JsonFormat())
    assert check(Schema(), "{}", any_object) is True
    assert check(Schema(), "[]", any_object) is False
    assert check(Schema(), "{}") is None


@pytest.mark.parametrize(
    "schema",
    [{"type": "nonsense"}, {"$ref": "http://127.0.0.1:9/x"}, {"pattern": "(?=a)b"}],
    ids=lambda schema: next(iter(schema)),
)
def test_a_schema_that_cannot_be_used(schema):
    with pytest.raises(ConfigError, match="cannot check answers"):
        Schema(schema)
    assert check(Schema(), "{}", PLAIN.but(format=JsonFormat(schema=schema))) is None


def test_a_pattern_is_searched_for():
    assert check(Pattern(r"^\d{3}-\d{4}$"), "555-1234") is True
    assert check(Pattern(r"\bPLAN\b"), "the PLAN is") is True
    assert check(Pattern(r"\bPLAN\b"), "the plan is") is False
    with pytest.raises(ConfigError):
        Pattern("(")
    with pytest.raises(ConfigError):
        Pattern(r"(a)\1")


def test_no_text_makes_a_pattern_or_a_schema_slow():
    long = "a" * 200_000 + "!"
    assert check(Pattern("^(a+)+$"), long) is False
    assert check(Schema({"pattern": "^(a|aa)+$"}), json.dumps(long)) is False
