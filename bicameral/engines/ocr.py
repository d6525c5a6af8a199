"""Reads the text in pictures, Chinese and English: a Model, pictures in, lines of text out.

The nets are PP-OCRv6 (small), which come inside the package rapidocr; nothing is downloaded. Text
is searched for in the picture at its own size, up to `side`, which takes a fifteenth of the time
that rapidocr's own enlarging takes. Lines come from top to bottom and, at one height, from left to
right; columns are not told apart. The confidence of a line is the mean of its characters'.
"""

from __future__ import annotations

import logging
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

from msgspec import Meta

from bicameral.config import MemberOptions
from bicameral.engines.media import perceiver
from bicameral.engines.media.optional import library, present
from bicameral.errors import Broken, ConfigError
from bicameral.types import Percept

if TYPE_CHECKING:
    from bicameral.engines.media.picture import Pixels

_MODELS = {
    "Det": "PP-OCRv6_det_small.onnx",
    "Rec": "PP-OCRv6_rec_small.onnx",
    "Cls": "ch_ppocr_mobile_v2.0_cls_mobile.onnx",
}


class Options(MemberOptions, frozen=True, kw_only=True):
    """`side`: the longer side, in pixels, at which text is searched for; a larger one finds
    smaller print on large pages, its time grows with the square.

    Lines below `floor` are left out. More `threads` than one pay on idle machines only.
    """

    side: Annotated[int, Meta(ge=320, le=4096)] = 1280
    floor: Annotated[float, Meta(ge=0, le=1)] = 0.5
    threads: Annotated[int, Meta(ge=1, le=256)] = 1


_WELL_READ = 0.85  # characters of upright text are surer than that, upside down they are not


class _Line(NamedTuple):
    left: float
    top: float
    right: float
    bottom: float
    text: str
    sure: float

    @property
    def height(self) -> float:
        return self.bottom - self.top


@asynccontextmanager
async def open(name: str, options: Options) -> AsyncIterator[perceiver.Perceiver]:
    """The reader called `name`; ConfigError if its library is not installed."""
    present("rapidocr")
    card = perceiver.card(name, options, serves="PP-OCRv6 small")
    async with perceiver.opened(card, partial(Reader, name, options), late=True) as model:
        yield model


class Reader:
    """The three nets: where lines are, which way up they are, what they say."""

    pixels = 6_000_000

    def __init__(self, name: str, options: Options) -> None:
        self._name = name
        self._side = options.side
        self._floor = options.floor
        rapidocr = _imported()
        self._faults = _faults(rapidocr)
        self._read = rapidocr.RapidOCR(params=_params(rapidocr, options))

    def look(self, picture: Pixels) -> list[Percept]:
        """Every line, in reading order; a long picture is read piece by piece."""
        height, width = picture.shape[:2]
        return [
            _percept(line, (left, top), (width, height))
            for left, top, piece in _pieces(picture, self._side)
            for line in _in_order(self._lines(piece))
        ]

    def _lines(self, piece: Pixels) -> list[_Line]:
        """Lines in no certain order, in pixels of the piece.

        The net that tells which way up a line is takes long upright ones for turned, and so is
        asked only where reading went badly.
        """
        upright = self._found(piece, turn=False)
        lines = max(upright, self._found(piece, turn=True), key=_sure) if _bad(upright) else upright
        return [line for line in lines if line.sure >= self._floor]

    def _found(self, piece: Pixels, *, turn: bool) -> list[_Line]:
        try:
            bgr = piece[:, :, ::-1].copy()
            found = self._read(bgr, use_cls=turn, text_score=0.0)
        except self._faults as error:
            raise Broken(self._name, f"rapidocr failed: {error}") from error
        if found.txts is None:
            return []
        corners = (
            *found.boxes.min(axis=1).T.tolist(),
            *found.boxes.max(axis=1).T.tolist(),
        )
        return list(map(_Line, *corners, found.txts, found.scores))


