"""Small nets for the tests, and one that knows the clip."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from bicameral.engines.vdt import ddpm
from bicameral.engines.vdt.design import Design
from bicameral.engines.vdt.network import Net, build
from bicameral.engines.vdt.parts import spread

KINDS = ("faithful", "modern")


def tiny(kind: str, **other: Any) -> Design:
    """Four frames of 8 x 8 pixels, 4 x 4 tokens each."""
    sizes = {"frames": 4, "height": 8, "width": 8, "channels": 1, "depth": 2, "dim": 24, "heads": 2}
    return Design(**{"kind": kind, "patch": 2, **sizes, **other})


def dice(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def awake(design: Design, seed: int = 0) -> nn.Module:
    """A net without a weight at 0, so that each of its parts tells on what it puts out."""
    torch.manual_seed(seed)
    net = build(design)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return net


def clips(design: Design, count: int, seed: int = 0) -> Tensor:
    """Noise between -1 and 1, in the shape of what the design's net sees."""
    rows, columns = (design.patch * side for side in design.grid[1:])
    shape = (count, design.frames, design.latent, rows, columns)
    return 2 * torch.rand(shape, generator=dice(seed)) - 1


def some(design: Design, count: int, seed: int = 0, share: float = 0.5) -> Tensor:
    """Masks of which each token is to be generated with that chance."""
    return (torch.rand((count, *design.grid), generator=dice(seed)) < share).float()


def wide(design: Design, mask: Tensor) -> Tensor:
    """The mask over pixels, of all channels."""
    return spread(mask, design.patch).expand(-1, -1, design.latent, -1, -1)


def knowing(design: Design, clip: Tensor) -> Net:
    """A net that needs no training, since it knows which clip is asked for."""

    def net(x: Tensor, mask: Tensor, time: Tensor, known: Tensor | None) -> Tensor:
        if design.kind == "faithful":
            step = ddpm.move(time, time - 1)
            noise = (x - step.signal * clip) / step.noise
            return torch.cat([noise, torch.full_like(noise, -1)], dim=2)
        if design.predicts == "clean":
            return clip.expand_as(x)
        return (x - clip) / spread(time, design.patch).clamp(min=1e-6)

    return net
