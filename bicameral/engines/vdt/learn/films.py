"""Raw films: video files and folders of pictures, decoded when they are drawn, by OpenCV."""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Lock
from typing import Any

import msgspec
import numpy as np
from msgspec import Struct
from numpy.random import Generator

from bicameral.engines.vdt.learn.clips import (
    Clips,
    Film,
    Found,
    Shape,
    divided,
    fitted,
    opencv,
    window,
)
from bicameral.errors import ConfigError

VIDEOS = (".mp4", ".m4v", ".mov", ".webm", ".mkv", ".avi", ".gif")
PICTURES = (".png", ".jpg", ".jpeg")
_LONG = 512  # frames that are decoded and kept together; a longer film is cut into such parts
_ROOM = 1 << 30  # bytes of decoded clips that are kept
_WORKERS = 8  # films opened or decoded at a time, by threads: OpenCV works beside Python
_TRIES = 100  # films that may fail one after another before the data are called broken


class Entry(Struct, frozen=True, kw_only=True):
    """One film, as the index has it; `bad` says why it cannot be used, `stamp` when it changed."""

    name: str
    stamp: int
    frames: int = 0
    height: int = 0
    width: int = 0
    bad: str = ""


class Films:
    """A video file, or a folder with video files or folders of pictures in it, at any depth.

    `index` is a file to remember in what was found, so that the next start need not open them all.
    """

    def __init__(self, path: Path, index: Path | None = None) -> None:
        names = _names(path)
        if not names:
            raise ConfigError(
                f"{path} holds no films: it may hold {', '.join(VIDEOS)} files, or folders of "
                f"{', '.join(PICTURES)} pictures, one folder a film"
            )
        self._root = path if path.is_dir() else path.parent
        self._entries = _indexed(self._root, names, index)
        good = [entry for entry in self._entries if not entry.bad]
        if not good:
            first = self._entries[0]
            raise ConfigError(
                f"none of the {len(names):,} films of {path} can be read; {first.name}: {first.bad}"
            )
        first, total = good[0], sum(entry.frames for entry in good)
        self.found = Found(
            what=f"{path}: {len(good):,} films of {total:,} frames",
            clips=len(good),
            frames=max(entry.frames for entry in good),
            height=first.height,
            width=first.width,
            channels=3,
            natural=True,
        )
        self._path = path

    def within(self, shape: Shape, *, held: bool = False) -> Clips:
        """Its clips of that shape; films that are bad or too short are `skipped`, with reasons."""
        skipped = {e.name: e.bad for e in self._entries if e.bad}
        parts: list[tuple[str, int, int]] = []
        for entry in self._entries:
            if not entry.bad and entry.frames < shape.reach:
                skipped[entry.name] = f"{entry.frames} frames; a clip spans {shape.reach}"
            elif not entry.bad:
                parts += [(entry.name, *part) for part in _parts(entry.frames, shape.reach)]
        if not parts:
            name, why = next(iter(skipped.items()))
            raise ConfigError(
                f"all {len(skipped):,} films of {self._path} are left out; {name}: {why}"
            )
        shelf = _Shelf(self._root, [parts[i] for i in divided(len(parts), held)], shape)
        return Clips(
            shelf.clip, len(parts), skipped=skipped, workers=min(_WORKERS, os.cpu_count() or 1)
        )


class _Shelf:
    """Decodes parts of films and keeps the last used ones."""

    def __init__(self, root: Path, parts: list[tuple[str, int, int]], shape: Shape) -> None:
        self._root, self._parts, self._shape = root, parts, shape
        self._kept: OrderedDict[int, Film] = OrderedDict()
        self._room, self._lock = _ROOM, Lock()

    def clip(self, dice: Generator) -> Film:
        """A window of a part; a part that cannot be decoded makes it draw another."""
        why = ""
        for _ in range(_TRIES):
            number = int(dice.integers(len(self._parts)))
            try:
                film = self._film(number)
            except _Unreadable as error:
                why = str(error)
                continue
            return film[window(len(film), self._shape, dice)]
        raise ConfigError(f"{_TRIES} films in a row cannot be decoded; the last: {why}")

    def _film(self, number: int) -> Film:
        with self._lock:
            if number in self._kept:
                self._kept.move_to_end(number)
                return self._kept[number]
        name, start, count = self._parts[number]
        film = _decoded(self._root / name, start, count, self._shape)
        if len(film) < self._shape.reach:
            raise _Unreadable(f"{name}: only {len(film)} of {count} frames from {start} on decode")
        with self._lock:
            if number not in self._kept:
                self._kept[number] = film
                self._room -= film.nbytes
            while self._room < 0 and len(self._kept) > 1:
                self._room += self._kept.popitem(last=False)[1].nbytes
        return film


class _Unreadable(Exception):
    """A film that the index thought good."""


