"""The modern net: a mask channel, a time for each token, rotary positions, one shared modulation.

Two orders of attention: over time, then over space, as VDT has it; or over all tokens at once.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from bicameral.engines.vdt.design import Design
from bicameral.engines.vdt.parts import Attention, Clock, feed_forward, join, modulate, split
from bicameral.engines.vdt.position import turns


class Block(nn.Module):
    """Each part normalised, modulated and gated; the gates are closed at first, so it is identity.

    The modulation is what all blocks share plus a table of its own (AdaLN-single, 2310.00426).
    """

    def __init__(self, dim: int, heads: int, *, full: bool) -> None:
        super().__init__()
        self.over_time = None if full else Attention(dim, heads, normal=True)
        self.over_space = Attention(dim, heads, normal=True)
        self.wide = feed_forward(dim)
        self.parts = 2 if full else 3
        table = torch.randn(self.parts, 3, dim) / dim**0.5
        table[:, 2] = 0
        self.table = nn.Parameter(table.flatten(0, 1))
        self.norm = nn.LayerNorm(dim, elementwise_affine=False, eps=1e-6)

    def forward(self, x: Tensor, shared: Sequence[Tensor], where: tuple[Tensor, Tensor]) -> Tensor:
        """`x` (B, T, N, dim), `shared` 3 * parts of the same, `where` tells time and space."""
        b, t, n, dim = x.shape
        half = shared[0].dtype
        table = self.table.to(half).unbind()

        def moved(place: int) -> Tensor:
            return shared[place] + table[place]

        def ready(part: int) -> Tensor:
            # In the precision of the modulation: on a CPU half the bytes count as much as the sums.
            return modulate(self.norm(x).to(half), moved(3 * part), moved(3 * part + 1))

        if self.over_time is None:
            seen = self.over_space(ready(0).reshape(b, t * n, dim), where[1]).view(b, t, n, dim)
            x = x + moved(2) * seen
        else:
            rows = ready(2).transpose(1, 2).reshape(b * n, t, dim)
            seen = self.over_time(rows, where[0]).view(b, n, t, dim).transpose(1, 2)
            x = x + moved(8) * seen
            seen = self.over_space(ready(0).reshape(b * t, n, dim), where[1]).view(b, t, n, dim)
            x = x + moved(2) * seen
        return x + moved(5) * self.wide(ready(1))


class Modern(nn.Module):
    """A net of any number of frames, rows and columns."""

    def __init__(self, design: Design) -> None:
        super().__init__()
        self.design = design
        dim, full = design.dim, design.attention == "full"
        inside = design.latent * design.patch**2
        self.tells = design.condition == "tokens"
        self.embed = nn.Linear(inside + self.tells, dim)
        self.clock = Clock(dim)
        self.parts = 3 * (2 if full else 3)
        self.share = nn.Sequential(nn.SiLU(), nn.Linear(dim, self.parts * dim))
        self.known = None if self.tells else nn.Linear(inside + 1, dim)
        self.blocks = nn.ModuleList(
            Block(dim, design.heads, full=full) for _ in range(design.depth)
        )
        self.norm = nn.LayerNorm(dim, elementwise_affine=False, eps=1e-6)
        self.last = nn.Parameter(torch.randn(2, dim) / dim**0.5)
        self.out = nn.Linear(dim, inside)
        for layer in (self.share[1], self.out):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor, mask: Tensor, time: Tensor, known: Tensor | None = None) -> Tensor:
        """`x` (B, T, C, H, W) noised, `mask` (B, T, h, w), 1 generate, `time` the same, 0 clean.

        A net whose condition is adaln sees nothing where the mask is 0 and is told by `known`
        instead: the clip with the rest at 0.
        """
        patches = split(x, self.design.patch)
        b, t, h, w, _ = patches.shape
        hidden = patches * (mask > 0)[..., None]
        cells = torch.cat([patches, mask[..., None]], dim=-1) if self.tells else hidden
        tokens = self.embed(cells).view(b, t, h * w, -1)
        clock = self.clock(1000 * time).view(b, t, h * w, -1)
        if self.known is not None and known is not None:
            told = torch.cat([split(known, self.design.patch), mask[..., None]], dim=-1)
            clock = clock + self.known(told).mean((1, 2, 3))[:, None, None]
        shared = self.share(clock).chunk(self.parts, dim=-1)
        where = self._where(t, h, w, x)
        for block in self.blocks:
            tokens = block(tokens, shared, where)
        shift, scale = (clock[..., None, :] + self.last).unbind(-2)
        flat: Tensor = self.out(modulate(self.norm(tokens), shift, scale))
        return join(flat.view(b, t, h, w, -1), self.design.patch)

    def _where(self, t: int, h: int, w: int, like: Tensor) -> tuple[Tensor, Tensor]:
        head = self.design.dim // self.design.heads
        if self.design.attention == "full":
            over_all = turns(t, h, w, head).to(like.device)
            return over_all, over_all
        return turns(t, 1, 1, head).to(like.device), turns(1, h, w, head).to(like.device)
