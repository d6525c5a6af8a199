"""Clips drawn from a source into a NumPy file, one after another, never all of them in memory."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import numpy as np

from bicameral.engines.vdt.learn.clips import Clips, Film, Shape

_DATE = (1980, 1, 1, 0, 0, 0)  # zip's first day: the same clips make the same bytes


def store(path: Path, clips: Clips, shape: Shape, count: int, seed: int) -> None:
    """`count` clips as uint8 (N, T, H, W, C): packed into a .npz as `clips`, else a plain .npy.

    The n-th depends on `seed` and n alone. The file is there whole or not at all.
    """
    partly = path.with_name(f".{path.name}.part")
    size = (count, shape.frames, shape.height, shape.width, shape.channels)
    films = (clips.batch(1, np.random.default_rng((seed, n)))[0] for n in range(count))
    if path.suffix == ".npz":
        entry = zipfile.ZipInfo("clips.npy", _DATE)
        entry.compress_type = zipfile.ZIP_DEFLATED
        with zipfile.ZipFile(partly, "w") as file, file.open(entry, "w", force_zip64=True) as to:
            _write(to, size, films)
    else:
        with partly.open("wb") as to:
            _write(to, size, films)
    os.replace(partly, path)


def _write(to: IO[bytes], size: tuple[int, ...], films: Iterator[Film]) -> None:
    head = {"descr": "|u1", "fortran_order": False, "shape": size}
    np.lib.format.write_array_header_1_0(to, head)
    for film in films:
        to.write(np.ascontiguousarray(film).tobytes())
