"""Media types by first bytes."""

from __future__ import annotations

import pytest

from bicameral.right.media_type import sniff
from bicameral.types import Modality

MP4 = b"\0\0\0\x18ftypisom\0\0\0\0"
KNOWN = {
    (Modality.IMAGE, "image/png"): b"\x89PNG\r\n\x1a\n",
    (Modality.IMAGE, "image/jpeg"): b"\xff\xd8\xff\xe0",
    (Modality.IMAGE, "image/gif"): b"GIF89a",
    (Modality.IMAGE, "image/webp"): b"RIFF\x10\0\0\0WEBPVP8 ",
    (Modality.AUDIO, "audio/wav"): b"RIFF\x10\0\0\0WAVEfmt ",
    (Modality.AUDIO, "audio/flac"): b"fLaC\0",
    (Modality.AUDIO, "audio/ogg"): b"OggS\0",
    (Modality.AUDIO, "audio/webm"): b"\x1aE\xdf\xa3",
    (Modality.AUDIO, "audio/mp4"): MP4,
    (Modality.AUDIO, "audio/mpeg"): b"\xff\xfb\x90\x64",
    (Modality.VIDEO, "video/mp4"): MP4,
    (Modality.VIDEO, "video/quicktime"): b"\0\0\0\x14ftypqt  ",
    (Modality.VIDEO, "video/webm"): b"\x1aE\xdf\xa3",
    (Modality.VIDEO, "video/x-msvideo"): b"RIFF\x10\0\0\0AVI LIST",
}


@pytest.mark.parametrize(("kind", "told"), KNOWN)
def test_each_kind_is_known_by_its_first_bytes_and_by_no_fewer(kind, told):
    head = KNOWN[kind, told]
    assert sniff(head + bytes(40), kind) == told
    assert sniff(head[:2], kind) is None


@pytest.mark.parametrize(
    ("kind", "head"),
    [
        (Modality.VIDEO, b"\0\0\0\x18ftypavif"),
        (Modality.VIDEO, b"\0\0\0\x18ftypheic"),
        (Modality.IMAGE, MP4),
        (Modality.AUDIO, b"\xff\xf1\x50\x80"),
        (Modality.AUDIO, b"\xff\xfb\x9c\x00"),
        (Modality.IMAGE, b"RIFF\x10\0\0\0WAVE"),
        (Modality.IMAGE, b"<svg"),
        (Modality.IMAGE, b""),
    ],
)
def test_what_is_of_another_kind_is_not(kind, head):
    assert sniff(head + bytes(40) if head else b"", kind) is None
