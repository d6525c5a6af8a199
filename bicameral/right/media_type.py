"""What kind of media some bytes are, by their first bytes: what a server calls them is a claim."""

from __future__ import annotations

from collections.abc import Mapping

from bicameral.types import Modality

HEAD = 16
"""So many bytes suffice for `sniff`."""

_UNTOLD = frozenset({"application/octet-stream", "binary/octet-stream"})
DECLARED: Mapping[Modality, frozenset[str]] = {
    Modality.IMAGE: _UNTOLD | {"image/png", "image/jpeg", "image/jpg", "image/webp", "image/gif"},
    Modality.AUDIO: _UNTOLD
    | {"audio/wav", "audio/x-wav", "audio/wave", "audio/vnd.wave"}
    | {"audio/mpeg", "audio/mp3", "audio/flac", "audio/x-flac"}
    | {"audio/ogg", "application/ogg", "audio/opus"}
    | {"audio/mp4", "audio/m4a", "audio/x-m4a", "audio/webm"},
    Modality.VIDEO: _UNTOLD
    | {"video/mp4", "video/quicktime", "video/webm", "video/x-matroska", "video/x-msvideo"},
}
"""The media types a server may declare for each kind."""

_PICTURE_BRANDS = frozenset({b"avif", b"avis", b"heic", b"heix", b"hevc", b"mif1", b"msf1"})


def sniff(data: bytes | bytearray, kind: Modality) -> str | None:
    """The media type of `data` if it is of that kind, else None; reads its first HEAD bytes."""
    head = bytes(data[:HEAD])
    match kind:
        case Modality.IMAGE:
            return _image(head)
        case Modality.AUDIO:
            return _audio(head)
        case Modality.VIDEO:
            return _video(head)
    return None


def _image(head: bytes) -> str | None:
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return "image/png"
    if head.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    if head[:6] in (b"GIF87a", b"GIF89a"):
        return "image/gif"
    return "image/webp" if head[:4] == b"RIFF" and head[8:12] == b"WEBP" else None


def _audio(head: bytes) -> str | None:
    if head[:4] == b"RIFF" and head[8:12] == b"WAVE":
        return "audio/wav"
    if head.startswith(b"fLaC"):
        return "audio/flac"
    if head.startswith(b"OggS"):
        return "audio/ogg"
    if head.startswith(b"\x1aE\xdf\xa3"):
        return "audio/webm"
    if _is_mp4(head):
        return "audio/mp4"
    return "audio/mpeg" if head.startswith(b"ID3") or _is_mp3(head) else None


def _video(head: bytes) -> str | None:
    if _is_mp4(head):
        return "video/quicktime" if head[8:12] == b"qt  " else "video/mp4"
    if head.startswith(b"\x1aE\xdf\xa3"):
        return "video/webm"
    return "video/x-msvideo" if head[:4] == b"RIFF" and head[8:12] == b"AVI " else None


def _is_mp4(head: bytes) -> bool:
    return head[4:8] == b"ftyp" and len(head) >= 12 and head[8:12] not in _PICTURE_BRANDS


def _is_mp3(head: bytes) -> bool:
    """Eleven sync bits, a layer that exists (ADTS has 0), a rate that is not reserved."""
    if len(head) < 3:
        return False
    sync = head[0] == 0xFF and head[1] & 0xE0 == 0xE0
    return sync and head[1] & 0x06 != 0 and head[2] & 0x0C != 0x0C
