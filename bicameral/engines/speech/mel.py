"""Log-mel features as Whisper was trained on them (Radford et al. 2022, section 2.2).

Windows of 25 ms every 10 ms, 80 or 128 triangles on Slaney's mel scale (Auditory Toolbox, 1998:
linear below 1 kHz, logarithmic above), each of the same area; the logarithm to base 10, cut 8
below the window's loudest and brought to about -1 to 1.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import numpy.typing as npt

from bicameral.engines.media.sound import RATE, Samples

Floats = npt.NDArray[np.floating]

SECONDS = 30  # of sound in one window
WIDTH, HOP = 400, 160  # samples
_BREAK = 15.0  # mels at 1 kHz
_STEP = np.log(6.4) / 27  # of the logarithm of the frequency, for one mel above that


def features(samples: Samples, mels: int) -> Samples:
    """(mels, 3000) numbers of up to 30 seconds; what is missing counts as silence."""
    samples = np.pad(samples, (0, SECONDS * RATE - len(samples)))
    frames = np.lib.stride_tricks.sliding_window_view(
        np.pad(samples, WIDTH // 2, mode="reflect"), WIDTH
    )[:-1:HOP]
    power = np.abs(np.fft.rfft(frames * _hann())) ** 2
    logs = np.log10(np.maximum(triangles(mels) @ power.T, 1e-10))
    scaled: Samples = ((np.maximum(logs, logs.max() - 8) + 4) / 4).astype(np.float32)
    return scaled


@cache
def triangles(mels: int) -> Samples:
    """(mels, 201) weights of the frequencies 0, 40, ... 8000 Hz in each band."""
    corners = _hertz(np.linspace(0, _mels(RATE / 2), mels + 2))
    left, top, right = corners[:-2, None], corners[1:-1, None], corners[2:, None]
    hertz = np.fft.rfftfreq(WIDTH, 1 / RATE)
    heights = np.minimum((hertz - left) / (top - left), (right - hertz) / (right - top))
    return (np.maximum(heights, 0) * 2 / (right - left)).astype(np.float32)


def _mels(hertz: float) -> float:
    """Of a frequency above 1 kHz."""
    return _BREAK + float(np.log(hertz / 1000) / _STEP)


def _hertz(mels: Floats) -> Floats:
    return np.where(mels < _BREAK, mels * 200 / 3, 1000 * np.exp((mels - _BREAK) * _STEP))


@cache
def _hann() -> Samples:
    """The periodic Hann window."""
    return np.hanning(WIDTH + 1)[:-1].astype(np.float32)
