"""Pictures, sounds and clips in a request: data: URLs decoded, header checked, nothing unpacked.

A picture's size is read from its header before anybody decodes it: a 10 kB PNG can unpack to
240 MB. The server fetches no URL; an http(s) URL travels on as a URL.
"""

from __future__ import annotations

import binascii
import re

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
    media_type, width, height = _measure(data, param)
    if width * height > max_pixels:
        raise RequestError(
            f"{param}: {width} x {height} pixels, this server takes {max_pixels} in all",
            param=param,
            code="image_too_large",
        )
    return Image(data=data, media_type=media_type, detail=detail)


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


def _measure(data: bytes, param: str) -> tuple[str, int, int]:
    """(media type, width, height) as the header says."""
    try:
        found = _png(data) or _gif(data) or _webp(data) or _jpeg(data)
    except IndexError:
        found = None
    if found is None or not (found[1] and found[2]):
        raise RequestError(
            f"{param}: is no whole {_KINDS} picture", param=param, code="invalid_image"
        )
    return found


def _png(d: bytes) -> tuple[str, int, int] | None:
    if d[:8] != b"\x89PNG\r\n\x1a\n" or d[12:16] != b"IHDR" or len(d) < 33:
        return None
    return "image/png", int.from_bytes(d[16:20]), int.from_bytes(d[20:24])


def _gif(d: bytes) -> tuple[str, int, int] | None:
    if d[:6] not in (b"GIF87a", b"GIF89a") or len(d) < 13:
        return None
    return "image/gif", int.from_bytes(d[6:8], "little"), int.from_bytes(d[8:10], "little")


def _webp(d: bytes) -> tuple[str, int, int] | None:
    if d[:4] != b"RIFF" or d[8:12] != b"WEBP" or len(d) < 30:
        return None
    match d[12:16]:
        case b"VP8X":
            width = 1 + int.from_bytes(d[24:27], "little")
            return "image/webp", width, 1 + int.from_bytes(d[27:30], "little")
        case b"VP8L" if d[20] == 0x2F:
            bits = int.from_bytes(d[21:25], "little")
            return "image/webp", 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
        case b"VP8 " if d[23:26] == b"\x9d\x01\x2a":
            width = int.from_bytes(d[26:28], "little") & 0x3FFF
            return "image/webp", width, int.from_bytes(d[28:30], "little") & 0x3FFF
    return None


_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}


def _jpeg(d: bytes) -> tuple[str, int, int] | None:
    """Walk the segments to the first frame header (ITU-T T.81, B.1.1)."""
    if d[:3] != b"\xff\xd8\xff":
        return None
    at = 2
    while d[at] == 0xFF:
        marker = d[at + 1]
        if marker == 0xFF:
            at += 1
        elif marker in _FRAMES:
            height = d[at + 5] << 8 | d[at + 6]
            return "image/jpeg", d[at + 7] << 8 | d[at + 8], height
        elif marker in (0xD9, 0xDA):
            return None
        else:
            at += 2 + max(2, d[at + 2] << 8 | d[at + 3])
    return None
