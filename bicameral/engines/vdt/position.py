"""Where a token is: fixed sines and cosines for the faithful net, rotations for the modern one."""

from __future__ import annotations

import torch
from torch import Tensor

THETA = 10_000.0


def waves(count: int, dim: int) -> Tensor:
    """(count, dim): sines, then cosines, of positions 0 to count - 1 (Vaswani et al., 2017)."""
    rates = THETA ** -(torch.arange(dim // 2, dtype=torch.float64) / (dim // 2))
    angles = torch.arange(count, dtype=torch.float64)[:, None] * rates
    return torch.cat([angles.sin(), angles.cos()], dim=1).float()


def plane(rows: int, columns: int, dim: int) -> Tensor:
    """(rows * columns, dim): half of it tells the column, half the row."""
    down, across = waves(rows, dim // 2), waves(columns, dim // 2)
    each = [
        across[None].expand(rows, columns, dim // 2),
        down[:, None].expand(rows, columns, dim // 2),
    ]
    return torch.cat(each, dim=2).reshape(rows * columns, dim)


def turns(frames: int, rows: int, columns: int, head: int) -> Tensor:
    """(2, frames * rows * columns, head / 2): cosines and sines that turn pairs by place.

    A third of the pairs tells the row, a third the column, the rest the frame, as Wan has it.
    """
    pairs = head // 2
    each = (pairs - 2 * (pairs // 3), pairs // 3, pairs // 3)
    places = torch.meshgrid(
        *(torch.arange(n, dtype=torch.float64) for n in (frames, rows, columns)), indexing="ij"
    )
    parts = []
    for place, count in zip(places, each, strict=True):
        rates = THETA ** -(torch.arange(count, dtype=torch.float64) / max(count, 1))
        parts.append(place.reshape(-1, 1) * rates)
    angles = torch.cat(parts, dim=1)
    return torch.stack([angles.cos(), angles.sin()]).float()


def turn(x: Tensor, by: Tensor) -> Tensor:
    """`x` (..., tokens, head) turned by `turns`: its first half pairs with its second.

    Written with a roll: of halves that are cut and joined, torch's compiler (2.13, on a CPU, in
    half precision, 64 tokens) made gradients that are not numbers.
    """
    cos, sin = by.to(x.dtype)
    other = x.roll(x.shape[-1] // 2, -1)
    return x * torch.cat([cos, cos], dim=-1) + other * torch.cat([-sin, sin], dim=-1)
