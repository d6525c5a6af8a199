"""Whisper over a whole recording, as its paper decodes (Radford et al. 2022, section 4.5).

Windows of 30 seconds, each moved to where the last complete segment ended; a beam first, then ever
higher temperatures while what comes repeats itself or is unlikely; what was written before is the
context of what follows; a window that is likely no speech and unlikely text says nothing.
"""

from __future__ import annotations

import zlib
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from msgspec import Struct

from bicameral.engines.media.optional import library
from bicameral.engines.media.sound import RATE
from bicameral.engines.speech.mel import HOP, SECONDS, features
from bicameral.engines.speech.spans import Joined
from bicameral.engines.speech.tokens import CONTEXT, Piece, Vocabulary
from bicameral.errors import WeightsError

TEMPERATURES = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
SAMPLES = 5  # drawn at a temperature above 0; the likeliest counts
UNLIKELY = -1.0  # mean natural-log probability of a token
REPETITIVE = 2.4  # characters for one that zlib leaves
NO_SPEECH = 0.6
FORGET = 0.5  # what was written at a higher temperature is no context for what follows
_LEAST = 1.0  # seconds that every window moves on


class Said(Struct, frozen=True):
    """A segment: seconds in the recording, and the geometric mean of its tokens' probabilities."""

    text: str
    start: float
    end: float
    confidence: float
    language: str
    tokens: int


class Wanted(Struct, frozen=True):
    """What a request asks for; an empty language is found out, temperature None tries them all."""

    language: str = ""
    prompt: str = ""
    temperature: float | None = None


class _Try(Struct, frozen=True):
    tokens: list[int]
    logprob: float
    no_speech: float
    repeats: bool
    temperature: float

    @property
    def silent(self) -> bool:
        return self.no_speech > NO_SPEECH and self.logprob < UNLIKELY

    @property
    def good(self) -> bool:
        return self.silent or not (self.repeats or self.logprob < UNLIKELY)


class Transcriber:
    """A Whisper model in CTranslate2's format, from its folder; used by one thread."""

    def __init__(self, folder: Path, *, threads: int, beam: int) -> None:
        self._library = library("ctranslate2", extra="hear")
        self.vocabulary = Vocabulary(folder / "tokenizer.json")
        self._beam = beam
        try:
            self._model: Any = self._library.models.Whisper(
                str(folder), device="cpu", compute_type="int8", intra_threads=threads
            )
        except (RuntimeError, ValueError) as error:
            raise WeightsError(f"{folder} is no Whisper model for CTranslate2: {error}") from error
        if not self._model.is_multilingual:
            raise WeightsError(f"{folder} knows English only; take a multilingual Whisper")

    def said(self, sound: Joined, wanted: Wanted) -> Iterator[Said | None]:
        """The segments of the speech in `sound`; None where the caller may stop."""
        at, language = 0, wanted.language
        before = self.vocabulary.encode(wanted.prompt) if wanted.prompt.strip() else []
        while True:
            yield from sound.fill(at + SECONDS * RATE)
            if at >= sound.length:
                return
            window = sound.cut(at, SECONDS * RATE)
            encoded, seconds = self._encoded(window), len(window) / RATE
            language = language or self._language(encoded)
            yield None
            best = yield from self._tries(encoded, language, before, wanted.temperature)
            pieces, heard = self.vocabulary.pieces([] if best.silent else best.tokens, seconds)
            sure = self._sure(encoded, language, pieces, seconds)
            for piece, confidence in zip(pieces, sure, strict=True):
                yield self._placed(piece, confidence, language, sound, at)
            before += [token for piece in pieces for token in piece.tokens]
            before = [] if best.temperature > FORGET else before[-CONTEXT:]
            at += round(max(heard, _LEAST) * RATE)

    def _placed(
        self, piece: Piece, confidence: float, language: str, sound: Joined, at: int
    ) -> Said:
        start, end = sound.times(at + piece.start * RATE, at + piece.end * RATE)
        return Said(
            text=self.vocabulary.text(piece.tokens),
            start=start,
            end=end,
            confidence=confidence,
            language=language,
            tokens=len(piece.tokens),
        )

    def _encoded(self, window: Any) -> Any:
        values = features(window, self._model.n_mels)[np.newaxis]
        return self._model.encode(self._library.StorageView.from_array(values))

    def _language(self, encoded: Any) -> str:
        token: str = self._model.detect_language(encoded)[0][0][0]
        return token.strip("<|>")

    def _tries(
        self, encoded: Any, language: str, before: list[int], temperature: float | None
    ) -> Generator[None, None, _Try]:
        """Give the first good one, else the likeliest of those that repeat themselves least."""
        prompt = self.vocabulary.prompt(language, before)
        tried: list[_Try] = []
        for degree in TEMPERATURES if not temperature else (temperature,):
            tried.append(self._try(encoded, prompt, degree))
            if tried[-1].good:
                return tried[-1]
            yield None
        return max(tried, key=lambda one: (not one.repeats, one.logprob))

    def _try(self, encoded: Any, prompt: list[int], temperature: float) -> _Try:
        how: dict[str, Any] = {"beam_size": self._beam}
        if temperature:
            how = {"beam_size": 1, "num_hypotheses": SAMPLES, "sampling_topk": 0}
            how["sampling_temperature"] = temperature
        result = self._model.generate(
            encoded,
            [prompt],
            max_length=CONTEXT,
            return_scores=True,
            return_no_speech_prob=True,
            **how,
        )[0]
        tokens, text = result.sequences_ids[0], self.vocabulary.text(result.sequences_ids[0])
        return _Try(
            tokens,
            # Its score is per token without the one that ends the text, whose chance is in it.
            result.scores[0] * len(tokens) / (len(tokens) + 1),
            result.no_speech_prob,
            repetition(text) > REPETITIVE,
            temperature,
        )

    def _sure(
        self, encoded: Any, language: str, pieces: list[Piece], seconds: float
    ) -> list[float]:
        """How likely the text of each piece is on the whole, token by token, its times aside."""
        tokens = [token for piece in pieces for token in piece.tokens]
        if not tokens:
            return []
        start, frames = self.vocabulary.start(language), round(seconds * RATE / HOP)
        (aligned,) = self._model.align(encoded, start, [tokens], frames)
        logs = np.log(np.maximum(aligned.text_token_probs, 1e-10))
        ends = np.cumsum([len(piece.tokens) for piece in pieces])
        return [float(np.exp(part.mean())) for part in np.split(logs, ends[:-1])]


def repetition(text: str) -> float:
    """Bytes of the text for each that zlib leaves: far above 2 if it goes round in circles."""
    data = text.encode()
    return len(data) / len(zlib.compress(data))
