"""A question as its parts: text, and pictures, recordings and clips from files or urls."""

from __future__ import annotations

import mimetypes
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from bicameral.config import nearest
from bicameral.errors import RequestError
from bicameral.types import Audio, Image, Message, Part, Request, Sampling, Text, Video


def asking(
    question: str,
    images: Iterable[str | Path] = (),
    audio: Iterable[str | Path] = (),
    video: Iterable[str | Path] = (),
    **fields: Any,
) -> Request:
    """A request of one user message; `images` and `video` are urls or files, `audio` files.

    Unknown fields are refused.
    """
    sampling = {k: fields.pop(k) for k in tuple(fields) if k in Sampling.__struct_fields__}
    unknown = [name for name in fields if name not in Request.__struct_fields__]
    if unknown:
        known = (*Request.__struct_fields__, *Sampling.__struct_fields__)
        raise RequestError(
            f"there is no field '{unknown[0]}'; {nearest(unknown[0], known)}", param=unknown[0]
        )
    media: tuple[Part, ...] = (*map(image, images), *map(sound, audio), *map(clip, video))
    message = Message("user", (Text(question), *media))
    if sampling:
        fields["sampling"] = replace(fields.get("sampling", Sampling()), **sampling)
    return Request(messages=(message,), **fields)


def image(source: str | Path) -> Image:
    """The picture at a url or in a file."""
    if _is_url(source):
        return Image(url=str(source))
    data = _read(source, "images")
    return Image(data=data, media_type=mimetypes.guess_type(str(source))[0])


def sound(source: str | Path) -> Audio:
    """The recording in a file; its format is what the file's name ends in."""
    return Audio(_read(source, "audio"), Path(source).suffix.lstrip(".").lower())


def clip(source: str | Path) -> Video:
    """The clip at a url or in a file."""
    if _is_url(source):
        return Video(url=str(source))
    data = _read(source, "video")
    return Video(data=data, media_type=mimetypes.guess_type(str(source))[0])


def _is_url(source: str | Path) -> bool:
    return isinstance(source, str) and source.startswith(("http://", "https://"))


def _read(source: str | Path, param: str) -> bytes:
    try:
        return Path(source).read_bytes()
    except OSError as error:
        raise RequestError(f"{param}: {source}: {error.strerror}", param=param) from error
