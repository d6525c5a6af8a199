"""Pictures, sounds and clips in a request: data: URLs decoded, header checked, nothing unpacked.

A picture's size is read from its header before anybody decodes it: a 10 kB PNG can unpack to
240 MB. Nothing is fetched here; an http(s) URL travels on as a URL.
"""

from __future__ import annotations

import binascii
import re

from bicameral.engines.media.header import Header, measure
from bicameral.errors import RequestError
from bicameral.types import Audio, Image, Video

_DATA = re.compile(r"data:([a-zA-Z0-9.+-]+/[a-zA-Z0-9.+-]+)?((?:;[^;,]{1,64})*),")
_WEB = re.compile(r"https?://[^\s/\\@]+(/[^\s\\]*)?(\?\S*)?", re.IGNORECASE)
_MAX_URL = 8192
_KINDS = "PNG, JPEG, WebP or GIF"


def image(url: str, detail: str | None, *, max_pixels: int, param: str) -> Image:
    """The picture behind `url`; RequestError if it is no picture or has too many pixels."""
    if not url.startswith("data:"):
        return Image(url=_web(url, param), detail=detail)
    data, _ = _data(url, param)
    head = _measure(data, param)
    if head.width * head.height > max_pixels:
        raise RequestError(
            f"{param}: {head.width} x {head.height} pixels, this server takes {max_pixels} in all",
            param=param,
            code="image_too_large",
        )
    return Image(data=data, media_type=head.media_type, detail=detail)


def video(url: str, *, param: str) -> Video:
    """The clip behind `url`."""
    if not url.startswith("data:"):
        return Video(url=_web(url, param))
    data, media_type = _data(url, param)
    return Video(data=data, media_type=media_type)


def audio(data: str, container: str, *, param: str) -> Audio:
    """The sound in base64 `data`."""
    return Audio(_base64(data, param), container)


def _web(url: str, param: str) -> str:
    if len(url) > _MAX_URL or not _WEB.fullmatch(url):
        raise RequestError(
            f"{param}: give an http(s) URL without a user name, or a data: URL",
            param=param,
            code="blocked_url",
        )
    return url


def _data(url: str, param: str) -> tuple[bytes, str | None]:
    head = _DATA.match(url)
    if head is None or not head[2].endswith(";base64"):
        raise RequestError(f"{param}: write data:TYPE;base64,DATA", param=param)
    return _base64(url[head.end() :], param), head[1]


def _base64(text: str, param: str) -> bytes:
    try:
        return binascii.a2b_base64(text, strict_mode=True)
    except ValueError as error:
        raise RequestError(f"{param}: is not valid base64", param=param) from error


def _measure(data: bytes, param: str) -> Header:
    """What the header says; a picture without one is none."""
    found = measure(data)
    if found is None:
        raise RequestError(
            f"{param}: is no whole {_KINDS} picture", param=param, code="invalid_image"
        )
    return found
