"""The frozen values that travel: requests, events, answers, cards.

Nothing here does input or output. Money is integer nano-dollars, time is seconds, and what is
unknown is None, never 0.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from enum import IntEnum, StrEnum
from typing import Any, Literal, Self

from msgspec import Struct
from msgspec.structs import replace

from bicameral.content import Audio as Audio
from bicameral.content import Embedding as Embedding
from bicameral.content import Image as Image
from bicameral.content import Message as Message
from bicameral.content import Part as Part
from bicameral.content import Percept as Percept
from bicameral.content import PerceptKind as PerceptKind
from bicameral.content import Progress as Progress
from bicameral.content import Reasoning as Reasoning
from bicameral.content import Role as Role
from bicameral.content import Text as Text
from bicameral.content import ToolCall as ToolCall
from bicameral.content import ToolResult as ToolResult
from bicameral.content import Video as Video
from bicameral.content import VideoFormat as VideoFormat
from bicameral.content import VideoLimits as VideoLimits
from bicameral.content import VideoSpec as VideoSpec
from bicameral.content import VideoTask as VideoTask
from bicameral.decision import Decision
from bicameral.usage import NO_USAGE as NO_USAGE
from bicameral.usage import Call as Call
from bicameral.usage import Price as Price
from bicameral.usage import Rates as Rates
from bicameral.usage import Usage as Usage
from bicameral.usage import spent_at_most as spent_at_most
from bicameral.usage import total_cost as total_cost


class Modality(StrEnum):
    """A kind of content that a model takes in or gives out."""

    TEXT = "text"
    IMAGE = "image"
    AUDIO = "audio"
    VIDEO = "video"
    EMBEDDING = "embedding"
    PERCEPT = "percept"


class Reach(IntEnum):
    """How far data travels. A request's reach is a ceiling, a card's reach is a fact."""

    DEVICE = 0
    SITE = 1
    PRIVATE = 2
    PUBLIC = 3


class Feature(StrEnum):
    """What a request may ask for beyond plain text; a card lists those its model honours."""

    TOOLS = "tools"
    JSON_OBJECT = "json_object"
    JSON_SCHEMA = "json_schema"
    LOGPROBS = "logprobs"
    SEED = "seed"
    STOP = "stop"
    PENALTIES = "penalties"
    LOGIT_BIAS = "logit_bias"
    MANY = "n"


# --- requests ----------------------------------------------------------------------------------


class Tool(Struct, frozen=True):
    """A function the model may call; `parameters` is a JSON schema."""

    name: str
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class ToolChoice(Struct, frozen=True):
    """`mode` auto, none or required; `function` is set with `name`."""

    mode: Literal["auto", "none", "required", "function"]
    name: str | None = None


class JsonFormat(Struct, frozen=True):
    """The answer must be JSON: any object, or what `schema` admits."""

    schema: dict[str, Any] | None = None
    name: str = "answer"
    strict: bool | None = None
    description: str | None = None


class Sampling(Struct, frozen=True, kw_only=True):
    """How tokens are drawn; None leaves it to the model."""

    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    seed: int | None = None
    stop: tuple[str, ...] = ()
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    logit_bias: Mapping[str, float] | None = None
    logprobs: bool = False
    top_logprobs: int | None = None


class Wire(Struct, frozen=True):
    """The OpenAI body a request came in, so that one remote member can get it untouched."""

    body: bytes
    stream: bool
    include_usage: bool


class Request(Struct, frozen=True, kw_only=True):
    """A question to a model. `deadline` is a time.monotonic() reading, `budget` nano-dollars.

    `extra` holds provider fields we do not model, as decoded JSON: a card says which it takes. One
    inside another field is named by its path, such as messages[].content[].x. `id` is the caller's
    own name for it, `booking` ours, which no two share: every call made for it is booked there.
    `video` says how the clip is to be made that `output` asks for.
    """

    messages: tuple[Message, ...]
    output: Modality = Modality.TEXT
    sampling: Sampling = Sampling()
    tools: tuple[Tool, ...] = ()
    tool_choice: ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    format: JsonFormat | None = None
    video: VideoSpec | None = None
    n: int = 1
    reach: Reach = Reach.PUBLIC
    deadline: float | None = None
    budget: int | None = None
    extra: Mapping[str, Any] = {}
    wire: Wire | None = None
    id: str = ""
    booking: str = ""

    @classmethod
    def ask(cls, text: str, **fields: Any) -> Self:
        """A request of one user message; `fields` are Request's own."""
        return cls(messages=(Message("user", (Text(text),)),), **fields)

    def but(self, **fields: Any) -> Self:
        """This request with `fields` changed; a changed request is no longer what came by wire."""
        return replace(self, **{"wire": None, **fields})

    def within(self, *, reach: Reach | None = None, budget: int | None = None) -> Self:
        """This request under a tighter ceiling; the body that came by wire stays true to it."""
        reach = self.reach if reach is None else min(reach, self.reach)
        budget = self.budget if budget is None else budget
        if reach == self.reach and budget == self.budget:
            return self
        return replace(self, reach=reach, budget=budget)

    @property
    def media(self) -> tuple[Image | Audio | Video, ...]:
        """Every picture, sound and clip of the conversation, in order: what percepts count by."""
        parts = (part for message in self.messages for part in message.parts)
        return tuple(part for part in parts if isinstance(part, Image | Audio | Video))

    def remaining(self) -> float | None:
        """Seconds until the deadline, at least 0; None if there is none."""
        return None if self.deadline is None else max(0.0, self.deadline - time.monotonic())

    @property
    def question(self) -> str:
        """The text of the last user message."""
        users = (m.text for m in reversed(self.messages) if m.role == "user")
        return next(users, "")


