"""What a request wants of a net, told in two steps: its words before it waits, its files after.

The frames given and the mask come out at the size of the clip that is made. A mask is 1 where the
clip is to be generated; a token is generated if any pixel under it is.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from bicameral.engines.media import picture
from bicameral.engines.vdt import arrays
from bicameral.engines.vdt.asking import REFERENCE, Asked, refused
from bicameral.engines.vdt.film import Clip, Film, decode
from bicameral.engines.vdt.fit import Floats, Shape
from bicameral.engines.vdt.masks import Mask
from bicameral.errors import RequestError, Unsupported
from bicameral.types import Image

MASK_BYTES = 8 * 2**20
_UNPACKED = 2**28  # bytes of a mask, at most
_STRIDE = 4  # every so manieth frame of a whole clip is kept to be interpolated, as in the paper


class Wish(Struct, frozen=True, kw_only=True, eq=False):
    """`film` (frames, height, width, channels) is black where nothing is known of it.

    `mask` (frames, rows, columns) is over tokens, `kept` (frames, height, width) true for the
    pixels that come out as they went in. Only the first `frames` are asked for.
    """

    film: Film
    mask: Mask
    kept: NDArray[np.bool_]
    frames: int
    fps: float


def wish(asked: Asked) -> Wish:
    """With its files unpacked; RequestError that names the field of one that is wrong."""
    habits = asked.habits
    shape = Shape(asked.height, asked.width, habits.design.channels)
    clip = _references(asked, shape)
    given = 0 if clip is None else len(clip.film)
    frames = asked.total(given)
    fps = asked.fps or (clip and clip.fps) or habits.fps
    film = np.zeros((frames, shape.height, shape.width, shape.channels), np.uint8)
    fresh = np.ones(film.shape[:3], np.float32)
    if clip is not None:
        _place(asked, clip, film, fresh, shape)
    if not fresh.any():
        raise refused(
            "mask" if asked.task == "complete" else "frames",
            "all of the clip is given, and nothing is left to generate",
        )
    return _whole(asked, film, fresh, fps)


def _whole(asked: Asked, film: Film, fresh: Floats, fps: float) -> Wish:
    """For a faithful net, which makes so many frames and no fewer, with more of them to make."""
    frames, design = len(film), asked.habits.design
    lacking = max(0, design.frames - frames) if design.kind == "faithful" else 0
    film = np.pad(film, ((0, lacking), (0, 0), (0, 0), (0, 0)))
    fresh = np.pad(fresh, ((0, lacking), (0, 0), (0, 0)), constant_values=1)
    _, height, width = fresh.shape
    cell = design.cell
    cells = fresh.reshape(len(fresh), height // cell, cell, width // cell, cell)
    return Wish(film=film, mask=cells.max(axis=(2, 4)), kept=fresh == 0, frames=frames, fps=fps)


def _references(asked: Asked, shape: Shape) -> Clip | None:
    if not asked.references:
        return None
    first, most = asked.references[0], asked.habits.limits.frames
    if not isinstance(first, Image):
        return decode(
            first.data or b"", fit=lambda x: shape.fit(x, REFERENCE), most=most, param=REFERENCE
        )
    if len(asked.references) > most:
        raise refused(REFERENCE, f"has more than {most} pictures: send fewer")
    found: list[Film] = []
    size = (0, 0)
    for index, each in enumerate(asked.references):
        pixels = picture.decode(each.data or b"", name=f"picture {index + 1}")
        size = size if found else (pixels.shape[0], pixels.shape[1])
        found.append(shape.fit(pixels, REFERENCE))
    return Clip(np.stack(found), None, size)


def _place(asked: Asked, clip: Clip, film: Film, fresh: Floats, shape: Shape) -> None:
    """Put what is given where it belongs, and mark what is to be generated."""
    frames, given = len(film), len(clip.film)
    if asked.task == "complete":
        if given != frames:
            raise refused("frames", f"complete wants the whole clip: {given} frames were sent")
        film[:] = clip.film
        fresh[:] = _mask(asked, clip.size, frames, shape)
        return
    places = _places(asked, given, frames)
    film[places] = clip.film[places] if given == frames else clip.film
    fresh[places] = 0


def _places(asked: Asked, given: int, frames: int) -> Sequence[int]:
    """The numbers of the frames that are given; where the whole clip was sent, those kept of it."""
    if given > frames:
        raise refused("frames", f"{given} frames are given, so the clip cannot have {frames}")
    match asked.task:
        case "predict":
            return range(given)
        case "backward":
            return range(frames - given, frames)
    if asked.keep is not None:
        places = list(asked.keep)
    elif asked.task == "interpolate":
        places = _even(given, frames)
    else:
        places = [0]
    if given not in (len(places), frames):
        raise refused("keep", f"names {len(places)} frames, and {given} are given")
    if max(places) >= frames:
        raise refused("keep", f"frame {max(places)} is beyond the {frames} of the clip, from 0 on")
    return places


def _even(given: int, frames: int) -> list[int]:
    """Evenly from the first frame to the last; of a whole clip every fourth."""
    if given == frames:
        return list(range(0, frames, _STRIDE))
    if given < 2:
        raise refused("keep", "one frame is nothing to interpolate between: give two or more")
    return np.linspace(0, frames - 1, given).round().astype(int).tolist()


# --- masks -------------------------------------------------------------------------------------


def _mask(asked: Asked, size: tuple[int, int], frames: int, shape: Shape) -> Floats:
    """(frames, height, width) of the clip that is made."""
    mask = _read(asked.mask or b"", frames)
    wanted = (shape.height, shape.width)
    own = mask.shape[1], mask.shape[2]
    if own not in (wanted, size):
        raise refused(
            "mask",
            f"is {own[1]} x {own[0]}; make it as large as the clip sent, {size[1]} x {size[0]}, "
            f"or the clip asked for, {wanted[1]} x {wanted[0]}",
        )
    if asked.habits.design.kind == "faithful" and ((mask > 0) & (mask < 1)).any():
        raise Unsupported(
            "mask: a faithful net generates a pixel or keeps it: only 0 and 1 are honoured",
            param="mask",
            code="unsupported",
        )
    return mask if own == wanted else np.stack([shape.fit_mask(each) for each in mask])


def _read(data: bytes, frames: int) -> Floats:
    """(frames, height, width), as it was sent; a picture is 1 where it is brighter than half."""
    if len(data) > MASK_BYTES:
        raise refused("mask", f"has {len(data)} bytes; at most {MASK_BYTES} are read")
    told = data[:4] == arrays.NPZ or data[:6] == arrays.NPY
    values = _numbers(data) if told else _drawn(data)
    if values.ndim == 2:
        return np.repeat(values[None], frames, axis=0)
    if values.ndim != 3 or len(values) != frames or not values.size:
        raise refused(
            "mask", f"has a shape of {values.shape}; write ({frames}, height, width), as the clip"
        )
    return values


def _numbers(data: bytes) -> Floats:
    found = arrays.read(data, key="mask", most=_UNPACKED, param="mask").get("mask")
    if found is None:
        raise refused("mask", "has several arrays, and none of them is 'mask'")
    if not ((found >= 0) & (found <= 1)).all():
        raise refused("mask", "has values outside 0 to 1: 1 generates, 0 keeps")
    return found.astype(np.float32)


def _drawn(data: bytes) -> Floats:
    try:
        drawn = picture.decode(data, name="the mask")
    except RequestError as error:
        raise refused("mask", f"is neither .npy, .npz nor a picture ({error})") from error
    return (drawn.mean(axis=2) >= 128).astype(np.float32)
