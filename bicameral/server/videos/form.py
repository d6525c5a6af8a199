"""The body of POST /v1/videos, as a form or as JSON, to a request for one clip.

The names are vLLM-Omni's, the shape OpenAI's. What contradicts itself is refused by name.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, NoReturn

import msgspec
from msgspec import Meta, Struct

from bicameral.config import ServerOptions
from bicameral.content import VideoFormat, VideoTask
from bicameral.errors import RequestError, Unsupported
from bicameral.server import decode, multipart
from bicameral.server.multipart import Field
from bicameral.server.videos import mask, reference
from bicameral.types import (
    Image,
    Message,
    Modality,
    Request,
    Sampling,
    Text,
    Video,
    VideoSpec,
)

FPS = 8.0  # where a length is given in seconds, and nothing says how many frames those are
LONGEST = 3600.0
_FILES = ("input_reference", "source_video", "video_noise_mask")
_SIZE = re.compile(r"([1-9]\d{0,4})x([1-9]\d{0,4})")
_BRACKETS = re.compile(r"(\w{1,64})\[(\w{1,64})\](\[\])?")
_NAMED: dict[VideoTask, str] = {
    "unconditional": "goes without a reference",
    "image": "needs a picture as input_reference",
    "complete": "needs source_video and video_noise_mask",
}


class Reference(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """OpenAI's way to name a picture in JSON; `image_url` is a data: URL."""

    image_url: str


