"""A picture to show: one red dot."""

from __future__ import annotations

import struct
import zlib


def png() -> bytes:
    """A PNG of one red pixel."""
    header = _chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 2, 0, 0, 0))
    dot = _chunk(b"IDAT", zlib.compress(b"\0\xff\0\0"))
    return b"\x89PNG\r\n\x1a\n" + header + dot + _chunk(b"IEND", b"")


def _chunk(kind: bytes, data: bytes) -> bytes:
    size, check = len(data), zlib.crc32(kind + data)
    return struct.pack(">I", size) + kind + data + struct.pack(">I", check)
