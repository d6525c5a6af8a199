"""What is usual for a net: how much clips of its own world surprise it, in a file beside its own.

By it a score becomes a p-value: the share of possible clips that surprise the net as much. It is
conformal: of clips of that world a share of p or less comes out at p, whatever the scores mean.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from hashlib import blake2b
from pathlib import Path
from typing import Annotated

import msgspec
import numpy as np
from msgspec import Meta, Struct

from bicameral.engines.vdt import checkpoint
from bicameral.engines.vdt.learn.clips import Shape
from bicameral.engines.vdt.learn.sources import opened
from bicameral.engines.vdt.load import Loaded
from bicameral.engines.vdt.surprise import WAY, Scale, Surprise, Way, Window, of_films
from bicameral.errors import ConfigError, WeightsError

FORMAT = "bicameral-vdt-surprise-1"
STRANGE = 0.01  # share of clips of the net's world with a past as strange, up to which it is none
_SEED = 10_000_000  # far from what nets are trained, tested and compared on
_BATCH = 32


class Calibration(Struct, frozen=True, kw_only=True):
    """`scores` and `pasts`, rising, of possible clips of `data`; `weights` is the file's digest."""

    format: str = FORMAT
    weights: str
    data: str
    way: Way
    scale: Scale
    scores: Annotated[tuple[float, ...], Meta(min_length=2)]
    pasts: Annotated[tuple[float, ...], Meta(min_length=2)]


class Verdict(Struct, frozen=True, kw_only=True):
    """Whether a clip is reasonable to the net: `p` is the share of possible clips as surprising.

    Never 0: of n clips that were looked at, less than one in n + 1 cannot be told. `z` is the score
    in standard deviations from the mean of theirs. `strange` says that the first frames are already
    unlike what the net was trained on, at a share of `p_past`, so that its surprise means nothing.
    """

    surprise: Surprise
    p: float
    z: float
    p_past: float
    strange: bool


def judged(found: Surprise, usual: Calibration) -> Verdict:
    """What the surprise amounts to. More windows, more chances to be surprised: `p` says so."""
    single, p_past = _share(usual.scores, found.score), _share(usual.pasts, found.past)
    mean, deviation = _moments(list(usual.scores))
    return Verdict(
        surprise=found,
        p=1 - (1 - single) ** found.windows,
        z=(found.score - mean) / deviation,
        p_past=p_past,
        strange=p_past <= STRANGE,
    )


def calibrated(
    file: Path,
    loaded: Loaded,
    *,
    clips: int,
    data: str | None = None,
    way: Way = WAY,
    told: Callable[[int], None] = lambda done: None,
) -> Calibration:
    """By so many clips of `data`, else of what `file` says that its net was trained on, held back.

    `told` gets how many are done. ConfigError if the data are not there or too few frames long.
    """
    about = checkpoint.read(file)[2]
    what = data or about.get("data")
    if not isinstance(what, str):
        raise ConfigError(f"{file} does not say what it was trained on: say so by --data")
    design, stride = loaded.design, about.get("stride", 1)
    shape = Shape(
        frames=design.frames,
        height=design.height,
        width=design.width,
        channels=design.channels,
        stride=stride if isinstance(stride, int) else 1,
    )
    source, dice = opened(what).within(shape, held=True), np.random.default_rng(_SEED)
    found: list[Window] = []
    while len(found) < clips:
        films = source.batch(min(_BATCH, clips - len(found)), dice)
        found += of_films(loaded, films, way)
        told(len(found))
    scale = Scale(
        motion=_moments([window.motion for window in found]),
        looks=_moments([window.look for window in found]),
    )
    return Calibration(
        weights=_digest(file),
        data=what,
        way=way,
        scale=scale,
        scores=tuple(sorted(window.score(scale) for window in found)),
        pasts=tuple(sorted(window.past for window in found)),
    )


def beside(file: Path) -> Path:
    """Where the calibration of the net in `file` is kept."""
    return file.with_suffix(".surprise.json")


def write(file: Path, usual: Calibration) -> Path:
    """Write or replace it at once, beside the net in `file`."""
    path = beside(file)
    partly = path.with_name(f".{path.name}.part")
    partly.write_bytes(msgspec.json.encode(usual) + b"\n")
    os.replace(partly, path)
    return path


def read(file: Path) -> Calibration | None:
    """What `write` wrote for the net in `file`, None if it never did.

    WeightsError if it is damaged, or of other weights than are there now.
    """
    path = beside(file)
    again = "run `bicameral vdt surprise --calibrate` for the net again"
    try:
        found = msgspec.json.decode(path.read_bytes(), type=Calibration)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.MsgspecError) as error:
        raise WeightsError(f"{path} cannot be read ({error}): {again}") from error
    if found.format != FORMAT or found.weights != _digest(file):
        raise WeightsError(f"{path} tells of other weights than {file.name} has now: {again}")
    return found


def _share(usual: tuple[float, ...], value: float) -> float:
    """Of the values and this one, how many are as great."""
    below = int(np.searchsorted(usual, value, side="left"))
    return (1 + len(usual) - below) / (1 + len(usual))


def _moments(values: list[float]) -> tuple[float, float]:
    return float(np.mean(values)), float(np.std(values)) or 1.0


def _digest(file: Path) -> str:
    with file.open("rb") as stream:
        whole = blake2b(digest_size=16)
        while part := stream.read(1 << 20):
            whole.update(part)
    return whole.hexdigest()
