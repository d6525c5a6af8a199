"""GET /openapi.json: written from the structs that decode really uses, so it cannot drift."""

from __future__ import annotations

from functools import cache
from importlib.metadata import version
from typing import Any

import msgspec

from bicameral.server import decode, schema
from bicameral.server.transcriptions import TranscriptionBody
from bicameral.server.videos.clip import BYTES, EXTENSIONS
from bicameral.server.videos.form import VideoBody
from bicameral.server.videos.job import STATES
from bicameral.server.watch import WatchBody
from bicameral.types import Reach

_REF = "#/components/schemas/{name}"


@cache
def document() -> bytes:
    """The OpenAPI 3.1 document as JSON."""
    bodies = (
        schema.ChatBody,
        schema.EmbeddingBody,
        schema.FeedbackBody,
        TranscriptionBody,
        VideoBody,
        WatchBody,
    )
    _, components = msgspec.json.schema_components(bodies, ref_template=_REF)
    form = components["TranscriptionBody"]
    form["properties"]["file"] = {"type": "string", "format": "binary"}
    form["required"].append("file")
    components["Error"] = _ERROR
    return msgspec.json.encode(
        {
            "openapi": "3.1.0",
            "info": {"title": "Bicameral", "version": version("bicameral")},
            "paths": _PATHS,
            "components": {
                "schemas": components,
                "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
            },
        }
    )


_ERROR = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "param", "code"],
            "properties": {
                "message": {"type": "string"},
                "type": {"type": "string"},
                "param": {"type": ["string", "null"]},
                "code": {"type": ["string", "integer", "null"]},
            },
        }
    },
}
_STREAM = {"text/event-stream": {"schema": {"type": "string"}}}


def _json(kind: dict[str, Any]) -> dict[str, Any]:
    return {"application/json": {"schema": kind}}


def _object(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "required": list(properties), "properties": properties}


def _errors(*statuses: int) -> dict[str, Any]:
    kind = _json({"$ref": _REF.format(name="Error")})
    return {str(status): {"description": "Refused", "content": kind} for status in statuses}


def _ok(content: dict[str, Any]) -> dict[str, Any]:
    return {"200": {"description": "The answer", "content": content}}


def _header(name: str, what: str, **kind: Any) -> dict[str, Any]:
    return {"name": name, "in": "header", "required": False, "description": what, "schema": kind}


def _post(body: str, answer: dict[str, Any], what: str, *headers: dict[str, Any]) -> dict[str, Any]:
    content = _json({"$ref": _REF.format(name=body)})
    repeats = _errors(409, 422) if _REPEAT in headers else {}
    return {
        "summary": what,
        "security": [{}, {"key": []}],
        "parameters": list(headers),
        "requestBody": {"required": True, "content": content},
        "responses": _ok(answer)
        | _errors(400, 401, 402, 403, 404, 413, 415, 429, 502, 503, 504)
        | repeats,
    }


def _form(body: str, answer: dict[str, Any], what: str, *headers: dict[str, Any]) -> dict[str, Any]:
    post = _post(body, answer, what, *headers)
    kind = {"$ref": _REF.format(name=body)}
    post["requestBody"]["content"] = {"multipart/form-data": {"schema": kind}}
    return post


def _video(answer: dict[str, Any], what: str) -> dict[str, Any]:
    """A body as JSON or as a form."""
    post = _post("VideoBody", answer, what, *_LIMITS, _REPEAT)
    kind = {"schema": {"$ref": _REF.format(name="VideoBody")}}
    post["requestBody"]["content"]["multipart/form-data"] = kind
    post["responses"] |= _errors(507)
    return post


def _get(answer: dict[str, Any], what: str, *errors: int, path: str = "") -> dict[str, Any]:
    kind = {"type": "string"}
    named = [{"name": path, "in": "path", "required": True, "schema": kind}] if path else []
    return {"summary": what, "parameters": named, "responses": _ok(answer) | _errors(*errors)}