class ExtraParams(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What of a reference clip is given: `keep_frames` numbers its frames in the clip to make."""

    task: VideoTask | None = None
    keep_frames: Annotated[list[Annotated[int, Meta(ge=0, lt=100_000)]], Meta(max_length=4096)] = []


class VideoBody(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """POST /v1/videos. In a form the three media are files, in JSON base64 or data: URLs.

    Without a `model` the first that makes videos is asked. `input_reference` is a picture, the
    frame `frame_index` of the clip, or a clip to go on from. Of `source_video` is made anew what
    `video_noise_mask` has at 1: a .npy or .npz file of (frames, height, width), or a picture for
    every frame. `num_frames` counts given frames too; `seconds` times `fps` says the same, at 8 a
    second without either.
    """

    prompt: Annotated[str, Meta(max_length=32_768)]
    model: Annotated[str, Meta(max_length=256)] = ""
    input_reference: str | Reference | None = None
    frame_index: Annotated[int, Meta(ge=0, lt=100_000)] | None = None
    source_video: str | None = None
    video_noise_mask: str | None = None
    num_frames: Annotated[int, Meta(ge=1, le=100_000)] | None = None
    seconds: (
        Annotated[float, Meta(gt=0, le=LONGEST)]
        | Annotated[str, Meta(pattern=r"^[0-9]{1,4}(\.[0-9]{1,3})?$")]
        | None
    ) = None
    fps: Annotated[float, Meta(gt=0, le=240)] | None = None
    size: Annotated[str, Meta(pattern=f"^{_SIZE.pattern}$")] | None = None
    seed: Annotated[int, Meta(ge=0, le=2**63 - 1)] | None = None
    num_inference_steps: Annotated[int, Meta(ge=1, le=200)] | None = None
    guidance_scale: Annotated[float, Meta(ge=0, le=20)] | None = None
    extra_params: ExtraParams = ExtraParams()
    output_format: VideoFormat = "mp4"


class Asked(Struct, frozen=True):
    """A body that has been checked: the model asked for, "" for any, and the request."""

    model: str
    request: Request

    @property
    def spec(self) -> VideoSpec:
        """How the clip is to be made."""
        return self.request.video or VideoSpec()


def read(body: bytes, content_type: bytes, options: ServerOptions) -> Asked:
    """The request in `body`; RequestError names the field that is wrong. It may take a while."""
    if content_type.lower().startswith(b"multipart/"):
        files, tree = _form(multipart.fields(body, content_type), options.max_depth)
        asked = _typed(tree, strict=False)
    else:
        files, asked = {}, _typed(decode.parse(body, options.max_depth), strict=True)
    return _asked(asked, _media(asked, files), options.max_image_pixels)


# --- the two ways to write it ------------------------------------------------------------------


def _form(fields: Iterable[Field], max_depth: int) -> tuple[dict[str, bytes], dict[str, Any]]:
    """Files by name and the tree of the other fields, which may be written with brackets."""
    files: dict[str, bytes] = {}
    tree: dict[str, Any] = {}
    for field in fields:
        name = field.name[:100]
        if name in files or (name in tree and not name.endswith("[]")):
            _wrong(name, "is given twice")
        if field.filename is not None:
            if name not in _FILES:
                raise Unsupported(f"{name}: is no file here", param=name, code="unsupported")
            files[name] = field.data
        elif name == "extra_params":
            tree[name] = decode.parse(field.text.encode(), max_depth)
        else:
            _put(tree, name, field)
    return files, tree


def _put(tree: dict[str, Any], name: str, field: Field) -> None:
    found = _BRACKETS.fullmatch(name)
    text = field.data.decode("utf-8", "replace") if name.startswith(_FILES) else field.text
    if found is None:
        tree[name] = text
        return
    group = tree.setdefault(found[1], {})
    if not isinstance(group, dict):
        _wrong(found[1], "is given twice")
    if found[3]:
        items = group.setdefault(found[2], [])
        if isinstance(items, list):
            items.append(text)
    else:
        group[found[2]] = text


def _typed(tree: Mapping[str, Any], *, strict: bool) -> VideoBody:
    for name in tree:
        if name not in VideoBody.__struct_fields__:
            shown = name[:100]
            raise Unsupported(
                f"the field '{shown}' is not supported", param=shown, code="unsupported"
            )
    given = {name: value for name, value in tree.items() if value is not None}
    try:
        return msgspec.convert(given, VideoBody, strict=strict)
    except msgspec.ValidationError as error:
        reason, _, path = str(error).partition(" - at `$.")
        missing = re.search("(?:missing required|unknown) field `(.*)`", reason)
        param = re.split(r"[^\w.]", path)[0] if path else ""
        if missing:
            param = f"{param}.{missing[1]}" if param else missing[1]
        _wrong(param[:100], reason)


def _media(asked: VideoBody, files: Mapping[str, bytes]) -> dict[str, bytes]:
    """The bytes of each of the three media that are given."""
    found = dict(files)
    for name in _FILES:
        value = getattr(asked, name)
        if value is None:
            continue
        if name in found:
            _wrong(name, "is given twice")
        text = value.image_url if isinstance(value, Reference) else value
        found[name] = reference.written(text, param=name)
    for name, data in found.items():
        if not data:
            _wrong(name, "is empty")
    return found


# --- what it means -----------------------------------------------------------------------------


def _asked(asked: VideoBody, media: Mapping[str, bytes], max_pixels: int) -> Asked:
    frames, fps = _length(asked)
    part = _part(media, max_pixels)
    task = _task(asked, part, "source_video" in media)
    keep = _keep(asked, part, task, frames)
    if (given := media.get("video_noise_mask")) is not None:
        mask.check(given, frames=frames, max_pixels=max_pixels)
    size = _SIZE.fullmatch(asked.size or "")
    spec = VideoSpec(
        frames=frames,
        width=int(size[1]) if size else None,
        height=int(size[2]) if size else None,
        fps=fps,
        steps=asked.num_inference_steps,
        guidance=asked.guidance_scale,
        task=task,
        keep=keep,
        mask=media.get("video_noise_mask"),
        format=asked.output_format,
    )
    parts = (Text(asked.prompt), *(() if part is None else (part,)))
    request = Request(
        messages=(Message("user", parts),),
        output=Modality.VIDEO,
        sampling=Sampling(seed=asked.seed),
        video=spec,
    )
    return Asked(asked.model, request)


def _length(asked: VideoBody) -> tuple[int | None, float | None]:
    """Frames and frames a second, as far as they are said."""
    frames, fps = asked.num_frames, asked.fps
    if asked.seconds is None:
        return frames, fps
    seconds = float(asked.seconds)
    if not 0 < seconds <= LONGEST:
        _wrong("seconds", f"must be more than 0 and at most {LONGEST:g}")
    if frames is None:
        fps = fps or FPS
        return max(1, round(seconds * fps)), fps
    if fps is not None and abs(frames - seconds * fps) > 1:
        _wrong("seconds", f"{frames} frames at {fps:g} a second are another length; leave one out")
    return frames, fps or frames / seconds


def _part(media: Mapping[str, bytes], max_pixels: int) -> Image | Video | None:
    """The one reference there is."""
    source, given = media.get("source_video"), media.get("input_reference")
    if source is not None and given is not None:
        _wrong("input_reference", "conflicts with source_video; send one of them")
    if (source is None) != ("video_noise_mask" not in media):
        missing, there = ("source_video", "video_noise_mask")[:: 1 if source is None else -1]
        _wrong(missing, f"is missing: {there} goes with it")
    if source is not None:
        part = reference.read(source, param="source_video", max_pixels=max_pixels)
        if isinstance(part, Image):
            _wrong("source_video", "is a picture; send a clip")
        return part
    if given is None:
        return None
    return reference.read(given, param="input_reference", max_pixels=max_pixels)


def _task(asked: VideoBody, part: Image | Video | None, source: bool) -> VideoTask:
    """What the reference makes it, unless extra_params says another of the same kind."""
    wanted, param = asked.extra_params.task, "extra_params.task"
    if part is None or isinstance(part, Image) or source:
        only: VideoTask = (
            "unconditional" if part is None else "image" if isinstance(part, Image) else "complete"
        )
        if wanted not in (None, only):
            need = _NAMED.get(wanted, "needs a clip as input_reference")
            _wrong(param, f"'{wanted}' {need}")
        return only
    if wanted in _NAMED:
        _wrong(param, f"'{wanted}' {_NAMED[wanted]}")
    return wanted or ("frames" if asked.extra_params.keep_frames else "predict")


def _keep(
    asked: VideoBody, part: Image | Video | None, task: VideoTask, frames: int | None
) -> tuple[int, ...] | None:
    """The frames that are given, by number."""
    keep, param = tuple(asked.extra_params.keep_frames), "extra_params.keep_frames"
    if keep and task not in ("interpolate", "frames"):
        what = "a picture: use frame_index" if isinstance(part, Image) else f"the task '{task}'"
        _wrong(param, f"conflicts with {what}")
    if asked.frame_index is not None and not isinstance(part, Image):
        _wrong("frame_index", "needs a picture as input_reference")
    if task == "image":
        keep, param = (asked.frame_index or 0,), "frame_index"
    if task == "frames" and not keep:
        _wrong(param, "say which frames the reference's are")
    if len(set(keep)) < len(keep) or list(keep) != sorted(keep):
        _wrong(param, "must grow from one to the next")
    if frames is not None and keep and keep[-1] >= frames:
        _wrong(param, f"{keep[-1]} is beyond the last of {frames} frames, {frames - 1}")
    if frames is not None and len(keep) == frames:
        _wrong("num_frames", "every frame is given: nothing is to be generated")
    return keep or None


def _wrong(param: str, message: str) -> NoReturn:
    raise RequestError(f"{param}: {message}" if param else message, param=param or None)
