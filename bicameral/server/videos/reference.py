"""The picture or clip that a video begins from: known by its first bytes, never fetched."""

from __future__ import annotations

import binascii
import re

from bicameral.engines.media.header import measure
from bicameral.errors import RequestError
from bicameral.types import Image, Video

_DATA = re.compile(r"data:[a-zA-Z0-9.+/-]{0,100}((?:;[^;,]{1,64})*),")
_PICTURES = frozenset({"image/png", "image/jpeg", "image/webp"})


def read(data: bytes, *, param: str, max_pixels: int) -> Image | Video:
    """What the bytes are; RequestError if they are neither, or a picture has too many pixels.

    A GIF is taken for a clip, and so is a .npy or .npz file of frames.
    """
    head = measure(data)
    if head is not None and head.width * head.height > max_pixels:
        raise RequestError(
            f"{param}: {head.width} x {head.height} pixels, this server takes {max_pixels} in all",
            param=param,
            code="image_too_large",
        )
    if head is not None and head.media_type in _PICTURES:
        return Image(data=data, media_type=head.media_type)
    kind = head.media_type if head is not None else clip_type(data)
    if kind is None:
        raise RequestError(
            f"{param}: is neither a picture (PNG, JPEG, WebP) nor a clip (MP4, WebM, AVI, GIF, "
            ".npy, .npz)",
            param=param,
            code="invalid_media",
        )
    return Video(data=data, media_type=kind)


def clip_type(data: bytes) -> str | None:
    """The media type of a clip that is no GIF, by the marks of its container."""
    if data[4:8] == b"ftyp":
        return "video/mp4"
    if data[:4] == b"\x1aE\xdf\xa3":
        return "video/webm"
    if data[:4] == b"RIFF" and data[8:12] == b"AVI ":
        return "video/x-msvideo"
    if data[:4] == b"PK\x03\x04":
        return "application/x-npz"
    return "application/x-npy" if data[:6] == b"\x93NUMPY" else None


def written(text: str, *, param: str) -> bytes:
    """The bytes in a data: URL or in base64; RequestError for any other URL."""
    if text[:8].lower().startswith(("http:", "https:", "file:", "ftp:")):
        raise RequestError(
            f"{param}: URLs are not fetched; send the file itself, or a data: URL",
            param=param,
            code="blocked_url",
        )
    if text.startswith("data:"):
        head = _DATA.match(text)
        if head is None or not head[1].endswith(";base64"):
            raise RequestError(f"{param}: write data:TYPE;base64,DATA", param=param)
        text = text[head.end() :]
    try:
        data = binascii.a2b_base64(text, strict_mode=True)
    except ValueError as error:
        raise RequestError(f"{param}: is not valid base64", param=param) from error
    if not data:
        raise RequestError(f"{param}: is empty", param=param)
    return data
