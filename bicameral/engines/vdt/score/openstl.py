"""The four numbers that OpenSTL's tables print for a predicted clip, by their definitions there.

Written from the definitions. Pixels are numbers from 0 to 1; bytes are taken as 255ths. MSE and MAE
are sums over the pixels of a frame, of what was predicted, unclipped; SSIM and PSNR are of what a
screen would show, clipped to 0 to 1.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from bicameral.errors import ConfigError

_WINDOW = 7  # px, the default of skimage
_K1, _K2 = 0.01, 0.03
Clips = NDArray[Any]  # of bytes or of floats
Real = NDArray[np.float64]


class Curves(Struct, frozen=True):
    """Each number (clips, frames), by how far ahead it was predicted; equal frames: PSNR inf."""

    mse: Real
    mae: Real
    ssim: Real
    psnr: Real


class Score(Struct, frozen=True):
    """The mean over clips and frames, as the tables print it."""

    mse: float
    mae: float
    ssim: float
    psnr: float


def score(predicted: Clips, true: Clips, *, span: float = 1.0) -> Score:
    """The numbers of clips (n, T, H, W, C), predicted frames only; `span` as of `ssim`."""
    return mean(curves(predicted, true, span=span))


def mean(found: Curves) -> Score:
    """The numbers of a table."""
    values = (found.mse, found.mae, found.ssim, found.psnr)
    return Score(*(float(value.mean()) for value in values))


def curves(predicted: Clips, true: Clips, *, span: float = 1.0) -> Curves:
    """The numbers frame by frame of clips (n, T, H, W, C), both of that shape."""
    if predicted.shape != true.shape or predicted.ndim != 5:
        raise ConfigError(f"clips {predicted.shape} and {true.shape}: both must be (n, T, H, W, C)")
    rows = [_frames(one, other, span) for one, other in zip(predicted, true, strict=True)]
    return Curves(*(np.stack(column) for column in zip(*rows, strict=True)))


def ssim(one: Real, other: Real, *, span: float = 1.0) -> Real:
    """(...,): structural similarity of images (..., H, W), as skimage has it by default.

    A window of 7 px evenly weighted, sample covariance, borders left out. `span` is how far apart
    values can be; old skimage took 2 for any floats, which gives a little more (+0.006 measured).
    """
    if min(one.shape[-2:]) < _WINDOW:
        raise ConfigError(f"SSIM needs frames of {_WINDOW} px or more, not {one.shape[-2:]}")
    samples = _WINDOW**2
    unbiased = samples / (samples - 1)
    x, y = _smooth(one), _smooth(other)
    xx = unbiased * (_smooth(one * one) - x * x)
    yy = unbiased * (_smooth(other * other) - y * y)
    xy = unbiased * (_smooth(one * other) - x * y)
    c1, c2 = (_K1 * span) ** 2, (_K2 * span) ** 2
    similar = (2 * x * y + c1) * (2 * xy + c2)
    return np.asarray((similar / ((x * x + y * y + c1) * (xx + yy + c2))).mean((-2, -1)))


def psnr(one: Real, other: Real) -> Real:
    """(...,): peak signal to noise of frames (..., H, W, C) in dB; equal frames give inf."""
    with np.errstate(divide="ignore"):
        return np.asarray(-10 * np.log10(((one - other) ** 2).mean((-3, -2, -1))))


def _frames(predicted: Clips, true: Clips, span: float) -> tuple[Real, Real, Real, Real]:
    """The four numbers of each frame of a clip (T, H, W, C)."""
    one, other = _unit(predicted), _unit(true)
    off = one - other
    mse, mae = (off * off).sum((1, 2, 3)), np.abs(off).sum((1, 2, 3))
    one, other = one.clip(0, 1), other.clip(0, 1)
    alike = ssim(np.moveaxis(one, -1, 1), np.moveaxis(other, -1, 1), span=span).mean(1)
    return mse, mae, alike, psnr(one, other)


def _unit(clip: Clips) -> Real:
    return clip.astype(np.float64) / (255.0 if clip.dtype == np.uint8 else 1.0)


def _smooth(image: Real) -> Real:
    """(..., H - 6, W - 6): the mean over each whole window."""
    tall, wide = image.shape[-2] - _WINDOW + 1, image.shape[-1] - _WINDOW + 1
    rows = np.zeros((*image.shape[:-2], tall, image.shape[-1]))
    for start in range(_WINDOW):
        rows += image[..., start : start + tall, :]
    total = np.zeros((*image.shape[:-2], tall, wide))
    for start in range(_WINDOW):
        total += rows[..., start : start + wide]
    return total / _WINDOW**2