def _sure(lines: list[_Line]) -> float:
    """The mean confidence of the characters."""
    characters = sum(len(line.text) for line in lines)
    return sum(line.sure * len(line.text) for line in lines) / max(1, characters)


def _bad(lines: list[_Line]) -> bool:
    return bool(lines) and _sure(lines) < _WELL_READ


def _imported() -> Any:
    """rapidocr without the log handler that it installs when it is imported."""
    module = library("rapidocr.main")
    log = logging.getLogger("RapidOCR")
    log.handlers.clear()
    log.propagate = True
    return module


def _params(rapidocr: Any, options: Options) -> dict[str, Any]:
    """rapidocr's settings; models by path, so that it never looks for one elsewhere."""
    folder = Path(rapidocr.__file__).with_name("models")
    for file in _MODELS.values():
        if not (folder / file).is_file():
            raise ConfigError(f"rapidocr has no {file}: run `pip install 'bicameral[see]'`")
    cores = os.cpu_count() or 1  # asked for more, rapidocr would take all there are
    return {
        **{f"{net}.model_path": str(folder / file) for net, file in _MODELS.items()},
        "Det.limit_type": "max",
        "Det.limit_side_len": options.side,
        "Global.use_preprocess_img": False,
        "Global.log_level": "critical",
        "EngineConfig.onnxruntime.intra_op_num_threads": min(options.threads, cores),
        "EngineConfig.onnxruntime.inter_op_num_threads": 1,
    }


def _faults(rapidocr: Any) -> tuple[type[Exception], ...]:
    """What rapidocr lets through from the libraries under it."""
    runtime = library("rapidocr.inference_engine.onnxruntime.main")
    return (runtime.ONNXRuntimeError, rapidocr.cv2.error, ValueError, ArithmeticError, LookupError)


def _pieces(picture: Pixels, side: int) -> Iterator[tuple[int, int, Pixels]]:
    """(left, top, pixels): the picture, or pieces of a long one, cut where it is plainest.

    A wide one is cut later than a tall one, as a cut goes through its lines.
    """
    height, width = picture.shape[:2]
    tall = height >= width
    along = picture if tall else picture.transpose(1, 0, 2)
    most = max(side if tall else 3 * side, 2 * along.shape[1])
    start = 0
    while start < len(along):
        end = _cut(along, start, most)
        piece = along[start:end]
        yield (0, start, piece) if tall else (start, 0, piece.transpose(1, 0, 2))
        start = end


def _cut(along: Pixels, start: int, most: int) -> int:
    """Where the piece from row `start` ends: at the plainest row of its last fifth."""
    if start + most >= len(along):
        return len(along)
    least = start + most - most // 5
    return least + int(along[least : start + most].std(axis=(1, 2)).argmin()) + 1


def _in_order(lines: list[_Line]) -> list[_Line]:
    """Rows from top to bottom; a row is what lies within half a line of its first."""
    rows: list[list[_Line]] = []
    for line in sorted(lines, key=lambda line: line.top + line.bottom):
        if rows and line.top + line.bottom < 2 * rows[-1][0].bottom - rows[-1][0].height / 2:
            rows[-1].append(line)
        else:
            rows.append([line])
    return [line for row in rows for line in sorted(row, key=lambda line: line.left)]


def _percept(line: _Line, at: tuple[int, int], size: tuple[int, int]) -> Percept:
    """The line as a percept; its piece begins `at` (left, top) of a picture of `size`."""
    across = ((at[0] + x) / size[0] for x in (line.left, line.right))
    down = ((at[1] + y) / size[1] for y in (line.top, line.bottom))
    left, right = (round(min(1.0, max(0.0, share)), 4) for share in across)
    top, bottom = (round(min(1.0, max(0.0, share)), 4) for share in down)
    sure = round(float(line.sure), 4)
    return Percept(kind="text", text=line.text, confidence=sure, box=(left, top, right, bottom))