_LIMITS = [
    _header(
        "x-bicameral-reach",
        "How far the request's data may travel.",
        enum=[reach.name.lower() for reach in Reach],
    ),
    _header(
        "x-bicameral-timeout",
        "Seconds for all of it, as a plain decimal.",
        type="number",
        exclusiveMinimum=0,
        maximum=decode.LONGEST,
    ),
    _header(
        "x-bicameral-budget",
        "Dollars it may cost, as a plain decimal of at most nine places.",
        type="number",
        minimum=0,
        maximum=999_999,
    ),
]
_REPEAT = _header(
    "Idempotency-Key",
    "Names this request: whoever repeats it within a day is given the same answer, to the byte, "
    "with the header idempotent-replayed: true, and pays once. While it is being answered a "
    "repeat is refused with 409 and Retry-After; with 409 too if its answer is not kept any more, "
    "with 422 if it is another request. After an error, or if the client hung up before the end, "
    "it runs anew and is charged anew.",
    pattern="^[ -~]{1,255}$",
    type="string",
)
_EXPLAIN = _header(
    "x-bicameral-explain",
    "1: the answer says who was asked, and why; so does the field bicameral.explain.",
    enum=["0", "1"],
)
_MODEL = _object(
    id={"type": "string"},
    object={"const": "model"},
    created={"type": "integer"},
    owned_by={"type": "string"},
    bicameral={"type": "object"},
)
_COMPLETION = _object(
    id={"type": "string"},
    object={"type": "string"},
    created={"type": "integer"},
    model={"type": "string"},
    choices={"type": "array"},
)
_VECTORS = _object(object={"const": "list"}, data={"type": "array"}, model={"type": "string"})
_LIST = _object(object={"const": "list"}, data={"type": "array", "items": _MODEL})
_JOB = _object(
    id={"type": "string"},
    object={"const": "video"},
    model={"type": "string"},
    status={"enum": list(STATES)},
    progress={"type": "integer", "minimum": 0, "maximum": 100},
    created_at={"type": "integer"},
    started_at={"type": ["integer", "null"]},
    completed_at={"type": ["integer", "null"]},
    expires_at={"type": ["integer", "null"]},
    seconds={"type": ["string", "null"]},
    size={"type": ["string", "null"]},
    error={"type": ["object", "null"]},
)
_JOBS = _object(
    object={"const": "list"},
    data={"type": "array", "items": _JOB},
    first_id={"type": ["string", "null"]},
    last_id={"type": ["string", "null"]},
    has_more={"type": "boolean"},
)
_PAGE = [
    {"name": "after", "in": "query", "required": False, "schema": {"type": "string"}},
    {
        "name": "limit",
        "in": "query",
        "required": False,
        "schema": {"type": "integer", "minimum": 1, "maximum": 100},
    },
    {"name": "order", "in": "query", "required": False, "schema": {"enum": ["asc", "desc"]}},
]
_CLIP = {kind: {"schema": {"type": "string", "format": "binary"}} for kind in (*EXTENSIONS, BYTES)}
_DELETED = _object(
    id={"type": "string"}, object={"const": "video.deleted"}, deleted={"const": True}
)
_LOOKED = (401, 403, 404, 503)
_STATE = _object(status={"type": "string"})
_SCORED = _object(object={"const": "feedback"}, id={"type": "string"}, score={"type": "number"})
_TEXT = {"text/plain": {"schema": {"type": "string"}}}

_PATHS: dict[str, Any] = {
    "/v1/chat/completions": {
        "post": _post(
            "ChatBody",
            _json(_COMPLETION) | _STREAM,
            "Answer a conversation.",
            *_LIMITS,
            _EXPLAIN,
            _REPEAT,
        )
    },
    "/v1/embeddings": {
        "post": _post("EmbeddingBody", _json(_VECTORS), "Texts to vectors.", *_LIMITS, _REPEAT)
    },
    "/v1/audio/transcriptions": {
        "post": _form(
            "TranscriptionBody",
            _json({"type": "object"}) | _TEXT | _STREAM,
            "What is said in a recording.",
            *_LIMITS,
            _REPEAT,
        )
    },
    "/v1/videos": {
        "post": _video(_json(_JOB), "Queue a video to be made."),
        "get": _get(_json(_JOBS), "The caller's videos.", 400, 401, 403, 404, 503)
        | {"parameters": _PAGE},
    },
    "/v1/videos/sync": {"post": _video(_CLIP, "Make a video, and answer with it.")},
    "/v1/videos/{video_id}": {
        "get": _get(_json(_JOB), "One video.", *_LOOKED, path="video_id"),
        "delete": _get(
            _json(_DELETED), "Cancel it if it runs, and forget it.", *_LOOKED, path="video_id"
        ),
    },
    "/v1/videos/{video_id}/content": {
        "get": _get(_CLIP, "The clip.", *_LOOKED, 400, 409, 410, path="video_id")
    },
    "/v1/videos/{video_id}/cancel": {
        "post": _get(_json(_JOB), "Stop making it.", *_LOOKED, 409, path="video_id")
    },
    "/v1/feedback": {"post": _post("FeedbackBody", _json(_SCORED), "Say how good an answer was.")},
    "/v1/watch": {"post": _post("WatchBody", _STREAM, "Watch a source.", *_LIMITS[:2])},
    "/v1/models": {"get": _get(_json(_LIST), "Every mind and member.", 401, 403)},
    "/v1/models/{name}": {
        "get": _get(_json(_MODEL), "One mind or member.", 401, 403, 404, path="name")
    },
    "/healthz": {"get": _get(_json(_STATE), "The process answers.", 403)},
    "/readyz": {"get": _get(_json(_STATE), "New requests are taken.", 403, 503)},
    "/metrics": {"get": _get(_TEXT, "Counters for Prometheus.", 401, 403)},
    "/openapi.json": {"get": _get(_json({"type": "object"}), "This document.", 403)},
}
