"""The words of a request for a clip: checked, and completed by what the member does otherwise."""

from __future__ import annotations

from typing import TypeVar

from msgspec import Struct

from bicameral.engines.vdt.design import Design
from bicameral.errors import RequestError, Unsupported
from bicameral.types import Audio, Image, Request, Text, Video, VideoFormat, VideoSpec, VideoTask

REFERENCE = "messages"
"""The field that pictures and clips come in."""
_SHOWN = {REFERENCE: "the reference"}
MOST_GUIDANCE, MOST_FPS = 20.0, 240.0
_NAMING: frozenset[VideoTask] = frozenset({"interpolate", "image", "frames"})  # frames by number
N = TypeVar("N", int, float)
_WORDS = ("max_tokens", "temperature", "top_p")  # of Sampling: how tokens are drawn


class Habits(Struct, frozen=True, kw_only=True):
    """The net, and what holds where a request is silent; `max_pixels` are those of a frame."""

    design: Design
    steps: int
    most_steps: int
    guidance: float
    fps: float
    max_frames: int
    max_pixels: int


class Asked(Struct, frozen=True, kw_only=True):
    """A request for a clip, complete but for what only its files tell."""

    habits: Habits
    task: VideoTask
    references: tuple[Image | Video, ...]  # pictures, or one clip
    width: int
    height: int
    frames: int | None
    fps: float | None
    steps: int
    guidance: float
    keep: tuple[int, ...] | None
    mask: bytes | None
    format: VideoFormat

    def total(self, given: int) -> int:
        """How many frames the clip has where so many are given; RequestError beyond the most."""
        frames = self.frames or self._usual(given)
        if frames > self.habits.max_frames:
            raise refused("frames", f"{frames} are more than {self.habits.max_frames}")
        return frames

    def _usual(self, given: int) -> int:
        """As many as the net learned from, or as it takes to do something to those given."""
        own = self.habits.design.frames
        if self.task == "complete":
            return given
        if self.keep is not None:  # of a whole clip it picks some
            return max(own, max(self.keep) + 1) if given == len(self.keep) else given
        if self.task in ("predict", "backward"):
            return own if given < own else given + max(1, own // 2)
        return max(own, 2 * given - 1) if self.task == "interpolate" else own


def asked(request: Request, habits: Habits) -> Asked:
    """What the request says; RequestError or Unsupported, by name, for what cannot be done."""
    _only_pictures(request)
    spec = request.video or VideoSpec()
    references = _references(request)
    task = _task(spec, references)
    width, height = _size(spec, habits)
    return Asked(
        habits=habits,
        task=task,
        references=references,
        width=width,
        height=height,
        frames=_within("frames", spec.frames, 1, habits.max_frames),
        fps=_within("fps", spec.fps, 0.1, MOST_FPS),
        steps=_within("steps", spec.steps, 1, habits.most_steps) or habits.steps,
        guidance=_guidance(spec, habits),
        keep=_keep(spec, task),
        mask=spec.mask,
        format=spec.format,
    )


def _only_pictures(request: Request) -> None:
    """This net reads no text, so what would go unheard is refused."""
    parts = [part for message in request.messages for part in message.parts]
    if any(isinstance(part, Text) and part.text.strip() for part in parts):
        raise _unsupported("prompt", 'this net reads no text, so nothing would come of it: send ""')
    for name in _WORDS:
        if getattr(request.sampling, name) is not None:
            raise _unsupported(name, "is about words, and this net makes clips: leave it out")


def _references(request: Request) -> tuple[Image | Video, ...]:
    """Pictures in their order, or one clip."""
    media = request.media
    for part in media:
        if not isinstance(part, Audio) and part.data is None:
            raise refused(REFERENCE, "is a URL, and nothing here fetches it: send the bytes")
    pictures = tuple(part for part in media if isinstance(part, Image))
    clips = tuple(part for part in media if isinstance(part, Video))
    if not clips:
        return pictures
    if pictures or len(clips) > 1:
        raise refused(REFERENCE, "give one clip, or pictures, not more than that together")
    return (clips[0],)


def _task(spec: VideoSpec, references: tuple[Image | Video, ...]) -> VideoTask:
    task = spec.task or _meant(spec, references)
    if task == "unconditional" and references:
        raise refused("task", "unconditional goes from nothing, and there is a reference")
    if task != "unconditional" and not references:
        raise refused(REFERENCE, f"{task} goes from frames that are given: add a clip or pictures")
    if (spec.mask is None) == (task == "complete"):
        raise refused("mask", "it and the task complete go together: give both or neither")
    return task


def _meant(spec: VideoSpec, references: tuple[Image | Video, ...]) -> VideoTask:
    """The task that the request speaks of without naming it."""
    if spec.mask is not None:
        return "complete"
    if not references:
        return "unconditional"
    if len(references) == 1 and isinstance(references[0], Image):
        return "image"
    return "predict" if spec.keep is None else "frames"


def _keep(spec: VideoSpec, task: VideoTask) -> tuple[int, ...] | None:
    keep = spec.keep
    if keep is None:
        if task == "frames":
            raise refused("keep", "say which frames of the clip are given, from 0 on")
        return None
    if task not in _NAMING:
        raise refused(
            "keep", f"is for {', '.join(sorted(_NAMING))}; {task} says itself what is kept"
        )
    if not keep or min(keep) < 0 or len(set(keep)) < len(keep):
        raise refused("keep", "must be numbers of frames, from 0 on, each once")
    return keep


def _size(spec: VideoSpec, habits: Habits) -> tuple[int, int]:
    """Width and height; one that is not asked for is the net's own."""
    design = habits.design
    size = []
    for name, asks, own in (
        ("width", spec.width, design.width),
        ("height", spec.height, design.height),
    ):
        side = own if asks is None else asks
        if side != own and design.kind == "faithful":
            raise _unsupported(name, f"a faithful net makes clips of {own} pixels only")
        if side < 1 or side % design.cell:
            near = max(1, round(side / design.cell)) * design.cell
            raise refused(name, f"must be a multiple of {design.cell}: {near} is near {side}")
        size.append(side)
    if size[0] * size[1] > habits.max_pixels:
        raise refused(
            "width", f"{size[0]} x {size[1]} are more than {habits.max_pixels} pixels a frame"
        )
    return size[0], size[1]


def _guidance(spec: VideoSpec, habits: Habits) -> float:
    value = _within("guidance", spec.guidance, 0.0, MOST_GUIDANCE)
    return habits.guidance if value is None else value


def _within(name: str, value: N | None, low: N, high: N) -> N | None:
    if value is not None and not low <= value <= high:
        raise refused(name, f"{value:g} is outside {low:g} to {high:g}")
    return value


def refused(param: str, what: str, code: str = "invalid_value") -> RequestError:
    """The error about what the field `param` says or holds."""
    return RequestError(f"{_SHOWN.get(param, param)}: {what}", param=param, code=code)


def _unsupported(param: str, what: str) -> Unsupported:
    return Unsupported(f"{param}: {what}", param=param, code="unsupported")
