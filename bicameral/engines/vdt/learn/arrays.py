"""Clips in NumPy files: .npy and plain .npz stay on disk and are mapped; a packed .npz is read."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from bicameral.engines.vdt.learn.clips import (
    Clips,
    Film,
    Found,
    Shape,
    divided,
    fitted,
    window,
)
from bicameral.errors import ConfigError

_KEY = "clips"
_AT_ONCE = 64  # films whose values are checked together
_LOCAL = 30  # bytes of a zip entry's own header before its name


class Arrays:
    """(N, T, H, W), (N, T, H, W, C), or one film (T, H, W), (T, H, W, C); C is 1, 3 or 4.

    uint8, or floats from 0 to 1. ConfigError names the file and what is wrong with it.
    """

    def __init__(self, path: Path) -> None:
        self._films = _films(_read(path), path)
        count, frames, height, width, channels = self._films.shape
        self.found = Found(
            what=f"{path}: {count:,} films of {frames:,} frames, {height} x {width} x {channels}",
            clips=count,
            frames=frames,
            height=height,
            width=width,
            channels=3 if channels == 4 else channels,
        )
        self._path = path

    def within(self, shape: Shape, *, held: bool = False) -> Clips:
        """Its clips of that shape; ConfigError if the films are shorter."""
        films, frames = self._films, self._films.shape[1]
        if frames < shape.reach:
            raise ConfigError(
                f"{self._path}: its films have {frames} frames and a clip spans {shape.reach}: "
                "give fewer --frames or a smaller --stride"
            )
        chosen = divided(len(films), held)

        def make(dice: Generator) -> Film:
            film = films[chosen[int(dice.integers(len(chosen)))]]
            return fitted(_bytes(film[window(frames, shape, dice)]), shape)

        return Clips(make, len(films))


def _bytes(film: NDArray[Any]) -> Film:
    if film.dtype == np.uint8:
        return np.asarray(film)
    return np.rint(np.asarray(film, np.float32) * 255).astype(np.uint8)


def _films(array: NDArray[Any], path: Path) -> NDArray[Any]:
    """As (N, T, H, W, C)."""
    last = array.shape[-1] if array.ndim else 0
    if array.ndim == 3:
        array = array[None, ..., None]
    elif array.ndim == 4:
        array = array[None] if last in (1, 3, 4) else array[..., None]
    if array.ndim != 5 or array.shape[-1] not in (1, 3, 4) or 0 in array.shape:
        raise ConfigError(
            f"{path} has the shape {array.shape}; clips are (N, T, H, W), (N, T, H, W, C), "
            "(T, H, W) or (T, H, W, C), C being 1, 3 or 4"
        )
    _check(array, path)
    return array


def _check(films: NDArray[Any], path: Path) -> None:
    if films.dtype == np.uint8:
        return
    if films.dtype.kind != "f":
        raise ConfigError(f"{path} holds {films.dtype}; clips are uint8, or floats from 0 to 1")
    for start in range(0, len(films), _AT_ONCE):
        part = films[start : start + _AT_ONCE]
        low, high = float(part.min()), float(part.max())
        if not (low >= 0 and high <= 1):  # so written, NaN is refused, too
            raise ConfigError(
                f"{path}: film {start} and those after it go from {low:g} to {high:g}; "
                "floats lie from 0 to 1: divide by 255, or store uint8"
            )


def _read(path: Path) -> NDArray[Any]:
    try:
        if path.suffix == ".npy":
            array: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
            return array
        return _member(path)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise ConfigError(f"{path} cannot be read as an array: {error}") from error


def _member(path: Path) -> NDArray[Any]:
    with zipfile.ZipFile(path) as file:
        names = [name.removesuffix(".npy") for name in file.namelist()]
        if _KEY not in names and len(names) != 1:
            raise ConfigError(
                f"{path} holds {', '.join(names) or 'nothing'}: name the array of clips '{_KEY}'"
            )
        info = file.getinfo(f"{_KEY if _KEY in names else names[0]}.npy")
        if info.compress_type == zipfile.ZIP_STORED:
            return _mapped(path, info.header_offset)
        with file.open(info) as member:
            array: NDArray[Any] = np.lib.format.read_array(member, allow_pickle=False)
            return array


def _mapped(path: Path, entry: int) -> NDArray[Any]:
    """The array of a zip entry that is not packed, left on disk."""
    with path.open("rb") as file:
        file.seek(entry)
        head = file.read(_LOCAL)
        file.seek(int.from_bytes(head[26:28], "little"), 1)
        file.seek(int.from_bytes(head[28:30], "little"), 1)
        version = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0
        if version != (1, 0):
            read = np.lib.format.read_array_header_2_0
        shape, fortran, dtype = read(file)
        if dtype.hasobject:
            raise ConfigError(f"{path} holds Python objects, not numbers")
        return np.memmap(path, dtype, "r", file.tell(), shape, "F" if fortran else "C")
