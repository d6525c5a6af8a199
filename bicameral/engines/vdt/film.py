"""Clips as files and back: mp4, gif, npz, and a png of all frames in a row.

A clip is uint8 (frames, height, width, channels). npz is exact, and takes any number of channels;
png is exact too; gif has 256 colours a frame; mp4 is lossy, and padded by its own edge to even
sizes. What kind of file was sent is told by its first bytes, never by what its sender says.
"""

from __future__ import annotations

import io
import struct
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray
from PIL import Image

from bicameral.engines.media.header import measure
from bicameral.engines.media.optional import library
from bicameral.engines.vdt import arrays
from bicameral.engines.vdt.asking import refused
from bicameral.errors import ConfigError, Unsupported
from bicameral.types import Video, VideoFormat

Film = NDArray[np.uint8]
Fit = Callable[[NDArray[np.uint8]], NDArray[np.uint8]]

MOST_PIXELS = 4096 * 2304
"""A frame of more pixels is not unpacked."""
MOST_BYTES = 2**28
"""An npz file of more is not either."""
_CODECS = ("vp09", "avc1", "mp4v")  # browsers play the first two
_MATROSKA = b"\x1aE\xdf\xa3"
_DAMAGED = (OSError, SyntaxError, ValueError, LookupError, EOFError, struct.error)


class Clip(Struct, frozen=True, eq=False):
    """What a file held: `film` as `fit` made it, frames a second if told, its own height, width."""

    film: Film
    fps: float | None
    size: tuple[int, int]


def encode(film: Film, fps: float, kind: VideoFormat) -> Video:
    """The clip as a file; Unsupported, naming `format`, if that takes no clip of its channels."""
    if kind == "npz":
        return Video(data=_npz(film, fps), media_type="application/x-npz")
    if film.shape[3] not in (1, 3):
        raise Unsupported(
            f"format: {kind} takes no clip of {film.shape[3]} channels: ask for npz",
            param="format",
            code="unsupported",
        )
    match kind:
        case "gif":
            return Video(data=_gif(film, fps), media_type="image/gif")
        case "png":
            return Video(data=_strip(film), media_type="image/png")
        case "mp4":
            return Video(data=_mp4(film, fps), media_type="video/mp4")


def _npz(film: Film, fps: float) -> bytes:
    out = io.BytesIO()
    np.savez_compressed(out, frames=film, fps=np.float64(fps))
    return out.getvalue()


def _picture(frame: Film) -> Image.Image:
    return Image.fromarray(frame[..., 0] if frame.shape[2] == 1 else frame)


def _strip(film: Film) -> bytes:
    """All frames from left to right."""
    out = io.BytesIO()
    _picture(np.concatenate(list(film), axis=1)).save(out, "PNG")
    return out.getvalue()


def _gif(film: Film, fps: float) -> bytes:
    """Endless; a frame lasts whole hundredths of a second, two at least, or browsers slow down.

    Equal frames that follow one another become one that lasts as long.
    """
    out = io.BytesIO()
    first, *more = map(_picture, film)
    lasts = max(20, round(100 / fps) * 10)
    first.save(out, "GIF", save_all=True, append_images=more, duration=lasts, loop=0)
    return out.getvalue()


def _mp4(film: Film, fps: float) -> bytes:
    cv2 = library("cv2", extra="video")
    tall, wide = film.shape[1] % 2, film.shape[2] % 2  # chroma is kept for pairs of pixels
    film = np.pad(film, ((0, 0), (0, tall), (0, wide), (0, 0)), mode="edge")
    turned = np.ascontiguousarray(np.broadcast_to(film, (*film.shape[:3], 3))[..., ::-1])
    with tempfile.TemporaryDirectory(prefix="bicameral-clip-") as folder:
        path = Path(folder) / "clip.mp4"
        writer = _writer(cv2, path, fps, (film.shape[2], film.shape[1]))
        for frame in turned:
            writer.write(frame)
        writer.release()
        return path.read_bytes()


def _writer(cv2: Any, path: Path, fps: float, size: tuple[int, int]) -> Any:
    """For the best codec that this OpenCV has."""
    for codec in _CODECS:
        writer = cv2.VideoWriter(
            str(path), cv2.CAP_FFMPEG, cv2.VideoWriter_fourcc(*codec), fps, size
        )
        if writer.isOpened():
            return writer
    raise ConfigError(
        "this OpenCV can write no mp4: install opencv-python-headless, or ask for npz or gif"
    )


