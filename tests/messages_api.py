"""Answers of a fake Anthropic Messages API, for tests/upstream.py to give."""

from __future__ import annotations

import json
from typing import Any

from tests.upstream import Reply, reply, stream


def start(**usage: int | None) -> dict[str, Any]:
    message = {
        "id": "m1",
        "type": "message",
        "role": "assistant",
        "model": "claude-1",
        "content": [],
    }
    return {"type": "message_start", "message": {**message, "usage": usage}}


def begin(index: int, **block: Any) -> dict[str, Any]:
    return {"type": "content_block_start", "index": index, "content_block": block}


def delta(index: int, **piece: Any) -> dict[str, Any]:
    return {"type": "content_block_delta", "index": index, "delta": piece}


def end(reason: str = "end_turn", **usage: int) -> list[dict[str, Any]]:
    stopped = {"stop_reason": reason, "stop_sequence": None}
    return [
        {"type": "message_delta", "delta": stopped, "usage": usage},
        {"type": "message_stop"},
    ]


def message(*events: dict[str, Any], **fields: Any) -> Reply:
    """A stream as the API frames it: each event named, pings between, no [DONE]."""
    framed = [f"event: {e['type']}\ndata: {json.dumps(e)}\n\n".encode() for e in events]
    ping = b'event: ping\ndata: {"type": "ping"}\n\n'
    return stream(framed[0], ping, *framed[1:], done=False, **fields)


def words(*pieces: str, reason: str = "end_turn", index: int = 0) -> list[dict[str, Any]]:
    block = {"type": "content_block_stop", "index": index}
    said = [delta(index, type="text_delta", text=p) for p in pieces]
    return [begin(index, type="text", text=""), *said, block, *end(reason, output_tokens=4)]


def refused(status: int, kind: str, text: str = "no", **headers: str) -> Reply:
    body = {"type": "error", "error": {"type": kind, "message": text}, "request_id": "req_1"}
    return reply(json.dumps(body).encode(), status=status, **headers)
