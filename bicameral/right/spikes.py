"""Pictures to events, and events to the spikes of a net.

`Camera` turns frames into events as an event camera would see them: each pixel remembers the
logarithm of an intensity and reports every further step of a threshold away from it, brighter or
darker. The model is that of ESIM (Rebecq et al., CoRL 2018) with the linear-to-logarithmic curve,
the mismatch between pixels and the noise of v2e (Hu et al., CVPRW 2021). Between two frames the
intensity is taken to change evenly, so nothing faster than a frame is ever seen.
"""

from __future__ import annotations

from typing import Annotated

import numpy as np
from msgspec import Meta, Struct
from numpy.typing import NDArray

from bicameral.errors import RequestError
from bicameral.right.stream.frame import Events

Share = Annotated[float, Meta(ge=0, le=0.5)]
Threshold = Annotated[float, Meta(ge=0.01, le=5)]
Rate = Annotated[float, Meta(ge=0, le=1e4)]

# Below this grey level the curve is linear, so that the noise of a dark pixel is not blown up.
_KNEE = 20.0
_MICRO = 1_000_000
# Of a sum of four.
_LUMA = np.array([0.299, 0.587, 0.114], np.float32) / 4


class Sensor(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a pixel is like. Thresholds are steps of the natural logarithm of intensity.

    `mismatch` is the standard deviation of a pixel's thresholds as a share of them. Within
    `refractory` seconds of an event its pixel reports none. `background` events a second come from
    every pixel by chance, `shot` more from a dark one and a quarter of that from a bright one.
    """

    on: Threshold = 0.2
    off: Threshold = 0.2
    mismatch: Share = 0.03
    refractory: Annotated[float, Meta(ge=0, le=10)] = 0.0
    background: Rate = 0.0
    shot: Rate = 0.0
    seed: int = 0


class Camera:
    """The event camera that looks at frames of `height` by `width`; the seed fixes all chance."""

    def __init__(self, width: int, height: int, sensor: Sensor | None = None) -> None:
        self.width, self.height = width, height
        self.sensor = sensor or Sensor()
        self.reset()

    def reset(self) -> None:
        """Forget what was seen; the same frames give the same events again."""
        sensor, pixels = self.sensor, self.width * self.height
        self._chance = np.random.default_rng(sensor.seed)
        spread = 1 + sensor.mismatch * self._chance.standard_normal((2, pixels))
        nominal = np.array([[sensor.off], [sensor.on]])
        self._thresholds = nominal * np.maximum(spread, 0.1)
        self._memory: NDArray[np.float64] | None = None
        self._last = np.full(pixels, -np.inf)
        self._at = 0.0

    def see(self, grey: NDArray[np.generic], at: float) -> Events:
        """Events since the frame before, in order of time; the first frame has none.

        `grey` is (height, width), 0 to 255, captured at `at` seconds. RequestError (param `frame`)
        if its shape is another or it is not later than the one before.
        """
        if grey.shape != (self.height, self.width):
            raise RequestError(
                f"the frame is {grey.shape[1]}x{grey.shape[0]}, the camera looks at "
                f"{self.width}x{self.height}: open another for it",
                param="frame",
            )
        level = log_intensity(grey).ravel()
        if self._memory is None:
            self._memory, self._at = level, at
            return self._events(_NOWHERE, _NOWHEN, _NOWHERE)
        if not at > self._at:
            raise RequestError(
                f"the frame of {at:g} s came after that of {self._at:g} s: frames must be in order",
                param="frame",
            )
        pixels, times, signs = self._steps(level, self._memory, at)
        noise = self._noise(grey.ravel(), at)
        pixels, times, signs = (
            np.concatenate(pair) for pair in zip((pixels, times, signs), noise, strict=True)
        )
        self._at = at
        if self.sensor.refractory:
            kept = self._rested(pixels, times)
            pixels, times, signs = pixels[kept], times[kept], signs[kept]
        return self._events(pixels, times, signs)

    def _steps(self, level: NDArray[np.float64], memory: NDArray[np.float64], at: float) -> _Raw:
        """One event for each whole threshold between memory and level; memory follows."""
        change = level - memory
        signs = (change > 0).astype(np.int64)
        step = np.where(signs, self._thresholds[1], self._thresholds[0])
        # A change of exactly k thresholds is k events, whatever rounding made of it.
        counts = np.floor(np.abs(change) / step + 1e-9).astype(np.int64)
        active = np.flatnonzero(counts)
        counts, step, signs = counts[active], step[active], signs[active]
        memory[active] += np.where(signs, 1, -1) * counts * step
        pixels = np.repeat(active, counts)
        share = np.repeat(step / np.abs(change[active]), counts) * _ranks(counts)
        times = self._at + np.minimum(share, 1.0) * (at - self._at)
        return pixels, times, np.repeat(signs, counts)

    def _noise(self, grey: NDArray[np.generic], at: float) -> _Raw:
        sensor, chance = self.sensor, self._chance
        if not sensor.background and not sensor.shot:
            return _NOWHERE, _NOWHEN, _NOWHERE
        rate = sensor.background + sensor.shot * (1 - 0.75 * grey.astype(np.float64) / 255)
        counts = chance.poisson(rate * (at - self._at))
        pixels = np.repeat(np.arange(len(counts)), counts)
        times = chance.uniform(self._at, at, len(pixels))
        return pixels, times, chance.integers(0, 2, len(pixels))

    def _rested(self, pixels: NDArray[np.int64], times: NDArray[np.float64]) -> NDArray[np.int64]:
        """Indices of the events whose pixel had rested; the n-th of every pixel at once."""
        order = np.lexsort((times, pixels))
        sorted_pixels = pixels[order]
        _, counts = np.unique(sorted_pixels, return_counts=True)
        rank = _ranks(counts)
        kept = np.zeros(len(order), bool)
        for turn in range(1, int(counts.max(initial=0)) + 1):
            here = np.flatnonzero(rank == turn)
            where, when = sorted_pixels[here], times[order[here]]
            rested = when - self._last[where] >= self.sensor.refractory
            kept[here[rested]] = True
            self._last[where[rested]] = when[rested]
        return order[kept]

    def _events(
        self, pixels: NDArray[np.int64], times: NDArray[np.float64], signs: NDArray[np.int64]
    ) -> Events:
        order = np.argsort(times, kind="stable")
        y, x = np.divmod(pixels[order], self.width)
        micros = np.rint(times[order] * _MICRO).astype(np.int64)
        return Events(x, y, micros, signs[order], self.width, self.height)


_Raw = tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.int64]]
_NOWHERE = np.zeros(0, np.int64)
_NOWHEN = np.zeros(0, np.float64)


def _ranks(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """1..n for each n of `counts`, one after another."""
    ends = np.cumsum(counts)
    ranks = np.arange(1, int(counts.sum()) + 1) - np.repeat(ends - counts, counts)
    return np.asarray(ranks, np.int64)


def log_intensity(grey: NDArray[np.generic]) -> NDArray[np.float64]:
    """Natural logarithm of a grey level, linear below 20 where the two curves meet."""
    level = np.asarray(grey, np.float64)
    linear = level * (np.log(_KNEE) / _KNEE)
    return np.asarray(np.where(level < _KNEE, linear, np.log(np.maximum(level, 1))))


def grey(pixels: NDArray[np.uint8], width: int, height: int) -> NDArray[np.float32]:
    """The brightness of RGB `pixels` brought down to (height, width); never enlarged.

    Each is the mean of four points of its field, so the cost does not grow with the picture.
    """
    top, middle = _points(pixels.shape[0], min(height, pixels.shape[0]))
    left, centre = _points(pixels.shape[1], min(width, pixels.shape[1]))
    total = np.zeros((len(top), len(left), 3), np.uint16)
    for rows in (pixels.take(top, axis=0), pixels.take(middle, axis=0)):
        total += rows.take(left, axis=1)
        total += rows.take(centre, axis=1)
    return np.asarray(total @ _LUMA, np.float32)


def _points(length: int, parts: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The start and the middle of each of `parts` equal fields."""
    halves = np.arange(2 * parts) * length // (2 * parts)
    return halves[::2], halves[1::2]


def pooled(events: Events, columns: int, rows: int) -> NDArray[np.int64]:
    """How many events fell into each cell: (2, rows, columns), darker first, then brighter."""
    return np.asarray(binned(events, columns, rows, start=0, step=0, steps=1)[0])


def binned(
    events: Events, columns: int, rows: int, *, start: int, step: int, steps: int
) -> NDArray[np.int64]:
    """Counts per time step and cell, (steps, 2, rows, columns); times in microseconds.

    Bin n holds `start + n * step` up to, not including, the next; events outside are left out. A
    `step` of 0 puts all of them into the one bin.
    """
    x, y, p = (np.asarray(a, np.int64) for a in (events.x, events.y, events.p))
    when = (np.asarray(events.t, np.int64) - start) // step if step else np.zeros(len(x), np.int64)
    cell = (p * rows + y * rows // events.height) * columns + x * columns // events.width
    size = 2 * rows * columns
    inside = (when >= 0) & (when < steps)
    counts = np.bincount((when * size + cell)[inside], minlength=steps * size)
    return counts.reshape(steps, 2, rows, columns)


def graded(counts: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The ascending flat indices of the cells that are not 0, and their counts as values."""
    flat = counts.ravel()
    index = np.flatnonzero(flat)
    return index, flat[index]


class Novelty:
    """Lets through what a cell does not usually do: what sways or flickers all the time fades.

    Each cell keeps a running mean and mean deviation of its count over about `memory` steps. A
    count `limit` deviations above its mean gives one spike, each doubling one more, up to seven;
    what the middle cell of the grid shows at the same time (a lamp, a cloud) is taken off all.
    """

    warm_up = 5  # steps without spikes, until a mean means something

    def __init__(self, *, memory: int = 150, limit: float = 2.0, floor: float = 1.0) -> None:
        self._memory, self._limit, self._floor = memory, limit, floor
        self.reset()

    def reset(self) -> None:
        """Forget what is usual."""
        self._steps = 0
        self._mean: NDArray[np.float32] | float = 0.0
        self._spread: NDArray[np.float32] | float = 0.0

    def excess(self, counts: NDArray[np.generic]) -> NDArray[np.float32]:
        """How far each cell is above what is usual, in its own limits; then learn from it."""
        off = counts.astype(np.float32) - self._mean
        limit = self._limit * self._spread + self._floor
        above = off / limit
        self._steps += 1
        rate = max(1 / self._steps, 1 / self._memory)
        self._mean = self._mean + rate * off
        self._spread = self._spread + rate * (np.abs(off) - self._spread)
        if self._steps <= self.warm_up:
            return np.zeros_like(above)
        return np.asarray(above - max(0.0, float(np.median(above))), np.float32)

    def spikes(self, counts: NDArray[np.generic]) -> NDArray[np.int64]:
        """Spikes per cell, 0 to 7, in the shape of `counts`."""
        above = np.maximum(self.excess(counts), 0.5)
        return np.asarray(np.clip(np.floor(np.log2(above) + 1), 0, 7), np.int64)
