"""Sounds and requests for the tests of what hears.

spoken.ogg was made with flite (voice slt): SPOKEN, five seconds at 16 kHz.
"""

from __future__ import annotations

import io
from pathlib import Path

from bicameral.types import Audio, Message, Modality, Request, Text

SPOKEN = "Hello from the other side of the street. The quick brown fox jumps over the lazy dog."


def spoken(*, seconds: float | None = None) -> bytes:
    """spoken.ogg, or only how it begins."""
    if seconds is not None:
        return flac(samples()[: round(seconds * 16000)])
    return Path(__file__).with_name("spoken.ogg").read_bytes()


def samples():
    """What spoken.ogg holds, as numbers."""
    import soundfile

    return soundfile.read(io.BytesIO(spoken()), dtype="float32")[0]


def flac(values) -> bytes:
    import soundfile

    out = io.BytesIO()
    soundfile.write(out, values, 16000, format="FLAC", subtype="PCM_16")
    return out.getvalue()


def hearing(*sounds: bytes, **fields) -> Request:
    """A request to perceive in these sounds."""
    parts = (Text("listen"), *(Audio(data, "wav") for data in sounds))
    return Request(messages=(Message("user", parts),), output=Modality.PERCEPT, **fields)
