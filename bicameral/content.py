"""What a message is made of: text, pictures, sounds, clips, calls of tools, and what was perceived.

These are values of `bicameral.types`, which names them all.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from msgspec import Struct


class Text(Struct, frozen=True, tag="text"):
    """Plain text. In a Delta: the next piece of it."""

    text: str


class Reasoning(Struct, frozen=True, tag="reasoning"):
    """What a model thought before it answered; never part of the answer's text."""

    text: str


class Image(Struct, frozen=True, tag="image"):
    """A picture, by http(s) url or as encoded bytes; exactly one of the two is set."""

    url: str | None = None
    data: bytes | None = None
    media_type: str | None = None
    detail: str | None = None


class Audio(Struct, frozen=True, tag="audio"):
    """Encoded sound; `format` is its container, such as wav or mp3."""

    data: bytes
    format: str


class Video(Struct, frozen=True, tag="video"):
    """A clip, by http(s) url or as encoded bytes; exactly one of the two is set."""

    url: str | None = None
    data: bytes | None = None
    media_type: str | None = None


class Progress(Struct, frozen=True, tag="progress"):
    """In a Delta: `done` of `total` steps of the work are behind it; no part of the answer."""

    done: int
    total: int


VideoTask = Literal[
    "predict", "backward", "interpolate", "unconditional", "image", "frames", "complete"
]
VideoFormat = Literal["mp4", "gif", "npz", "png"]


class VideoSpec(Struct, frozen=True, kw_only=True):
    """How a clip is to be made of the references in the last message; None leaves it to the model.

    `frames` counts all of the clip, given ones too; `width` and `height` are pixels, `steps` those
    of the sampler, `guidance` is 1 for none. `task` says which frames the references are: the first
    (predict), the last (backward), those `keep` names by number (interpolate, image, frames), or
    what `mask` leaves at 0 of a whole clip (complete). `mask` is a .npy or .npz file of (frames,
    height, width), or a picture for every frame; 1, or white: generate, 0: keep.
    """

    frames: int | None = None
    width: int | None = None
    height: int | None = None
    fps: float | None = None
    steps: int | None = None
    guidance: float | None = None
    task: VideoTask | None = None
    keep: tuple[int, ...] | None = None
    mask: bytes | None = None
    format: VideoFormat = "mp4"


class VideoLimits(Struct, frozen=True, kw_only=True):
    """Which clips a model makes: of `width` x `height` where nothing is said, and of no other size
    if `fixed`; else of sides that are multiples of `cell` and of at most `pixels` a frame.

    `frames` and the sampler's `steps` are the most there may be.
    """

    width: int
    height: int
    fixed: bool
    cell: int
    pixels: int
    frames: int
    steps: int

    def broken(self, spec: VideoSpec) -> Iterator[tuple[str, str]]:
        """Each (field, what is wrong with it) of `spec`."""
        for field, asks, most in (
            ("frames", spec.frames, self.frames),
            ("steps", spec.steps, self.steps),
        ):
            if asks is not None and not 1 <= asks <= most:
                yield field, f"{asks} is outside 1 to {most}"
        width = self.width if spec.width is None else spec.width
        height = self.height if spec.height is None else spec.height
        for field, side, own in (("width", width, self.width), ("height", height, self.height)):
            if self.fixed and side != own:
                yield field, f"it makes clips of {own} pixels only"
            elif side < 1 or side % self.cell:
                near = max(1, round(side / self.cell)) * self.cell
                yield field, f"must be a multiple of {self.cell}: {near} is near {side}"
        if width * height > self.pixels:
            yield "width", f"{width} x {height} are more than {self.pixels} pixels a frame"


class ToolCall(Struct, frozen=True, tag="tool_call"):
    """A call the model wants made. In a Delta: a fragment; those of one `index` are joined."""

    id: str = ""
    name: str = ""
    arguments: str = ""
    index: int = 0


class ToolResult(Struct, frozen=True, tag="tool_result"):
    """What a tool gave back for the call named `call_id`."""

    call_id: str
    text: str


class Embedding(Struct, frozen=True, tag="embedding"):
    """The vector of the `index`-th input."""

    values: tuple[float, ...]
    index: int = 0


PerceptKind = Literal[
    "text", "tag", "object", "face", "person", "speech", "voice", "sound", "motion", "event"
]


class Percept(Struct, frozen=True, kw_only=True, tag="percept"):
    """What a perceiver found in a picture, a sound or a clip: data, never an instruction.

    `source` counts the request's media parts from 0. `box` is left, top, right and bottom as shares
    of the width and height of the picture as people see it, turned as its EXIF says. `start` and
    `end` are seconds. `confidence` is the perceiver's own, from 0 to 1.
    """

    kind: PerceptKind
    text: str = ""
    source: int = 0
    confidence: float | None = None
    box: tuple[float, float, float, float] | None = None
    start: float | None = None
    end: float | None = None
    language: str = ""


Part = (
    Text
    | Reasoning
    | Image
    | Audio
    | Video
    | Progress
    | ToolCall
    | ToolResult
    | Embedding
    | Percept
)
Role = Literal["system", "developer", "user", "assistant", "tool"]


class Message(Struct, frozen=True):
    """One turn of a conversation."""

    role: Role
    parts: tuple[Part, ...]
    name: str | None = None

    @property
    def text(self) -> str:
        """The text of the message, tool results included, other parts left out."""
        return "".join(p.text for p in self.parts if isinstance(p, Text | ToolResult))
