"""Request bodies as OpenAI writes them: decode reads them, /openapi.json shows them.

Only what the package models has a field here. A top-level field that has none travels on in
Request.extra; null counts as absent everywhere.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

Name = Annotated[str, Meta(min_length=1, max_length=256)]
Penalty = Annotated[float, Meta(ge=-2, le=2)]
Tokens = Annotated[int, Meta(ge=1, le=2**24)]
StopText = Annotated[str, Meta(min_length=1, max_length=1024)]


class TextPart(Struct, frozen=True, tag="text"):
    """A piece of text."""

    text: str


class ImageUrl(Struct, frozen=True):
    """An http(s) or data: URL of a picture."""

    url: Annotated[str, Meta(min_length=1)]
    detail: Literal["auto", "low", "high"] | None = None


class ImagePart(Struct, frozen=True, tag="image_url"):
    """A picture."""

    image_url: ImageUrl


class InputAudio(Struct, frozen=True):
    """Encoded sound in base64; `format` is its container."""

    data: Annotated[str, Meta(min_length=1)]
    format: Annotated[str, Meta(pattern="^[a-z0-9]{1,8}$")]


class AudioPart(Struct, frozen=True, tag="input_audio"):
    """A sound."""

    input_audio: InputAudio


class VideoUrl(Struct, frozen=True):
    """An http(s) or data: URL of a clip."""

    url: Annotated[str, Meta(min_length=1)]


class VideoPart(Struct, frozen=True, tag="video_url"):
    """A clip."""

    video_url: VideoUrl


class RefusalPart(Struct, frozen=True, tag="refusal"):
    """What an assistant said when it declined."""

    refusal: str


UserParts = Annotated[list[TextPart | ImagePart | AudioPart | VideoPart], Meta(min_length=1)]


class System(Struct, frozen=True, tag_field="role", tag="system"):
    """Instructions."""

    content: str | list[TextPart]
    name: str | None = None


class Developer(Struct, frozen=True, tag_field="role", tag="developer"):
    """Instructions, as newer clients call them."""

    content: str | list[TextPart]
    name: str | None = None


class User(Struct, frozen=True, tag_field="role", tag="user"):
    """A turn of the user."""

    content: str | UserParts
    name: str | None = None


class Function(Struct, frozen=True):
    """What to call; `arguments` is JSON in a string."""

    name: Name
    arguments: str


class Call(Struct, frozen=True):
    """A call an assistant wants made."""

    id: Annotated[str, Meta(min_length=1)]
    function: Function
    type: Literal["function"] = "function"


class Assistant(Struct, frozen=True, tag_field="role", tag="assistant"):
    """A turn of the model."""

    content: str | list[TextPart | RefusalPart] | None = None
    name: str | None = None
    reasoning_content: str | None = None
    refusal: str | None = None
    tool_calls: list[Call] | None = None


class ToolTurn(Struct, frozen=True, tag_field="role", tag="tool"):
    """What the call named `tool_call_id` gave back; some clients repeat the tool's `name`."""

    content: str | list[TextPart]
    tool_call_id: str
    name: str | None = None


Turn = System | Developer | User | Assistant | ToolTurn


class ToolFunction(Struct, frozen=True):
    """A function the model may call; `parameters` is a JSON schema."""

    name: Name
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class FunctionTool(Struct, frozen=True):
    """A tool that is a function."""

    function: ToolFunction
    type: Literal["function"]


class ChosenFunction(Struct, frozen=True):
    """The function that must be called."""

    name: Name


class Choice(Struct, frozen=True):
    """Forces one function."""

    function: ChosenFunction
    type: Literal["function"]


class Schema(Struct, frozen=True):
    """The JSON schema the answer must meet."""

    name: Name
    schema: dict[str, Any] | None = None
    strict: bool | None = None
    description: str | None = None


class TextFormat(Struct, frozen=True, tag="text"):
    """Free text."""


class ObjectFormat(Struct, frozen=True, tag="json_object"):
    """Any JSON object."""


class SchemaFormat(Struct, frozen=True, tag="json_schema"):
    """JSON that meets a schema."""

    json_schema: Schema


class StreamOptions(Struct, frozen=True):
    """How to stream."""

    include_usage: bool | None = None


class Ours(Struct, frozen=True, forbid_unknown_fields=True):
    """What a body may ask of us and not of a model. `explain`: as the header of that name."""

    explain: bool | None = None


class ChatBody(Struct, frozen=True, kw_only=True):
    """The body of POST /v1/chat/completions."""

    model: str
    messages: Annotated[list[Turn], Meta(min_length=1)]
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: Tokens | None = None
    max_completion_tokens: Tokens | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    n: Annotated[int, Meta(ge=1, le=128)] | None = None
    seed: Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)] | None = None
    stop: StopText | Annotated[list[StopText], Meta(max_length=16)] | None = None
    frequency_penalty: Penalty | None = None
    presence_penalty: Penalty | None = None
    logit_bias: (
        Annotated[dict[str, Annotated[float, Meta(ge=-100, le=100)]], Meta(max_length=1024)] | None
    ) = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    tools: Annotated[list[FunctionTool], Meta(max_length=1024)] | None = None
    tool_choice: Literal["auto", "none", "required"] | Choice | None = None
    parallel_tool_calls: bool | None = None
    response_format: TextFormat | ObjectFormat | SchemaFormat | None = None
    bicameral: Ours | None = None


class EmbeddingBody(Struct, frozen=True, kw_only=True):
    """The body of POST /v1/embeddings; an input of token numbers is refused."""

    model: str
    input: (
        Annotated[str, Meta(min_length=1)]
        | Annotated[
            list[Annotated[str, Meta(min_length=1)]],
            Meta(min_length=1, max_length=2048),
        ]
    )
    encoding_format: Literal["float", "base64"] | None = None


class FeedbackBody(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of POST /v1/feedback: how good an answer was, 0 to 1, or whether it was.

    `id` is the answer's own id, or the x-request-id that it came with.
    """

    id: Annotated[str, Meta(min_length=1, max_length=256)]
    score: bool | Annotated[float, Meta(ge=0, le=1)]