# --- events and answers ------------------------------------------------------------------------


class TokenLogprob(Struct, frozen=True):
    """A drawn token, its natural-log probability, and its rivals as (token, logprob)."""

    token: str
    logprob: float
    top: tuple[tuple[str, float], ...] = ()


class Delta(Struct, frozen=True):
    """The next piece of the answer; `by` names the leaf model that spoke."""

    part: Part
    by: str = ""
    logprobs: tuple[TokenLogprob, ...] = ()


class Relay(Struct, frozen=True):
    """Bytes of the answer as the upstream sent them; only for a request that carries a wire.

    Streamed: whole server-sent events without the closing [DONE]. Else: the whole JSON body.
    `headers` are the upstream's worth passing on, set on the first Relay.
    """

    data: bytes
    by: str = ""
    headers: tuple[tuple[str, str], ...] = ()


Finish = Literal["stop", "length", "tool_calls", "content_filter"]


class Done(Struct, frozen=True, kw_only=True):
    """The end of a good answer. `calls` lists every leaf call behind it, hidden ones too.

    `served` is the model the upstream says it ran. A Mind's `why` tells how it decided, in words,
    and `decisions` for machines: its own, then those of minds inside it.
    """

    usage: Usage = Usage()
    reason: Finish = "stop"
    by: str = ""
    served: str | None = None
    calls: tuple[Call, ...] = ()
    why: str = ""
    decisions: tuple[Decision, ...] = ()


Event = Delta | Relay | Done


class Answer(Struct, frozen=True, kw_only=True):
    """A stream folded into one value; `error` is set when the stream broke, and says how."""

    model: str
    text: str = ""
    reasoning: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    embeddings: tuple[Embedding, ...] = ()
    percepts: tuple[Percept, ...] = ()
    videos: tuple[Video, ...] = ()
    logprobs: tuple[TokenLogprob, ...] = ()
    usage: Usage = Usage()
    reason: Finish | None = None
    by: str = ""
    calls: tuple[Call, ...] = ()
    why: str = ""
    decisions: tuple[Decision, ...] = ()
    seconds: float = 0.0
    error: Exception | None = None

    @property
    def cost(self) -> int | None:
        """Nano-dollars of every call behind this answer; None if any of them is unknown."""
        return total_cost(self.calls)


# --- cards -------------------------------------------------------------------------------------


class Card(Struct, frozen=True, kw_only=True):
    """What a model is: what it takes, gives and honours, whose it is, where its data goes.

    `context` counts prompt and answer tokens together. `extra` names the provider fields it takes;
    None: all, untouched. `clips` None: which clips it makes is not known beforehand. `members` are
    the names of a mind's members.
    """

    name: str
    engine: str
    accepts: frozenset[Modality] = frozenset({Modality.TEXT})
    emits: frozenset[Modality] = frozenset({Modality.TEXT})
    features: frozenset[Feature] = frozenset()
    extra: frozenset[str] | None = frozenset()
    context: int | None = None
    reach: Reach = Reach.PUBLIC
    owner: str = ""
    price: Price | None = None
    chip: str = ""
    watts: float | None = None
    serves: str = ""
    clips: VideoLimits | None = None
    members: tuple[str, ...] = ()