def _parts(frames: int, reach: int) -> Iterator[tuple[int, int]]:
    """(start, count) of even parts of a film, none of them shorter than a clip."""
    parts = max(1, min(frames // max(_LONG, 2 * reach), frames // reach))
    for part in range(parts):
        start, end = part * frames // parts, (part + 1) * frames // parts
        yield start, end - start


def _names(path: Path) -> list[str]:
    """Relative to the folder, in an order that is the same everywhere."""
    if path.is_file():
        return [path.name] if path.suffix.lower() in VIDEOS else []
    found = []
    for folder, folders, files in os.walk(path):
        folders.sort()
        here = os.path.relpath(folder, path)
        found += [os.path.join(here, f) for f in files if f.lower().endswith(VIDEOS)]
        if any(f.lower().endswith(PICTURES) for f in files):
            found.append(here)
    return sorted(os.path.normpath(name) for name in found)


def _indexed(root: Path, names: list[str], index: Path | None) -> list[Entry]:
    """What each film is; those that the index knows and that have not changed are not opened."""
    known: dict[str, Entry] = {}
    if index is not None:
        with suppress(OSError, msgspec.MsgspecError):  # a lost index is only made again
            held = msgspec.json.decode(index.read_bytes(), type=list[Entry])
            known = {entry.name: entry for entry in held}

    def entry(name: str) -> Entry:
        stamp = (root / name).stat().st_mtime_ns
        old = known.get(name)
        return old if old and old.stamp == stamp else _looked(root, name, stamp)

    with ThreadPoolExecutor(_WORKERS) as pool:
        entries = list(pool.map(entry, names))
    if index is not None and entries != list(known.values()):
        index.parent.mkdir(parents=True, exist_ok=True)
        partly = index.with_name(f".{index.name}.{os.getpid()}")
        partly.write_bytes(msgspec.json.encode(entries))
        os.replace(partly, index)
    return entries


def _looked(root: Path, name: str, stamp: int) -> Entry:
    path = root / name
    try:
        frames, height, width = (_pictured if path.is_dir() else _measured)(path)
    except _Unreadable as error:
        return Entry(name=name, stamp=stamp, bad=str(error))
    return Entry(name=name, stamp=stamp, frames=frames, height=height, width=width)


def _pictured(folder: Path) -> tuple[int, int, int]:
    """Frames, height and width of a folder of pictures; only their heads are read."""
    from PIL import Image, UnidentifiedImageError

    sizes: dict[tuple[int, int], str] = {}
    for path in _pictures(folder):
        try:
            with Image.open(path) as picture:
                sizes.setdefault(picture.size, path.name)
        except (OSError, UnidentifiedImageError) as error:
            raise _Unreadable(f"{path.name} is no picture: {error}") from error
    if len(sizes) > 1:
        said = ", ".join(f"{name} is {w} x {h}" for (w, h), name in list(sizes.items())[:2])
        raise _Unreadable(f"its pictures are of different sizes: {said}")
    width, height = next(iter(sizes))
    return len(_pictures(folder)), height, width


def _pictures(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if p.suffix.lower() in PICTURES)


def _measured(path: Path) -> tuple[int, int, int]:
    """Of a video file; where its head does not say how many frames there are, they are counted."""
    cv2 = opencv()
    with _opened(path) as capture:
        good, frame = capture.read()
        if not good:
            raise _Unreadable("it cannot be decoded as a film")
        frames = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
        if not 0 < frames < 2**31:
            frames = 1
            while capture.grab():
                frames += 1
        return frames, int(frame.shape[0]), int(frame.shape[1])


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    cv2 = opencv()
    capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG, [cv2.CAP_PROP_N_THREADS, 1])
    try:
        if not capture.isOpened():
            raise _Unreadable("it cannot be opened as a film")
        yield capture
    finally:
        capture.release()


def _decoded(path: Path, start: int, count: int, shape: Shape) -> Film:
    """(at most `count`, height, width, channels), each frame made small as soon as it is there."""
    frames = []
    if path.is_dir():
        cv2 = opencv()
        for picture in _pictures(path)[start : start + count]:
            pixels = cv2.imread(str(picture), cv2.IMREAD_COLOR)
            if pixels is None:
                raise _Unreadable(f"{picture} cannot be decoded")
            frames.append(_frame(cv2, pixels, shape))
    else:
        frames = _read(path, start, count, lambda cv2, pixels: _frame(cv2, pixels, shape))
    return np.stack(frames) if frames else np.empty((0, 1, 1, 1), np.uint8)


def _read(path: Path, start: int, count: int, frame: Callable[[Any, Film], Film]) -> list[Film]:
    cv2 = opencv()
    frames: list[Film] = []
    with _opened(path) as capture:
        if start:
            capture.set(cv2.CAP_PROP_POS_FRAMES, start)
        while len(frames) < count:
            good, pixels = capture.read()
            if not good:
                return frames
            frames.append(frame(cv2, pixels))
    return frames


def _frame(cv2: Any, pixels: Film, shape: Shape) -> Film:
    rgb = cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)
    return fitted(np.asarray(rgb)[None], shape)[0]
