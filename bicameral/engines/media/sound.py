"""Encoded sound to mono samples at 16 kHz: WAV, FLAC, Ogg (Vorbis, Opus) and MP3 by libsndfile.

What a header says is checked before anything is decoded, and counted again while it is, as headers
lie. Sound is read and resampled in blocks, so no more is ever held than a block and what was
yielded.
"""

from __future__ import annotations

import importlib
import io
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from bicameral.errors import RequestError

Samples = npt.NDArray[np.float32]

RATE = 16_000
RATES = range(1_000, 384_001)
CHANNELS = 64
DENSEST = 192_000  # samples a second over all channels, on average, up to the longest allowed
_BLOCK = 1 << 18  # samples decoded at once, over all channels
_CORE, _EDGE = 8, 1  # seconds resampled at once, and what is seen before and after them
_BAND = 0.95  # of the lower Nyquist frequency passes whole; from there to 1 it fades out


def blocks(data: bytes, longest: float) -> Iterator[Samples]:
    """The sound in `data`, at most 8 seconds a block, within -1 to 1.

    RequestError if it is no sound we read, damaged, empty, has samples that are no numbers, or
    lasts more than `longest` seconds. Channels are averaged.
    """
    _known(data)
    library: Any = importlib.import_module("soundfile")
    try:
        with library.SoundFile(io.BytesIO(data)) as file:
            _plausible(file, longest)
            yield from resampled(_mono(file, longest), file.samplerate)
    except library.LibsndfileError as error:
        raise _wrong(f"cannot be decoded: {error.error_string}") from error


def seconds(data: bytes) -> float | None:
    """How long the sound lasts as its header has it; None if that cannot be known.

    ImportError without soundfile.
    """
    library: Any = importlib.import_module("soundfile")
    try:
        with library.SoundFile(io.BytesIO(data)) as file:
            known = 0 < file.frames < 2**62 and file.samplerate > 0
            return file.frames / file.samplerate if known else None
    except library.LibsndfileError:
        return None


def _mono(file: Any, longest: float) -> Iterator[Samples]:
    frames = 0
    while len(block := file.read(_BLOCK // file.channels, dtype="float32", always_2d=True)):
        frames += len(block)
        _bounded(frames, file, longest)
        if not np.isfinite(block).all():
            raise _wrong("has samples that are no numbers (NaN or infinity)")
        yield np.clip(block, -1, 1).mean(axis=1)
    if not frames:
        raise _wrong("has no samples")


# --- what is refused ---------------------------------------------------------------------------


def _known(data: bytes) -> None:
    """By its first bytes, as what a client calls it says little."""
    head = data[:16]
    if head[:4] in (b"RIFF", b"RF64") and head[8:12] == b"WAVE":
        return
    if head[:4] in (b"fLaC", b"OggS") or head[:3] == b"ID3":
        return
    if len(head) > 1 and head[0] == 0xFF and head[1] & 0xE6 == 0xE2:  # MPEG layer III
        return
    what = "is no WAV, FLAC, Ogg or MP3"
    if head[4:8] == b"ftyp":
        what = "is MP4 (m4a), which is not read"
    elif head[:4] == b"\x1aE\xdf\xa3":
        what = "is WebM or Matroska, which is not read"
    raise _wrong(f"{what}; convert it: ffmpeg -i IN -ac 1 -ar 16000 OUT.flac", "unsupported_format")


def _plausible(file: Any, longest: float) -> None:
    rate, channels = file.samplerate, file.channels
    if rate not in RATES:
        raise _wrong(f"has {rate} samples a second; {RATES[0]} to {RATES[-1]} are read")
    if channels > CHANNELS:
        raise _wrong(f"has {channels} channels; at most {CHANNELS} are read")
    # One that does not know its length says a number near 2**63; it is counted as it comes.
    if file.frames < 2**62:
        _bounded(file.frames, file, longest)


def _bounded(frames: int, file: Any, longest: float) -> None:
    if frames > longest * file.samplerate:
        raise _wrong(f"lasts more than {longest:g} seconds; cut it into pieces", "audio_too_long")
    if frames * file.channels > longest * DENSEST:
        raise _wrong("has more samples than are read; give it fewer channels or a lower rate")


def _wrong(what: str, code: str = "invalid_audio") -> RequestError:
    return RequestError(f"the sound {what}", param="messages", code=code)


# --- resampling --------------------------------------------------------------------------------


def resampled(pieces: Iterator[Samples], rate: int) -> Iterator[Samples]:
    """Pieces at `rate` as blocks at 16 kHz, for any whole rate, without drift.

    Each block is filtered and cut to length as a spectrum (the discrete form of band-limited
    interpolation), together with a second of sound on either side, which keeps the ends of the
    spectrum's circle away from what is used: the filter's response has died long before.
    """
    if rate == RATE:
        yield from pieces
        return
    gain = _fade(rate)
    window = np.zeros(_EDGE * rate, np.float32)  # the second before, then what is not yet used
    core = _CORE * rate
    for piece in pieces:
        window = np.concatenate((window, piece))
        while len(window) >= core + 2 * _EDGE * rate:
            yield _converted(window[: core + 2 * _EDGE * rate], rate, gain)
            window = window[core:]
    yield from _rest(window, rate, gain)


def _rest(window: Samples, rate: int, gain: Samples) -> Iterator[Samples]:
    """What is left at the end, which is not more than a block and a second."""
    left = -(-(len(window) - _EDGE * rate) * RATE // rate)
    full = (_CORE + 2 * _EDGE) * rate
    while left > 0:
        padded = np.pad(window[:full], (0, max(0, full - len(window))))
        yield _converted(padded, rate, gain)[:left]
        window, left = window[_CORE * rate :], left - _CORE * RATE


def _converted(window: Samples, rate: int, gain: Samples) -> Samples:
    spectrum = np.fft.rfft(window)[: len(gain)] * gain
    length = (_CORE + 2 * _EDGE) * RATE
    wave = np.fft.irfft(spectrum, length) * (RATE / rate)
    return wave[_EDGE * RATE : -_EDGE * RATE].astype(np.float32)


def _fade(rate: int) -> Samples:
    """The filter: 1 below the band's end, half a cosine down to 0 at the lower Nyquist."""
    top = min(rate, RATE) / 2
    frequencies = np.arange(int(top * (_CORE + 2 * _EDGE)) + 1) / (_CORE + 2 * _EDGE)
    share = np.clip((frequencies / top - _BAND) / (1 - _BAND), 0, 1)
    return (0.5 + 0.5 * np.cos(np.pi * share)).astype(np.float32)
