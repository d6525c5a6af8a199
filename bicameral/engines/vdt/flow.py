"""Rectified flow with a time for each token (arXiv 2209.03003; diffusion forcing, 2407.01392).

A mask M is 1 where a token is to be generated and 0 where it is given; between, it is noised in
part. At noise level sigma a token's time is M * sigma, and `x = (1 - time) * clip + time * noise`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Generator, Tensor

from bicameral.engines.vdt.design import Design
from bicameral.engines.vdt.parts import spread

Net = Callable[[Tensor, Tensor, Tensor, Tensor | None], Tensor]
LEAST = 0.05  # a time that is divided by at least in training, as in arXiv 2511.13720
EXACT = 1e-6  # and in sampling, so that the last step arrives at the clip that is predicted


def levels(count: int, shift: float, draw: Generator) -> Tensor:
    """(count,) noise levels in (0, 1), logit-normal, moved up by `shift`."""
    sigma = torch.randn(count, generator=draw, device=draw.device).sigmoid()
    return shift * sigma / (1 + (shift - 1) * sigma)


def velocity(
    net: Net,
    design: Design,
    x: Tensor,
    mask: Tensor,
    time: Tensor,
    known: Tensor,
    *,
    least: float = LEAST,
) -> Tensor:
    """Noise minus clip, as the net sees it at `x`; `known` is the clip where it is given.

    Of a net that predicts the clean clip it follows by a division by the time, at least `least`.
    """
    out = net(x, mask, time, known).float()
    if design.predicts == "velocity":
        return out
    return (x - out) / spread(time, design.patch).clamp(min=least)


def loss(net: Net, design: Design, clip: Tensor, mask: Tensor, draw: Generator) -> Tensor:
    """(B,) mean squared error of the velocity over what is generated.

    `clip` (B, T, C, H, W) as the net sees it, `mask` (B, T, h, w), one for each clip.
    """
    sigma = levels(len(clip), design.shift, draw)
    noise = torch.randn(clip.shape, generator=draw, device=clip.device)
    return error(net, design, clip, mask, noise, sigma)


def error(
    net: Net, design: Design, clip: Tensor, mask: Tensor, noise: Tensor, sigma: Tensor
) -> Tensor:
    """`loss` for a noise and a level (B,) that are given."""
    time = mask * sigma[:, None, None, None]
    wide = spread(time, design.patch)
    x = (1 - wide) * clip + wide * noise
    made = spread((mask > 0).to(clip.dtype), design.patch)
    guess = velocity(net, design, x, mask, time, (1 - made) * clip)
    short = (noise - clip) if design.predicts == "velocity" else (x - clip) / wide.clamp(min=LEAST)
    square = (made * (guess - short) ** 2).sum((1, 2, 3, 4))
    return square / (made.sum((1, 2, 3, 4)) * clip.shape[2]).clamp(min=1)


@torch.no_grad()
def sample(
    net: Net,
    design: Design,
    known: Tensor,
    mask: Tensor,
    draw: Generator,
    *,
    steps: int,
    guidance: float = 1.0,
) -> Iterator[Tensor]:
    """The clip after each of `steps` Euler steps; the last holds what was given, bit for bit.

    `guidance` above 1 leans away from what the net would make without being given anything.
    """
    noise = torch.randn(known.shape, generator=draw, device=known.device)
    made = spread((mask > 0).to(known.dtype), design.patch)
    given = (1 - made) * known
    wide = spread(mask, design.patch)
    x = (1 - wide) * known + wide * noise
    line = torch.linspace(1, 0, steps + 1)
    line = design.shift * line / (1 + (design.shift - 1) * line)
    everything = torch.ones_like(mask)
    alone = torch.where(mask > 0, mask, everything)  # what was given is as late as all can be
    for now, after in zip(line[:-1].tolist(), line[1:].tolist(), strict=True):
        guess = velocity(net, design, x, mask, mask * now, given, least=EXACT)
        if guidance != 1.0:
            free = (1 - made) * ((1 - now) * known + now * noise) + made * x
            late = alone * now
            plain = velocity(net, design, free, everything, late, 0 * given, least=EXACT)
            guess = plain + guidance * (guess - plain)
        x = x + wide * (after - now) * guess
        x = torch.where(made > 0, x, known)
        yield x
