"""Tool calls where llama.cpp leaves them to the model's goodwill.

A call that must be made is enforced by a JSON schema, whatever the model was taught. And small
models often write a call that may be made as plain or fenced JSON instead of in their template's
own marks (Qwen2.5-Coder does): an answer that is nothing but such JSON is read as the call it is.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterable, Sequence
from typing import Any

from bicameral.types import Delta, Finish, Request, Text, Tool, ToolCall

_OPENINGS = ("{", "```json", "```\n{")
_FENCE = "```"


def must_call(request: Request) -> tuple[Tool, ...]:
    """The tools of which one has to be called; empty if the model may also just answer."""
    choice = request.tool_choice
    if choice is None or choice.mode in ("auto", "none"):
        return ()
    if choice.mode == "required":
        return request.tools
    return tuple(tool for tool in request.tools if tool.name == choice.name)


def call_schema(tools: Sequence[Tool]) -> dict[str, Any]:
    """The JSON schema of one call of one of `tools`."""
    calls = [_schema(tool) for tool in tools]
    return calls[0] if len(calls) == 1 else {"anyOf": calls}


def _schema(tool: Tool) -> dict[str, Any]:
    arguments = tool.parameters or {"type": "object"}
    return {
        "type": "object",
        "properties": {"name": {"const": tool.name}, "arguments": arguments},
        "required": ["name", "arguments"],
    }


class Calls:
    """Holds text back as long as it may turn out to be a call of one of `tools`."""

    def __init__(self, tools: Iterable[Tool]) -> None:
        self._names = {tool.name for tool in tools}
        self._held: list[Delta] = []
        self._text = ""
        self._holding = bool(self._names)

    def feed(self, delta: Delta) -> list[Delta]:
        """What may be said now."""
        if not self._holding or not isinstance(delta.part, Text):
            return [delta]
        self._held.append(delta)
        self._text += delta.part.text
        start = self._text.lstrip()[: len(_OPENINGS[1])]
        if any(start.startswith(o) or o.startswith(start) for o in _OPENINGS):
            return []
        return self._release()

    def end(self, reason: Finish) -> tuple[list[Delta], Finish]:
        """What is left to say, and how the answer ended."""
        call = self._call() if self._holding and self._held else None
        if call is None:
            return self._release(), reason
        return [Delta(call, by=self._held[0].by)], "tool_calls"

    def _release(self) -> list[Delta]:
        self._holding = False
        held, self._held = self._held, []
        return held

    def _call(self) -> ToolCall | None:
        try:
            said = json.loads(_unfenced(self._text))
        except (ValueError, RecursionError):
            return None
        if not isinstance(said, dict) or said.get("name") not in self._names:
            return None
        arguments = said.get("arguments", said.get("parameters"))
        if not isinstance(arguments, dict):
            return None
        written = json.dumps(arguments, ensure_ascii=False)
        return ToolCall(id=f"call_{secrets.token_hex(8)}", name=said["name"], arguments=written)


def _unfenced(text: str) -> str:
    text = text.strip()
    if text.startswith(_FENCE) and text.endswith(_FENCE):
        return text[len(_FENCE) : -len(_FENCE)].removeprefix("json")
    return text
