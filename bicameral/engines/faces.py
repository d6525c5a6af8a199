"""Finds human faces in a picture: a Model, pictures in, boxes out. It recognises nobody.

The net is BlazeFace for rear cameras, of MediaPipe (V. Bazarevsky et al., "BlazeFace", 2019), run
by OpenCV, 25 ms of one core a look. It looks at the whole picture and, if that is large, at four
overlapping parts of it, so that a face may be as small as a fifteenth of the longer side. A cat's
face passes for one. Its confidence is its own; nobody has calibrated it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

from msgspec import Meta

from bicameral.config import MemberOptions
from bicameral.engines.media import perceiver
from bicameral.engines.media.optional import library
from bicameral.engines.weights import locate
from bicameral.errors import Broken, WeightsError
from bicameral.types import Percept

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from bicameral.engines.media.picture import Pixels

WEIGHTS = "blazeface-back"
_SIDE = 256
# The net's output maps: cells of so many pixels, each with so many guesses.
_MAPS = ((16, 2), (32, 6))
_OUTPUTS = ("regressors", "classificators")
_PART = 0.6  # of each side, when looking at a part
_LARGE = 800  # pixels from which parts are looked at
_SAME = 0.3  # boxes that overlap by more are one face


class Options(MemberOptions, frozen=True, kw_only=True):
    """`weights` is a name of the catalogue or a path. Faces surer than `floor` are told.

    Of a hundred faces at 0.2 to 0.5 of the picture, 0.75 finds 79 to 98, at 0.12 65, at 0.06 none,
    and none in a hundred patches that are no face (bench/reading.py). A lower floor finds more and
    takes a cat for somebody.
    """

    weights: str = WEIGHTS
    floor: Annotated[float, Meta(ge=0, le=1)] = 0.75


class _Face(NamedTuple):
    sure: float
    left: float
    top: float
    right: float
    bottom: float


@asynccontextmanager
async def open(name: str, options: Options) -> AsyncIterator[perceiver.Perceiver]:
    """The face finder called `name`; WeightsError if its weights have not been pulled."""
    card = perceiver.card(name, options, serves="BlazeFace (rear camera)")
    async with perceiver.opened(card, partial(Finder, name, options)) as model:
        yield model


class Finder:
    """The net, and where each of its guesses lies."""

    pixels = 1_600_000

    def __init__(self, name: str, options: Options) -> None:
        self._cv = library("cv2")
        self._name = name
        self._floor = options.floor
        self._centres = _centres()
        weights = str(locate(options.weights))
        try:
            # OpenCV's newer engine loses the second of the net's outputs.
            self._net = self._cv.dnn.readNetFromTFLite(weights, self._cv.dnn.ENGINE_CLASSIC)
        except self._cv.error as error:
            raise WeightsError(f"{name} has weights that OpenCV cannot read: {error}") from error

    def look(self, picture: Pixels) -> list[Percept]:
        """Faces from the surest on."""
        height, width = picture.shape[:2]
        found = [
            face for left, top, part in _parts(picture) for face in self._faces(part, left, top)
        ]
        return [
            Percept(
                kind="face",
                confidence=round(face.sure, 4),
                box=(
                    _share(face.left, width),
                    _share(face.top, height),
                    _share(face.right, width),
                    _share(face.bottom, height),
                ),
            )
            for face in _distinct(self._cv, found)
        ]

    def _faces(self, part: Pixels, left: int, top: int) -> Iterator[_Face]:
        """Faces of one part that begins at (left, top) of the picture, in its pixels."""
        numpy = library("numpy")
        height, width = part.shape[:2]
        scale = max(width, height) / _SIDE
        boxes, scores = self._run(_squared(self._cv, part, scale))
        sure = 1 / (1 + numpy.exp(-scores.reshape(-1).clip(-80, 80)))
        for at in (sure >= self._floor).nonzero()[0]:
            x, y, wide, high = boxes.reshape(-1, 16)[at, :4]
            x, y = x + self._centres[at, 0], y + self._centres[at, 1]
            sides = (x - wide / 2, y - high / 2, x + wide / 2, y + high / 2)
            x0, y0, x1, y1 = (float(side) * scale for side in sides)
            yield _Face(float(sure[at]), left + x0, top + y0, left + x1, top + y1)

    def _run(self, square: NDArray[np.float32]) -> Any:
        try:
            self._net.setInput(square)
            return self._net.forward(_OUTPUTS)
        except self._cv.error as error:
            raise Broken(self._name, f"OpenCV failed: {error}") from error


def _centres() -> Any:
    """The middle of each guess's cell, in pixels of the net's square, as (guess, xy)."""
    places = [
        ((x + 0.5) * cell, (y + 0.5) * cell)
        for cell, guesses in _MAPS
        for y in range(_SIDE // cell)
        for x in range(_SIDE // cell)
        for _ in range(guesses)
    ]
    return library("numpy").array(places, "f4")


def _parts(picture: Pixels) -> Iterator[tuple[int, int, Pixels]]:
    """(left, top, pixels) of the whole and, if it is large, of its four corners."""
    yield 0, 0, picture
    height, width = picture.shape[:2]
    if max(height, width) < _LARGE:
        return
    high, wide = max(1, int(height * _PART)), max(1, int(width * _PART))
    for top in {0, height - high}:
        for left in {0, width - wide}:
            yield left, top, picture[top : top + high, left : left + wide]


def _squared(cv: Any, part: Pixels, scale: float) -> NDArray[np.float32]:
    """The part in the upper left of the net's square, values from -1 to 1; the rest is black."""
    numpy = library("numpy")
    height, width = part.shape[:2]
    size = max(1, round(width / scale)), max(1, round(height / scale))
    square = numpy.zeros((_SIDE, _SIDE, 3), "u1")
    square[: size[1], : size[0]] = cv.resize(part, size, interpolation=cv.INTER_AREA)
    values: NDArray[np.float32] = (square.astype("f4") / 127.5 - 1).transpose(2, 0, 1)[None]
    return values.copy()


def _distinct(cv: Any, faces: list[_Face]) -> list[_Face]:
    """Each face once, by its surest box."""
    boxes = [(f.left, f.top, f.right - f.left, f.bottom - f.top) for f in faces]
    kept = cv.dnn.NMSBoxes(boxes, [face.sure for face in faces], 0.0, _SAME) if faces else ()
    return [faces[at] for at in kept]


def _share(at: float, length: int) -> float:
    return round(min(1.0, max(0.0, at / length)), 4)
