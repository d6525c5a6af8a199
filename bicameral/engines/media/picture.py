"""Turns an encoded picture into pixels, as people see it, in bounded memory.

Taken: PNG, JPEG, WebP and GIF; of a moving picture the first frame. The header is measured before
anything is unpacked. Pillow's own limits are left as they are; ours is tighter.
"""

from __future__ import annotations

import io
import math
import struct
import threading
import zlib
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

from bicameral.engines.media.header import Header, measure
from bicameral.engines.media.optional import library
from bicameral.errors import RequestError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Pixels = NDArray[np.uint8]

MAX_PIXELS = 40_000_000
_FORMATS = ("PNG", "JPEG", "WEBP", "GIF")
# A progressive JPEG has about ten scans; each takes as long as the whole picture.
_MAX_SCANS = 64
_LARGE = 4_000_000  # pixels
# A picture of 40 million pixels takes 300 MB for a moment: only one such at a time.
_one_large = threading.Lock()
# What Pillow raises for files that are cut or damaged.
_DAMAGED = (
    OSError,
    SyntaxError,
    ValueError,
    LookupError,
    ArithmeticError,
    EOFError,
    struct.error,
    zlib.error,
    Warning,
)
_ORIENTATION = 0x0112
# EXIF orientation to the name of Pillow's Transpose that undoes it.
_TURNS = {
    2: "FLIP_LEFT_RIGHT",
    3: "ROTATE_180",
    4: "FLIP_TOP_BOTTOM",
    5: "TRANSPOSE",
    6: "ROTATE_270",
    7: "TRANSVERSE",
    8: "ROTATE_90",
}


def decode(data: bytes, *, most: int = MAX_PIXELS, name: str = "the picture") -> Pixels:
    """RGB pixels as (height, width, 3) uint8; made smaller where there are more than `most`.

    Turned as its EXIF says; what is see-through lies on white. Colours are taken as sRGB. Raises
    RequestError, which calls the picture `name`, if it is of another kind, has more than
    MAX_PIXELS, or is damaged.
    """
    header = _checked(data, name)
    pillow = library("PIL.Image")
    with _unpacking(header):
        try:
            with pillow.open(io.BytesIO(data), formats=_FORMATS) as image:
                _bounded(image.width, image.height, name)
                return _pixels(pillow, image, most)
        except pillow.DecompressionBombError as error:
            raise _too_large(name) from error
        except _DAMAGED as error:
            raise _refused(f"{name} is damaged or cut short ({_line(error)})") from error


def _checked(data: bytes, name: str) -> Header:
    header = measure(data)
    if header is None:
        raise _refused(f"{name} is no whole PNG, JPEG, WebP or GIF")
    _bounded(header.width, header.height, name)
    if header.media_type == "image/jpeg" and data.count(b"\xff\xda") > _MAX_SCANS:
        raise _refused(f"{name} has too many JPEG scans; save it anew")
    return header


def _bounded(width: int, height: int, name: str) -> None:
    if width * height > MAX_PIXELS:
        raise _too_large(f"{name}, {width} x {height} pixels,")


def _too_large(what: str) -> RequestError:
    return RequestError(
        f"{what} is too large: at most {MAX_PIXELS} pixels are unpacked; make it smaller",
        param="messages",
        code="image_too_large",
    )


def _refused(why: str) -> RequestError:
    return RequestError(why, param="messages", code="invalid_image")


def _unpacking(header: Header) -> AbstractContextManager[object]:
    """Held while the picture is unpacked."""
    return _one_large if header.width * header.height > _LARGE else nullcontext()


def _pixels(pillow: Any, image: Any, most: int) -> Pixels:
    numpy = library("numpy")
    size = _size(image.size, most)
    image.draft("RGB", size)  # a JPEG can be unpacked at a half, a quarter or an eighth
    image.load()
    turn = _turn(image)
    image = _eight_bit(pillow, numpy, image)
    if size < image.size:
        image = image.resize(size, pillow.Resampling.BICUBIC, reducing_gap=2.0)
    image = _opaque(pillow, image)
    if turn:
        image = image.transpose(pillow.Transpose[turn])
    pixels: Pixels = numpy.array(image)
    return pixels


def _turn(image: Any) -> str | None:
    """How to turn the picture; one whose EXIF cannot be read stays as it is."""
    try:
        return _TURNS.get(image.getexif().get(_ORIENTATION, 1))
    except _DAMAGED:
        return None


def _eight_bit(pillow: Any, numpy: Any, image: Any) -> Any:
    """The picture in a mode that can be scaled; of 16 bits the upper eight are kept."""
    if image.mode.startswith("I"):
        high = numpy.clip(numpy.asarray(image), 0, 0xFFFF) >> 8
        return pillow.fromarray(high.astype(numpy.uint8))
    if image.has_transparency_data:
        return image.convert("RGBA")
    return image.convert("L" if image.mode in ("1", "L") else "RGB")


def _size(size: tuple[int, int], most: int) -> tuple[int, int]:
    """Width and height with at most about `most` pixels, in proportion."""
    scale = min(1.0, math.sqrt(most / (size[0] * size[1])))
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def _opaque(pillow: Any, image: Any) -> Any:
    if image.mode != "RGBA":
        return image.convert("RGB")
    paper = pillow.new("RGBA", image.size, "white")
    paper.alpha_composite(image)
    return paper.convert("RGB")


def _line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
