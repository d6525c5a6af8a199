"""The words of a request for a clip: checked, and completed by what the member does otherwise."""

from __future__ import annotations

from msgspec import Struct

from bicameral.engines.vdt.design import Design
from bicameral.errors import RequestError, Unsupported
from bicameral.types import (
    Audio,
    Image,
    Request,
    Video,
    VideoFormat,
    VideoLimits,
    VideoSpec,
    VideoTask,
)

REFERENCE = "messages"
"""The field that pictures and clips come in."""
_SHOWN = {REFERENCE: "the reference"}
MOST_GUIDANCE, MOST_FPS = 20.0, 240.0
_NAMING: frozenset[VideoTask] = frozenset({"interpolate", "image", "frames"})  # frames by number
_WORDS = ("max_tokens", "temperature", "top_p")  # of Sampling: how tokens are drawn


class Habits(Struct, frozen=True, kw_only=True):
    """The net, what its card allows, and what holds where a request is silent."""

    design: Design
    limits: VideoLimits
    steps: int
    guidance: float
    fps: float


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
        frames, most = self.frames or self._usual(given), self.habits.limits.frames
        if frames > most:
            raise refused("frames", f"{frames} are more than {most}")
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
    """What a request that was admitted says; RequestError, by name, for what cannot be done."""
    _no_words(request)
    spec = request.video or VideoSpec()
    references = _references(request)
    task = _task(spec, references)
    return Asked(
        habits=habits,
        task=task,
        references=references,
        width=spec.width or habits.design.width,
        height=spec.height or habits.design.height,
        frames=spec.frames,
        fps=_within("fps", spec.fps, 0.1, MOST_FPS),
        steps=spec.steps or habits.steps,
        guidance=_guidance(spec, habits),
        keep=_keep(spec, task),
        mask=spec.mask,
        format=spec.format,
    )


def _no_words(request: Request) -> None:
    for name in _WORDS:
        if getattr(request.sampling, name) is not None:
            what = f"{name}: is about words, and this net makes clips: leave it out"
            raise Unsupported(what, param=name, code="unsupported")


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


def _guidance(spec: VideoSpec, habits: Habits) -> float:
    value = _within("guidance", spec.guidance, 0.0, MOST_GUIDANCE)
    return habits.guidance if value is None else value


def _within(name: str, value: float | None, low: float, high: float) -> float | None:
    if value is not None and not low <= value <= high:
        raise refused(name, f"{value:g} is outside {low:g} to {high:g}")
    return value


def refused(param: str, what: str, code: str = "invalid_value") -> RequestError:
    """The error about what the field `param` says or holds."""
    return RequestError(f"{_SHOWN.get(param, param)}: {what}", param=param, code=code)
