"""Clips made from nothing: how far they are from real ones as a set, and whether they could be.

There is no truth to compare with. The distance is taken in the features of a small 3-D network
with random weights, so it is called by that and no other name: FVD is one of a certain trained net.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from msgspec import Struct
from numpy.typing import NDArray
from torch import Tensor, nn

from bicameral.engines.vdt.score import frechet
from bicameral.engines.vdt.score.parse import parse

_WIDTHS = (24, 48)
_FEATURES = 32
_BATCH = 64
Clips = NDArray[Any]


class Distance(Struct, frozen=True):
    """Of a set of clips from as many real ones: smaller is nearer, but for the last two."""

    frechet: float
    mmd: float
    density: float
    coverage: float


class Plausible(Struct, frozen=True):
    """What balls do in clips, none of which is to be compared with: beside the same of real ones.

    `shown` is the share of clips with a ball all along; `constant` of these, how many keep their
    number of balls in every frame. `balls` is how many a frame shows, in the mean. `speed` is
    their median, in units/s, `change` by what share of itself a speed changes from a pair of
    frames to the next, `growth` by what share of itself a radius does from frame to frame: medians
    over all of it, so that impacts, which are rare, do not count. None: no ball was seen.
    """

    shown: float
    constant: float
    balls: float
    speed: float | None
    change: float | None
    growth: float | None


def named(seed: int) -> str:
    """What the distance is called."""
    return f"FD-rand3d({seed})"


def features(clips: Clips, seed: int = 0) -> NDArray[np.float64]:
    """(n, 32) of clips (n, T, H, W, C), bytes or from 0 to 1: means and spreads over the clip."""
    net = _net(clips.shape[-1], seed)
    parts = [_features(net, clips[i : i + _BATCH]) for i in range(0, len(clips), _BATCH)]
    return np.concatenate(parts)


def distance(real: NDArray[np.float64], made: NDArray[np.float64]) -> Distance:
    """Of the features of as many clips each."""
    near = min(5, len(real) - 1)
    spread = frechet.coverage(real, made, nearest=near)
    return Distance(
        frechet.frechet(real, made), frechet.mmd(real, made), spread.density, spread.coverage
    )


def plausible(clips: Clips, step: float) -> Plausible:
    """Of clips of balls (n, T, size, size, 3), `step` s a frame."""
    rows = [_one(clip, step) for clip in clips]
    shown = [row for row in rows if row["shown"]]
    return Plausible(
        shown=len(shown) / len(rows),
        constant=float(np.mean([row["constant"] for row in shown])) if shown else 0.0,
        balls=float(np.mean([row["balls"] for row in rows])),
        speed=_middle([row["speed"] for row in rows]),
        change=_middle([row["change"] for row in rows]),
        growth=_middle([row["growth"] for row in rows]),
    )


def _one(clip: Clips, step: float) -> dict[str, Any]:
    seen = parse(clip)
    pieces = seen.pieces.sum(1)
    velocity = np.diff(seen.at, axis=0) / step
    speed = np.linalg.norm(velocity, axis=-1)
    turn = np.linalg.norm(np.diff(velocity, axis=0), axis=-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        change = turn / speed[:-1]
        growth = np.abs(np.diff(seen.radius, axis=0)) / seen.radius[:-1]
    return {
        "shown": bool((pieces > 0).all()),
        "constant": bool((pieces == pieces[0]).all()),
        "balls": float(pieces.mean()),
        "speed": speed.ravel(),
        "change": change.ravel(),
        "growth": growth.ravel(),
    }


def _middle(parts: list[NDArray[np.float64]]) -> float | None:
    joined = np.concatenate(parts)
    known = joined[np.isfinite(joined)]
    return float(np.median(known)) if known.size else None


def _net(channels: int, seed: int) -> nn.Sequential:
    """Never trained; the seed decides its weights."""
    draw = torch.Generator().manual_seed(seed)
    layers: list[nn.Module] = []
    for narrow, wide in zip((channels, *_WIDTHS), (*_WIDTHS, _FEATURES // 2), strict=True):
        layer = nn.Conv3d(narrow, wide, 3, padding=1, stride=(1, 2, 2))
        with torch.no_grad():
            deviation = (2 / (27 * narrow)) ** 0.5
            layer.weight.copy_(deviation * torch.randn(layer.weight.shape, generator=draw))
            layer.bias.zero_()
        layers += [layer, nn.ReLU()]
    return nn.Sequential(*layers).requires_grad_(False)


@torch.inference_mode()
def _features(net: nn.Sequential, clips: Clips) -> NDArray[np.float64]:
    whole = 255.0 if clips.dtype == np.uint8 else 1.0
    x = (torch.from_numpy(np.asarray(clips, np.float32)) / whole).clamp(0, 1) * 2 - 1
    out: Tensor = net(x.movedim(-1, 1))
    flat = out.flatten(2)
    found: NDArray[np.float64] = torch.cat([flat.mean(2), flat.std(2)], 1).double().numpy()
    return found
