"""Frame difference: how much of the picture differs from what is usual there. NumPy alone.

Pictures: percent of about 160 x 90 points that differ from a running background by more than the
noise, lone points left out. A change of light over the whole picture is taken out before, and one
that hits nearly every point renews the background instead of scoring. What differs sinks into the
background slowly, so that it leaves no ghost when it goes, and at once when it has stood still for
the memory's time.
Sound: decibels above the running floor, tenths of a second each.
Events: how many times as many as usual, beyond what chance gives.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from bicameral.right.stream.frame import Events, Frame
from bicameral.right.stream.luma import luma

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_LIGHTNING = 0.8
_SLOWER = 6
_SILENCE = 1e-6


def open(*, memory: float = 10.0, contrast: float = 20.0) -> Difference:
    """`memory`: seconds until what stays is usual; `contrast`: steps of 255 that count at least."""
    return Difference(memory, contrast)


class Difference:
    """Keeps a background of one source; `threshold` depends on what the source gives."""

    name = "difference"

    def __init__(self, memory: float, contrast: float) -> None:
        self._memory = memory
        self._contrast = contrast
        self.threshold = 0.3
        self.reset()

    def reset(self) -> None:
        """The next frame is the background."""
        self._background: NDArray[np.float32] | None = None
        self._before: Any = None
        self._stood: Any = None
        self._noise = 2.0
        self._level: float | None = None
        self._last: float | None = None

    def score(self, frame: Frame) -> float:
        """Percent of points, decibels or multiples; 0 for the first frame."""
        passed = 0.0 if self._last is None else max(0.0, frame.at - self._last)
        self._last = frame.at
        share = 1 - math.exp(-passed / self._memory)
        if frame.pixels is not None:
            return self._picture(luma(frame.pixels), passed, share)
        if frame.samples is not None:
            self.threshold = 10.0
            return self._sound(frame.samples, share)
        if frame.events is not None:
            self.threshold = 3.0
            return self._events(frame.events, share)
        return 0.0

    def _picture(self, now: NDArray[np.float32], passed: float, share: float) -> float:
        import numpy as np

        background = self._background
        if background is None or background.shape != now.shape:
            return self._anew(now)
        plain = now - background
        limit = max(self._contrast, 6 * self._noise)
        if (abs(plain) > limit).mean() > _LIGHTNING:
            return self._anew(now)
        apart = abs(plain - np.median(plain))
        self._noise += share * (1.5 * float(np.median(apart)) - self._noise)
        other = apart > limit
        self._sink(now, plain, other, passed, share)
        return 100 * float(_grouped(other).mean())

    def _anew(self, now: NDArray[np.float32]) -> float:
        import numpy as np

        self._background = self._before = now
        self._stood = np.zeros_like(now)
        return 0.0

    def _sink(
        self,
        now: NDArray[np.float32],
        plain: NDArray[np.float32],
        other: NDArray[np.bool_],
        passed: float,
        share: float,
    ) -> None:
        """The background takes up what is usual, slowly what moves, and whole what stands still."""
        import numpy as np

        still = other & (abs(now - self._before) < self._contrast)
        self._stood = np.where(still, self._stood + np.float32(passed), np.float32(0))
        shares = np.where(other, share / _SLOWER, share).astype(np.float32)
        shares[self._stood > self._memory] = 1.0
        self._background = now - (1 - shares) * plain
        self._before = now

    def _sound(self, samples: NDArray[np.float32], share: float) -> float:
        import numpy as np

        level = 10 * math.log10(float(np.square(samples).mean()) + _SILENCE**2)
        floor = level if self._level is None else self._level
        # Down at once, up slowly: the floor is what is heard when nobody speaks.
        self._level = level if level < floor else floor + share * (level - floor)
        # Below -60 dB nobody hears it, so hiss over digital silence is no event.
        return max(0.0, level - max(floor, -60.0))

    def _events(self, events: Events, share: float) -> float:
        count = float(len(events.t))
        usual = count if self._level is None else self._level
        self._level = usual + share * (count - usual)
        return max(0.0, count - usual - 3 * math.sqrt(usual)) / (usual + 10)


def _grouped(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The points with at least three others set around them."""
    import numpy as np

    padded = np.pad(mask, 1).astype(np.uint8)
    rows = padded[:-2] + padded[1:-1] + padded[2:]
    around = rows[:, :-2] + rows[:, 1:-1] + rows[:, 2:]
    grouped: NDArray[np.bool_] = mask & (around >= 4)
    return grouped