def decode(data: bytes, *, fit: Fit, most: int, param: str) -> Clip:
    """The clip in an mp4, webm, avi, gif, npz or npy file; each frame (h, w, c) goes through `fit`.

    npz: an array `frames`, or its only one, uint8 (frames, height, width, channels), grey also
    without the last, and `fps` if told. RequestError naming `param` if it is no such file, is
    damaged, has more than `most` frames or frames of more than MOST_PIXELS.
    """
    if data[4:8] == b"ftyp" or data[:4] == _MATROSKA or data[:4] + data[8:12] == b"RIFFAVI ":
        return _collected(_moving(data, param), fit, most, param)
    if data[:4] == b"GIF8":
        return _collected(_animated(data, param), fit, most, param)
    if data[:4] == arrays.NPZ or data[:6] == arrays.NPY:
        return _array(data, fit, most, param)
    raise refused(param, "is no clip: send MP4, WebM, AVI, GIF or NPZ", "invalid_video")


def _collected(
    frames: Iterator[tuple[float | None, Film]], fit: Fit, most: int, param: str
) -> Clip:
    kept: list[Film] = []
    fps, size = None, (0, 0)
    for rate, frame in frames:
        if len(kept) == most:
            raise refused(param, f"has more than {most} frames: send a part of it")
        if not kept:
            fps, size = rate, (frame.shape[0], frame.shape[1])
        kept.append(fit(frame))
    if not kept:
        raise refused(param, "holds no frame that can be decoded", "invalid_video")
    return Clip(np.stack(kept), fps, size)


def _moving(data: bytes, param: str) -> Iterator[tuple[float | None, Film]]:
    cv2 = library("cv2", extra="video")
    with _named(data) as path, _opened(cv2, path) as capture:
        width, height = (
            int(capture.get(key)) for key in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT)
        )
        _bounded(height, width, param)
        told = capture.get(cv2.CAP_PROP_FPS)
        rate = told if 0 < told < 1000 else None
        while True:
            good, frame = capture.read()
            if not good:
                return
            _bounded(frame.shape[0], frame.shape[1], param)
            yield rate, frame[..., ::-1]


@contextmanager
def _named(data: bytes) -> Iterator[str]:
    """FFmpeg opens files by name only."""
    with tempfile.NamedTemporaryFile(prefix="bicameral-clip-") as file:
        file.write(data)
        file.flush()
        yield file.name


@contextmanager
def _opened(cv2: Any, path: str) -> Iterator[Any]:
    capture = cv2.VideoCapture(path, cv2.CAP_FFMPEG)
    try:
        yield capture
    finally:
        capture.release()


def _animated(data: bytes, param: str) -> Iterator[tuple[float | None, Film]]:
    header = measure(data)
    if header is None:
        raise refused(param, "is a damaged GIF", "invalid_video")
    _bounded(header.height, header.width, param)
    try:
        with Image.open(io.BytesIO(data), formats=["GIF"]) as image:
            for index in count():
                try:
                    image.seek(index)
                except EOFError:
                    return
                lasts = image.info.get("duration") or 0
                yield 1000 / lasts if lasts else None, np.asarray(image.convert("RGB"))
    except _DAMAGED as error:
        raise refused(param, f"is a damaged GIF ({error})", "invalid_video") from error


def _array(data: bytes, fit: Fit, most: int, param: str) -> Clip:
    found = arrays.read(data, key="frames", most=MOST_BYTES, param=param)
    film = found.get("frames")
    if film is None:
        raise refused(param, "has several arrays, and none of them is 'frames'")
    film = film[..., None] if film.ndim == 3 else film
    if film.ndim != 4 or film.dtype != np.uint8 or not film.size or film.shape[3] > 4:
        raise refused(
            param, f"is {film.dtype} {film.shape}, not uint8 (frames, height, width, channels)"
        )
    _bounded(film.shape[1], film.shape[2], param)
    rate = float(found["fps"].item()) if "fps" in found and found["fps"].size == 1 else 0.0
    told = rate if 0 < rate < 1000 else None
    return _collected(((told, frame) for frame in film), fit, most, param)


def _bounded(height: int, width: int, param: str) -> None:
    if height * width > MOST_PIXELS:
        raise refused(
            param, f"has frames of {width} x {height} pixels; at most {MOST_PIXELS} are read"
        )
