"""The size of a picture, from its first bytes: nothing is unpacked, whatever the header claims."""

from __future__ import annotations

from msgspec import Struct


class Header(Struct, frozen=True):
    """What a PNG, JPEG, WebP or GIF says of itself; sizes in pixels, at least 1."""

    media_type: str
    width: int
    height: int


def measure(data: bytes) -> Header | None:
    """The header of `data`; None if it is no PNG, JPEG, WebP or GIF, or is cut in its header."""
    try:
        found = _png(data) or _gif(data) or _webp(data) or _jpeg(data)
    except IndexError:
        return None
    return found if found and found.width and found.height else None


def _png(d: bytes) -> Header | None:
    if d[:8] != b"\x89PNG\r\n\x1a\n" or d[12:16] != b"IHDR" or len(d) < 33:
        return None
    return Header("image/png", int.from_bytes(d[16:20]), int.from_bytes(d[20:24]))


def _gif(d: bytes) -> Header | None:
    if d[:6] not in (b"GIF87a", b"GIF89a") or len(d) < 13:
        return None
    return Header("image/gif", int.from_bytes(d[6:8], "little"), int.from_bytes(d[8:10], "little"))


def _webp(d: bytes) -> Header | None:
    if d[:4] != b"RIFF" or d[8:12] != b"WEBP" or len(d) < 30:
        return None
    match d[12:16]:
        case b"VP8X":
            width = 1 + int.from_bytes(d[24:27], "little")
            return Header("image/webp", width, 1 + int.from_bytes(d[27:30], "little"))
        case b"VP8L" if d[20] == 0x2F:
            bits = int.from_bytes(d[21:25], "little")
            return Header("image/webp", 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF))
        case b"VP8 " if d[23:26] == b"\x9d\x01\x2a":
            width = int.from_bytes(d[26:28], "little") & 0x3FFF
            return Header("image/webp", width, int.from_bytes(d[28:30], "little") & 0x3FFF)
    return None


_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}


def _jpeg(d: bytes) -> Header | None:
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
            return Header("image/jpeg", d[at + 7] << 8 | d[at + 8], height)
        elif marker in (0xD9, 0xDA):
            return None
        else:
            at += 2 + max(2, d[at + 2] << 8 | d[at + 3])
    return None
