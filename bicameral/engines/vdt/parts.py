"""What both nets are built of: patches, attention, and the embedding of a time."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from bicameral.engines.vdt.position import THETA, turn

WAVES = 256
SHORT = 256  # tokens of a row whose attention is written out on a CPU


def split(x: Tensor, patch: int) -> Tensor:
    """(B, T, C, H, W) to (B, T, H/p, W/p, C*p*p)."""
    b, t, c, h, w = x.shape
    x = x.reshape(b, t, c, h // patch, patch, w // patch, patch)
    return x.permute(0, 1, 3, 5, 2, 4, 6).reshape(b, t, h // patch, w // patch, -1)


def join(x: Tensor, patch: int) -> Tensor:
    """What `split` took apart."""
    b, t, h, w, n = x.shape
    x = x.reshape(b, t, h, w, n // patch**2, patch, patch)
    return x.permute(0, 1, 4, 2, 5, 3, 6).reshape(b, t, n // patch**2, h * patch, w * patch)


def spread(mask: Tensor, patch: int) -> Tensor:
    """(B, T, h, w) of tokens to (B, T, 1, h*p, w*p), a number for each place of a frame."""
    return mask.repeat_interleave(patch, -2).repeat_interleave(patch, -1).unsqueeze(2)


class Attention(nn.Module):
    """Each token looks at all of its row: (rows, tokens, dim) to the same.

    With `normal`, queries and keys are normalised by their root mean square.
    """

    def __init__(self, dim: int, heads: int, *, normal: bool = False) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.out = nn.Linear(dim, dim)
        self.normal = nn.Parameter(torch.ones(2, dim // heads)) if normal else None

    def forward(self, x: Tensor, turns: Tensor | None = None) -> Tensor:
        """`turns`, if given, tells where the tokens are."""
        rows, tokens, dim = x.shape
        qkv = self.qkv(x).view(rows, tokens, 3, self.heads, dim // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        if self.normal is not None:
            q, k = (_level(x, by.to(x.dtype)) for x, by in zip((q, k), self.normal, strict=True))
        if turns is not None:
            q, k = turn(q, turns), turn(k, turns)
        seen = attend(q, k, v)
        out: Tensor = self.out(seen.transpose(1, 2).reshape(rows, tokens, dim))
        return out


def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Scaled dot product attention of (..., tokens, head).

    Written out for short rows on a CPU: torch's fused kernel takes 8 to 12 times as long to learn
    through many of them in half precision (torch 2.13, 512 and 1,024 rows of 12 tokens).
    """
    if q.device.type != "cpu" or q.shape[-2] > SHORT:
        return functional.scaled_dot_product_attention(q, k, v)
    alike = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)
    return alike.softmax(dim=-1) @ v


def _level(x: Tensor, by: Tensor) -> Tensor:
    """`x` over its root mean square, times `by`."""
    return functional.rms_norm(x, by.shape, by, eps=1e-6)


def feed_forward(dim: int) -> nn.Sequential:
    """Four times as wide inside, GELU by tanh."""
    wide = 4 * dim
    return nn.Sequential(nn.Linear(dim, wide), nn.GELU(approximate="tanh"), nn.Linear(wide, dim))


class Clock(nn.Module):
    """A time from 0 to 1000 as a vector of `dim`; the time may be of any shape."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(WAVES, dim), nn.SiLU(), nn.Linear(dim, dim))

    def forward(self, time: Tensor) -> Tensor:
        """(...) to (..., dim)."""
        half = WAVES // 2
        steps = torch.arange(half, device=time.device, dtype=torch.float32)
        angles = time.float()[..., None] * torch.exp(-math.log(THETA) * steps / half)
        out: Tensor = self.net(torch.cat([angles.cos(), angles.sin()], dim=-1))
        return out


def modulate(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """Adaptive layer norm's last step."""
    return x * (1 + scale) + shift
