"""A picture of samples for the eye: for each task what was true, what was given, what was made."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

_ROWS = ("truth", "given", "made")
_MOST = 20  # frames side by side; of longer clips as many, evenly spread
_LEAST = 64  # pixels a side that a frame is shown at, at least
_GAP, _MARGIN = 2, 108
_PAPER, _INK, _UNSEEN = (216, 216, 222), (20, 20, 20), (170, 170, 190)  # frames may be white


class Strip(Struct, frozen=True):
    """`truth` and `made` (T, H, W, C) as uint8; `mask` (T, H, W), above 0 where it was made."""

    name: str
    truth: NDArray[np.uint8]
    mask: NDArray[np.float32]
    made: NDArray[np.uint8]


def write(path: Path, strips: Sequence[Strip]) -> None:
    """All strips, one under another, as a PNG that is there whole or not at all."""
    partly = path.with_name(f".{path.name}.part")
    drawn(strips).save(partly, "PNG")
    partly.replace(path)


def drawn(strips: Sequence[Strip]) -> Picture:
    """The picture; frames run to the right, three rows to a strip."""
    from PIL import Image, ImageDraw

    frames, high, wide = strips[0].truth.shape[:3]
    chosen = np.linspace(0, frames - 1, min(frames, _MOST)).round().astype(int)
    zoom = max(1, -(-_LEAST // min(high, wide)))
    tall, broad = high * zoom + _GAP, wide * zoom + _GAP
    block = 3 * tall + 2 * _GAP
    size = _MARGIN + len(chosen) * broad, len(strips) * block
    sheet = np.full((size[1], size[0], 3), _PAPER, np.uint8)
    for number, strip in enumerate(strips):
        for row, film in enumerate((strip.truth, _given(strip), strip.made)):
            top = number * block + row * tall
            for column, frame in enumerate(_colored(film)[chosen]):
                left = _MARGIN + column * broad
                large = frame.repeat(zoom, 0).repeat(zoom, 1)
                sheet[top : top + high * zoom, left : left + wide * zoom] = large
    picture = Image.fromarray(sheet)
    pen = ImageDraw.Draw(picture)
    for number, strip in enumerate(strips):
        for row, name in enumerate(_ROWS):
            text = f"{strip.name} {name}" if row == 0 else name
            pen.text((4, number * block + row * tall + 2), text, fill=_INK)
    return picture


def _given(strip: Strip) -> NDArray[np.uint8]:
    film = _colored(strip.truth).copy()
    film[strip.mask > 0] = _UNSEEN
    return film


def _colored(film: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.repeat(film, 3, axis=-1) if film.shape[-1] == 1 else film[..., :3]
