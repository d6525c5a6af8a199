"""Media types by first bytes."""

from __future__ import annotations

import pytest

from bicameral.right.media_type import sniff

MP4 = b"\0\0\0\x18ftypisom\0\0\0\0"
KNOWN = {
    ("image", "image/png"): b"\x89PNG\r\n\x1a\n",
    ("image", "image/jpeg"): b"\xff\xd8\xff\xe0",
    ("image", "image/gif"): b"GIF89a",
    ("image", "image/webp"): b"RIFF\x10\0\0\0WEBPVP8 ",
    ("audio", "audio/wav"): b"RIFF\x10\0\0\0WAVEfmt ",
    ("audio", "audio/flac"): b"fLaC\0",
    ("audio", "audio/ogg"): b"OggS\0",
    ("audio", "audio/webm"): b"\x1aE\xdf\xa3",
    ("audio", "audio/mp4"): MP4,
    ("audio", "audio/mpeg"): b"\xff\xfb\x90\x64",
    ("video", "video/mp4"): MP4,
    ("video", "video/quicktime"): b"\0\0\0\x14ftypqt  ",
    ("video", "video/webm"): b"\x1aE\xdf\xa3",
    ("video", "video/x-msvideo"): b"RIFF\x10\0\0\0AVI LIST",
}


@pytest.mark.parametrize(("kind", "told"), KNOWN)
def test_each_kind_is_known_by_its_first_bytes_and_by_no_fewer(kind, told):
    head = KNOWN[kind, told]
    assert sniff(head + bytes(40), kind) == told
    assert sniff(head[:2], kind) is None


@pytest.mark.parametrize(
    ("kind", "head"),
    [
        ("video", b"\0\0\0\x18ftypavif"),
        ("video", b"\0\0\0\x18ftypheic"),
        ("image", MP4),
        ("audio", b"\xff\xf1\x50\x80"),
        ("audio", b"\xff\xfb\x9c\x00"),
        ("image", b"RIFF\x10\0\0\0WAVE"),
        ("image", b"<svg"),
        ("image", b""),
    ],
)
def test_what_is_of_another_kind_is_not(kind, head):
    assert sniff(head + bytes(40) if head else b"", kind) is None
