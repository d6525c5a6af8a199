"""A folder of pictures as a stream: in natural order of their names, one a second."""

from __future__ import annotations

import re
import warnings
from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bicameral.errors import ConfigError, RequestError
from bicameral.right.stream.frame import Frame
from bicameral.right.stream.notices import Gap, Kind

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MAX_PIXELS = 40_000_000
_FORMATS = ("PNG", "JPEG", "WEBP", "GIF")
_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".gif")


class Pictures:
    """The PNG, JPEG, WebP and GIF files of a folder; one that cannot be read is a Gap."""

    kind: Kind = "pictures"
    live = False

    def __init__(self, folder: Path, label: str) -> None:
        self.label = label
        self._files = sorted(
            (f for f in folder.iterdir() if f.suffix.lower() in _SUFFIXES and f.is_file()),
            key=lambda file: natural(file.name),
        )
        if not self._files:
            raise RequestError(
                f"source {label}: the folder holds no pictures ({' '.join(_SUFFIXES)})",
                param="source", code="bad_source",
            )  # fmt: skip

    def frames(self) -> Generator[Frame | Gap]:
        """One frame a file; the first of an animation."""
        for index, file in enumerate(self._files):
            try:
                pixels = _read(file)
            except _faults() as error:
                why = f"{file.name}: {type(error).__name__}"
                yield Gap(trouble="unreadable", start=float(index), end=float(index), detail=why)
                continue
            yield Frame(index=index, at=float(index), pixels=pixels)


def natural(name: str) -> list[tuple[bool, int, str]]:
    """A key that sorts 2 before 10."""
    return [
        (not piece.isdigit(), int(piece) if piece.isdigit() else 0, piece)
        for piece in re.split(r"([0-9]+)", name.lower())
        if piece
    ]


def _faults() -> tuple[type[Exception], ...]:
    pil = _pillow()
    return (OSError, ValueError, SyntaxError, pil.DecompressionBombError)


def _read(file: Path) -> NDArray[np.uint8]:
    """Upright RGB; the size in the header is checked before anything is decoded."""
    import numpy as np

    pil = _pillow()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about odd metadata, and sizes that we check ourselves
        with pil.open(file, formats=_FORMATS) as picture:
            if picture.width * picture.height > MAX_PIXELS:
                raise ValueError("too many pixels")
            return np.asarray(_upright(picture).convert("RGB"))


def _upright(picture: Any) -> Any:
    from PIL import ImageOps

    return ImageOps.exif_transpose(picture)


def _pillow() -> Any:
    try:
        from PIL import Image
    except ImportError as error:
        raise ConfigError(
            "pictures cannot be read: Pillow is not installed; run `pip install 'bicameral[watch]'`"
        ) from error
    return Image
