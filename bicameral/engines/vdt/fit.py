"""Brings frames and masks to the size and the channels that the net makes.

One rule for both, so that they stay in register: the largest part around the middle that has the
wanted shape is cut out and scaled. What already has the size is not touched.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray
from PIL import Image

from bicameral.engines.vdt.asking import refused

Frame = NDArray[np.uint8]
Floats = NDArray[np.float32]
_SLACK = 1e-6  # pixels: so much of a rounding covers none


class Shape(Struct, frozen=True):
    """Of a frame: pixels, and channels (1 is grey, 3 are red, green and blue)."""

    height: int
    width: int
    channels: int

    def fit(self, frame: Frame, param: str) -> Frame:
        """`frame` (h, w, c) as (height, width, channels); RequestError if the channels differ."""
        frame = self._coloured(frame, param)
        if frame.shape[:2] == (self.height, self.width):
            return frame
        box = self._box(frame.shape[0], frame.shape[1])
        larger = frame.shape[0] > self.height and frame.shape[1] > self.width
        how = Image.Resampling.BOX if larger else Image.Resampling.BILINEAR  # as in training
        planes = [
            np.asarray(Image.fromarray(plane).resize((self.width, self.height), how, box))
            for plane in np.moveaxis(np.ascontiguousarray(frame), 2, 0)
        ]
        return np.stack(planes, axis=-1)

    def fit_mask(self, mask: Floats) -> Floats:
        """`mask` (h, w) as (height, width); a pixel gets the most of what lies under it."""
        left, top, right, bottom = self._box(mask.shape[0], mask.shape[1])
        mask = _most(mask, top, bottom, self.height)
        return _most(mask.T, left, right, self.width).T

    def _box(self, height: int, width: int) -> tuple[float, float, float, float]:
        scale = min(height / self.height, width / self.width)
        tall, wide = self.height * scale, self.width * scale
        left, top = (width - wide) / 2, (height - tall) / 2
        return left, top, left + wide, top + tall

    def _coloured(self, frame: Frame, param: str) -> Frame:
        match frame.shape[2], self.channels:
            case have, want if have == want:
                return frame
            case 3, 1:
                return np.asarray(Image.fromarray(frame).convert("L"))[..., None]
            case 1, 3:
                return np.repeat(frame, 3, axis=2)
        raise refused(
            param, f"has {frame.shape[2]} channels, and the net makes clips of {self.channels}"
        )


def _most(values: NDArray[Any], start: float, end: float, count: int) -> NDArray[Any]:
    """`count` rows, each the greatest of the rows it covers between `start` and `end`."""
    edges = np.linspace(start, end, count + 1)
    spans = [(math.floor(low + _SLACK), math.ceil(high - _SLACK)) for low, high in pairwise(edges)]
    rows = [values[low : max(low + 1, high)] for low, high in spans]
    return np.stack([row.max(axis=0) for row in rows])
