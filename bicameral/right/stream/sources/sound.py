"""Sound files as a stream: mono, 16 kHz, a tenth of a second a frame, whatever they hold."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bicameral.errors import ConfigError, RequestError
from bicameral.right.stream.frame import Frame
from bicameral.right.stream.notices import Gap, Kind

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

RATE = 16_000
BLOCK = RATE // 10
_RATES = (4_000, 384_000)
_TAPS = 32


class Recording:
    """A WAV, FLAC, Ogg or MP3 file; samples that are no numbers are silence, told as a Gap."""

    kind: Kind = "sound"
    live = False

    def __init__(self, path: Path, label: str) -> None:
        self.label = label
        self._path = path

    def frames(self) -> Generator[Frame | Gap]:
        """Tenths of a second; the last may be shorter."""
        soundfile = library("soundfile", "sound cannot be read")
        try:
            with soundfile.SoundFile(str(self._path)) as file:
                if not _RATES[0] <= file.samplerate <= _RATES[1]:
                    raise self._unreadable(f"its rate is {file.samplerate} Hz")
                yield from _frames(self._blocks(file), file.samplerate)
        except soundfile.LibsndfileError as error:
            raise self._unreadable("it is no sound file that can be decoded") from error

    def _blocks(self, file: Any) -> Iterator[NDArray[np.float32]]:
        """Blocks of about a tenth of a second, all channels."""
        size = max(1, file.samplerate // 10)
        while len(block := file.read(size, dtype="float32", always_2d=True)):
            yield block

    def _unreadable(self, why: str) -> RequestError:
        return RequestError(f"source {self.label}: {why}", param="source", code="bad_source")


def _frames(blocks: Iterator[NDArray[np.float32]], rate: int) -> Iterator[Frame | Gap]:
    import numpy as np

    resample = Resampler(rate)
    waiting = np.zeros(0, np.float32)
    index = 0
    for block in blocks:
        if not np.isfinite(block).all():
            at = index * BLOCK / RATE
            yield Gap(trouble="unreadable", start=at, end=at + 0.1, detail="samples are no numbers")
        waiting = np.concatenate([waiting, resample(mono(block))])
        while len(waiting) >= BLOCK:
            yield Frame(index=index, at=index * BLOCK / RATE, samples=waiting[:BLOCK])
            waiting, index = waiting[BLOCK:], index + 1
    if len(waiting):
        yield Frame(index=index, at=index * BLOCK / RATE, samples=waiting)


def mono(block: NDArray[np.float32]) -> NDArray[np.float32]:
    """The mean of the channels, from -1 to 1, free of NaN."""
    import numpy as np

    clean = np.nan_to_num(block, nan=0.0, posinf=0.0, neginf=0.0)
    return np.asarray(np.clip(clean.mean(axis=1), -1, 1), np.float32)


class Resampler:
    """Block by block to 16 kHz: a windowed-sinc low pass, then linear between the samples."""

    def __init__(self, rate: int) -> None:
        import numpy as np

        self._rate = rate
        self._taken = self._given = 0
        width = max(1.0, rate / RATE)
        count = int(_TAPS * width) | 1
        x = (np.arange(count) - count // 2) / width
        taps = np.sinc(0.9 * x) * np.hanning(count + 2)[1:-1]
        self._taps = (taps / taps.sum()).astype(np.float32)
        self._tail = np.zeros(count, np.float32)

    def __call__(self, block: NDArray[np.float32]) -> NDArray[np.float32]:
        """What the block adds; joined, the results are the whole sound."""
        import numpy as np

        if self._rate == RATE:
            return block
        # One sample of the past is kept, so that the first new one has a left neighbour.
        whole = np.concatenate([self._tail, block])
        smooth = np.convolve(whole, self._taps, "valid")
        self._tail = whole[len(whole) - len(self._taps) :]
        # Counted in whole samples, so that hours of rounding do not add up.
        end = -(-(self._taken + len(block)) * RATE // self._rate)
        points = np.arange(self._given, end) * self._rate - self._taken * RATE
        self._taken, self._given = self._taken + len(block), end
        heard = np.interp(points / RATE, np.arange(len(smooth)), smooth)
        return np.asarray(heard, np.float32)


def library(name: str, what: str) -> Any:
    """An optional library; ConfigError that says how to install it."""
    try:
        return import_module(name)
    except (ImportError, OSError) as error:  # OSError: the system library under it is missing
        raise ConfigError(
            f"{what}: {name} is not installed; run `pip install 'bicameral[watch]' {name}`"
        ) from error
