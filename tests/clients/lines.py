"""A call comes in on stdin as one line of JSON, its outcome goes out on stdout as another."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any

import openai

Call = dict[str, Any]
Outcome = dict[str, Any]


def serve(*deeds: Callable[[Call], Outcome]) -> None:
    """Answer calls until stdin ends; only the client's own errors are outcomes."""
    known = {deed.__name__: deed for deed in deeds}
    for line in sys.stdin:
        call = json.loads(line)
        try:
            said = known[call["do"]](call)
        except openai.OpenAIError as error:
            said = {"error": failure(error)}
        sys.stdout.write(json.dumps(said) + "\n")
        sys.stdout.flush()


def failure(error: openai.OpenAIError) -> Outcome:
    """What a caller can read off the error."""
    known = {name: getattr(error, name, None) for name in ("status_code", "code", "param", "type")}
    return {
        "class": type(error).__name__,
        "status": known.pop("status_code"),
        "message": str(error),
        **known,
    }
