"""The net of the paper (arXiv 2305.13311): attention over time, then over space, then an MLP.

Three things are as they were although the modern net has them better: attention over time is
neither modulated nor gated, so a fresh net already mixes frames; the net is not told the mask; and
places come from tables, so that frames, height and width are those of the design.
The class label that the authors' code adds to the time is left out: it never varies.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from bicameral.engines.vdt.design import Design
from bicameral.engines.vdt.parts import Attention, Clock, feed_forward, join, modulate, split
from bicameral.engines.vdt.position import plane, waves
from bicameral.errors import RequestError


class Block(nn.Module):
    """Only what looks over space and the MLP are modulated, and closed at first (AdaLN-Zero)."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.time_norm = nn.LayerNorm(dim, eps=1e-6)
        self.over_time = Attention(dim, heads)
        self.after_time = nn.Linear(dim, dim)
        self.norm = nn.LayerNorm(dim, elementwise_affine=False, eps=1e-6)
        self.over_space = Attention(dim, heads)
        self.wide = feed_forward(dim)
        self.modulation = nn.Sequential(nn.SiLU(), nn.Linear(dim, 6 * dim))

    def forward(self, x: Tensor, clock: Tensor) -> Tensor:
        """`x` (B, T, N, dim), `clock` (B, dim)."""
        b, t, n, dim = x.shape
        table = self.modulation(clock).view(b, 6, 1, 1, dim)
        shift, scale, gate, wide_shift, wide_scale, wide_gate = table.unbind(1)
        rows = self.time_norm(x).transpose(1, 2).reshape(b * n, t, dim)
        x = x + self.after_time(self.over_time(rows).view(b, n, t, dim).transpose(1, 2))
        rows = modulate(self.norm(x), shift, scale).reshape(b * t, n, dim)
        x = x + gate * self.over_space(rows).view(b, t, n, dim)
        return x + wide_gate * self.wide(modulate(self.norm(x), wide_shift, wide_scale))


class Faithful(nn.Module):
    """A net of the design's frames, rows and columns, and of no other.

    It puts out the noise and, in as many channels again, where the variance of a step lies between
    its bounds, -1 the lower and 1 the upper.
    """

    def __init__(self, design: Design) -> None:
        super().__init__()
        self.design = design
        frames, rows, columns = design.grid
        dim, inside = design.dim, design.latent * design.patch**2
        self.embed = nn.Linear(inside, dim)
        self.clock = Clock(dim)
        self.known = nn.Linear(inside + 1, dim) if design.condition == "adaln" else None
        self.blocks = nn.ModuleList(Block(dim, design.heads) for _ in range(design.depth))
        self.norm = nn.LayerNorm(dim, elementwise_affine=False, eps=1e-6)
        self.modulation = nn.Sequential(nn.SiLU(), nn.Linear(dim, 2 * dim))
        self.out = nn.Linear(dim, 2 * inside)
        places = waves(frames, dim)[:, None] + plane(rows, columns, dim)
        self.register_buffer("places", places, persistent=False)
        self._start()

    def _start(self) -> None:
        """Weights as DiT starts them (Peebles and Xie, arXiv 2212.09748)."""
        for layer in self.modules():
            if isinstance(layer, nn.Linear):
                nn.init.xavier_uniform_(layer.weight)
                nn.init.zeros_(layer.bias)
        closed = [block.modulation[1] for block in self.blocks]
        for layer in (*closed, self.modulation[1], self.out):
            nn.init.zeros_(layer.weight)

    def forward(self, x: Tensor, mask: Tensor, time: Tensor, known: Tensor | None = None) -> Tensor:
        """`x` (B, T, C, H, W), noised where `mask` (B, T, h, w) is 1; `time` (B,) from 1 to 1000.

        The result is (B, T, 2C, H, W). A net whose condition is adaln sees nothing where the mask
        is 0 and is told by `known` instead: the clip with the rest at 0.
        Raises RequestError for a clip of another size.
        """
        patches = split(self._fitting(x), self.design.patch)
        b, t, h, w, _ = patches.shape
        clock = self.clock(time)
        if self.known is not None:
            patches = patches * mask[..., None]
        if self.known is not None and known is not None:
            told = torch.cat([split(known, self.design.patch), mask[..., None]], dim=-1)
            clock = clock + self.known(told).mean((1, 2, 3))
        tokens = self.embed(patches).view(b, t, h * w, -1) + self.places
        for block in self.blocks:
            tokens = block(tokens, clock)
        shift, scale = self.modulation(clock)[:, None, None].chunk(2, dim=-1)
        flat: Tensor = self.out(modulate(self.norm(tokens), shift, scale))
        return join(flat.view(b, t, h, w, -1), self.design.patch)

    def _fitting(self, x: Tensor) -> Tensor:
        frames, rows, columns = self.design.grid
        patch = self.design.patch
        want = (frames, self.design.latent, rows * patch, columns * patch)
        if tuple(x.shape[1:]) != want:
            raise RequestError(
                f"a faithful net has places for {self.design.frames} frames of {self.design.width}"
                f" x {self.design.height} pixels only: frames, channels, rows and columns must be"
                f" {want} and were {tuple(x.shape[1:])}; a modern net takes any size"
            )
        return x
