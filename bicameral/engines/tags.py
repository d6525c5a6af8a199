"""Says what is in a picture, as the names of ImageNet-1k's classes: a Model, pictures in, tags out.

The net is EfficientNet-Lite0: 4.7 million parameters, 12 ms of one core a picture. It knows a
thousand things, many of them breeds of dogs, and always gives the nearest of them: on what it never
saw (documents, charts, microscopy) it can be wrong at 0.6. Its confidence is the softmax, which
nobody has calibrated.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from importlib.resources import files
from typing import TYPE_CHECKING, Annotated, Any

from msgspec import Meta

from bicameral.config import MemberOptions
from bicameral.engines import onnx
from bicameral.engines.media import checkpoint, efficientnet, perceiver
from bicameral.engines.media.optional import library
from bicameral.engines.weights import locate
from bicameral.types import Percept

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from bicameral.engines.media.picture import Pixels

WEIGHTS = "efficientnet-lite0"
_SCALED = 256  # the shorter side, of which the net sees the middle 224
_ELONGATED = 1.5  # a picture longer than this is looked at in several places
_MOST_VIEWS = 5


class Options(MemberOptions, frozen=True, kw_only=True):
    """`weights` is a name of the catalogue or a path. Tags below `floor` are left out.

    At most `most` tags a picture are told. More `threads` than one pay on idle machines only.
    """

    weights: str = WEIGHTS
    floor: Annotated[float, Meta(ge=0, le=1)] = 0.3
    most: Annotated[int, Meta(ge=1, le=100)] = 3
    threads: Annotated[int, Meta(ge=1, le=256)] = 1


@asynccontextmanager
async def open(name: str, options: Options) -> AsyncIterator[perceiver.Perceiver]:
    """The tagger called `name`; WeightsError if its weights have not been pulled."""
    card = perceiver.card(name, options, serves="EfficientNet-Lite0")
    async with perceiver.opened(card, partial(Tagger, name, options)) as model:
        yield model


class Tagger:
    """The net and the names of its classes."""

    pixels = 1_000_000

    def __init__(self, name: str, options: Options) -> None:
        tensors = checkpoint.read(locate(options.weights).read_bytes())
        self._session = onnx.Session(name, efficientnet.onnx(tensors), threads=options.threads)
        self._names = names()
        self._floor = options.floor
        self._most = options.most

    def look(self, picture: Pixels) -> list[Percept]:
        """Tags from the most to the least likely; of several views the surest counts."""
        seen = [self._session.run(view)[0] for view in _views(picture)]
        likely = library("numpy").max(seen, axis=0)
        best = (-likely).argsort()[: self._most]
        return [
            Percept(kind="tag", text=self._names[at], confidence=round(float(likely[at]), 4))
            for at in best
            if likely[at] >= self._floor
        ]


def names() -> list[str]:
    """The name of each class, by its number."""
    text = files("bicameral.engines.media").joinpath("imagenet.txt").read_text(encoding="utf-8")
    return [line for line in text.splitlines() if not line.startswith("#")]


def _views(picture: Pixels) -> list[NDArray[np.float32]]:
    """The middle square, or squares all along an elongated picture, as the net takes them."""
    pillow, side = library("PIL.Image"), efficientnet.SIDE
    image = pillow.fromarray(picture)
    scale = _SCALED / min(image.size)
    # A hair's breadth, thousands long, would not fit into memory when scaled up.
    width, height = (min(round(length * scale), side * _MOST_VIEWS * 2) for length in image.size)
    image = image.resize((width, height), pillow.Resampling.BICUBIC, reducing_gap=3.0)
    return [_view(image, place) for place in _places(max(width, height) / min(width, height))]


def _places(ratio: float) -> list[float]:
    """Where to look along the longer side, as shares of the way."""
    if ratio <= _ELONGATED:
        return [0.5]
    count = min(_MOST_VIEWS, round(ratio + 0.5))
    return [at / (count - 1) for at in range(count)]


def _view(image: Any, place: float) -> NDArray[np.float32]:
    """The square at `place` of the longer side, in the middle of the shorter."""
    numpy, side = library("numpy"), efficientnet.SIDE
    wide = image.width > image.height
    left = round((image.width - side) * (place if wide else 0.5))
    top = round((image.height - side) * (0.5 if wide else place))
    square = numpy.asarray(image.crop((left, top, left + side, top + side)), numpy.float32)
    view: NDArray[np.float32] = ((square - 127) / 128).transpose(2, 0, 1)[None].copy()
    return view
