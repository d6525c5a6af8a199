"""Noise in a thousand steps and back, as VDT has it (Ho et al., arXiv 2006.11239).

The net guesses the noise, and where the variance of a step lies between its bounds (Nichol and
Dhariwal, arXiv 2102.09672). Tokens that are given stand clean in what the net sees, at every step.
Times count from 1, nearly clean, to 1000, nearly noise; 0 is the clip itself.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Generator, Tensor

from bicameral.engines.vdt.design import Design
from bicameral.engines.vdt.parts import spread
from bicameral.errors import RequestError

Net = Callable[[Tensor, Tensor, Tensor, Tensor | None], Tensor]
STEPS = 1000
BETAS = (1e-4, 0.02)


def kept() -> Tensor:
    """(1001,) how much of the clip's variance is left at each time; all of it at 0."""
    betas = torch.linspace(*BETAS, STEPS, dtype=torch.float64)
    return torch.cat([torch.ones(1, dtype=torch.float64), (1 - betas).cumprod(0)])


class Move(NamedTuple):
    """From a time to an earlier one; each number (B, 1, 1, 1, 1).

    At the time a state is `signal * clip + noise * a noise`, and then `next_signal` and
    `next_noise`. The mean at the earlier one, for a clip that is known, is `of_clip * clip +
    of_state * state`. The variance lies between two bounds: `lower` and `upper` are their
    logarithms, `deviation` the root of the lower.
    """

    signal: Tensor
    noise: Tensor
    next_signal: Tensor
    next_noise: Tensor
    of_clip: Tensor
    of_state: Tensor
    lower: Tensor
    upper: Tensor
    deviation: Tensor


def move(now: Tensor, after: Tensor) -> Move:
    """What holds between two times (B,), `after` the earlier, not always by one."""
    table = kept().to(now.device)
    have, left = (table[time].view(-1, 1, 1, 1, 1) for time in (now, after))
    beta = 1 - have / left
    least = beta * (1 - left) / (1 - have)
    # To time 0 there is no variance; as a bound that of the step before stands in for it.
    floor = (1 - table[2] / table[1]) * (1 - table[1]) / (1 - table[2])
    each = (
        have.sqrt(),
        (1 - have).sqrt(),
        left.sqrt(),
        (1 - left).sqrt(),
        left.sqrt() * beta / (1 - have),
        (have / left).sqrt() * (1 - left) / (1 - have),
        torch.maximum(least, floor).log(),
        beta.log(),
        least.sqrt(),
    )
    return Move(*(number.float() for number in each))


def loss(net: Net, design: Design, clip: Tensor, mask: Tensor, draw: Generator) -> Tensor:
    """(B,) squared error of the noise where it is generated, and the bound on the variance.

    As in the paper both are means over all of a clip, given tokens too, of which the first is 0
    there and the second is not: a clip of which little is generated counts little.
    `clip` (B, T, C, H, W) as the net sees it, `mask` (B, T, h, w), one for each clip.
    Raises RequestError for a mask that is neither 0 nor 1 somewhere.
    """
    time = torch.randint(1, STEPS + 1, (len(clip),), generator=draw, device=clip.device)
    noise = torch.randn(clip.shape, generator=draw, device=clip.device)
    return error(net, design, clip, mask, noise, time)


def error(
    net: Net, design: Design, clip: Tensor, mask: Tensor, noise: Tensor, time: Tensor
) -> Tensor:
    """`loss` for a noise and a time (B,) that are given."""
    made = _made(mask, design)
    step = move(time, time - 1)
    seen = torch.where(made, step.signal * clip + step.noise * noise, clip)
    out = net(seen, mask, time, torch.where(made, 0, clip)).float()
    guess, range_ = out.chunk(2, dim=2)
    square = (made * (guess - noise) ** 2).mean((1, 2, 3, 4))
    # By so much the mean of the step that is guessed is off; the bound trains the variance only.
    off = step.of_clip * step.noise / step.signal * (noise - guess.detach())
    bits = torch.where(
        (time == 1).view(-1, 1, 1, 1, 1),
        _unlikely(design, clip, off, _log_variance(step, range_)),
        _divergence(step, off, _log_variance(step, range_)),
    )
    return square + bits.mean((1, 2, 3, 4)) / math.log(2)


def _log_variance(step: Move, range_: Tensor) -> Tensor:
    share = (range_ + 1) / 2
    return share * step.upper + (1 - share) * step.lower


def _divergence(step: Move, off: Tensor, log_variance: Tensor) -> Tensor:
    """Of the guessed step from the true one, in nats."""
    ratio = step.lower - log_variance
    return (ratio.exp() - 1 - ratio + off**2 * (-log_variance).exp()) / 2


def _unlikely(design: Design, clip: Tensor, off: Tensor, log_variance: Tensor) -> Tensor:
    """Minus the logarithm of the chance of the clip's 8-bit value under the last step, in nats.

    Pixels end at -1 and 1, where all that lies beyond counts; latents do not.
    """
    narrow = (-log_variance / 2).exp()
    below = torch.special.ndtr((-off - 1 / 255) * narrow)
    above = torch.special.ndtr((off - 1 / 255) * narrow)
    if design.codec is None:
        below = torch.where(clip < -0.999, 0, below)
        above = torch.where(clip > 0.999, 0, above)
    return -(1 - below - above).clamp(min=1e-12).log()


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
    eta: float = 0.0,
    ancestral: bool = False,
) -> Iterator[Tensor]:
    """The clip after each of `steps` of the thousand; what is given is in it bit for bit.

    Steps are those of DDIM (arXiv 2010.02502) with so much new noise as `eta` says, from 0 to 1;
    `ancestral` takes the paper's instead, whose variance the net has learnt. Pixels stay in range.
    `guidance` above 1 leans away from what the net guesses where nothing is given: its noise for a
    mask of ones and for given tokens noised like the others; the variance is not led.
    Raises RequestError for steps not from 1 to 1000 and as `loss` does.
    """
    if not 1 <= steps <= STEPS:
        raise RequestError(f"steps must be from 1 to {STEPS}, not {steps}", param="steps")
    made = _made(mask, design)
    given = torch.where(made, 0, known)
    first = torch.randn(known.shape, generator=draw, device=known.device)

    def guessed(x: Tensor, time: Tensor, step: Move) -> tuple[Tensor, Tensor]:
        out = net(torch.where(made, x, known), mask, time, given).float()
        guess, range_ = out.chunk(2, dim=2)
        if guidance == 1.0:
            return guess, range_
        free = torch.where(made, x, step.signal * known + step.noise * first)
        out = net(free, torch.ones_like(mask), time, 0 * given).float()
        plain, _ = out.chunk(2, dim=2)
        return plain + guidance * (guess - plain), range_

    x = first
    line = torch.linspace(STEPS, 0, steps + 1, dtype=torch.float64).round().long().tolist()
    for now, after in pairwise(line):
        time = torch.full((len(known),), now, device=known.device)
        step = move(time, torch.full_like(time, after))
        guess, range_ = guessed(x, time, step)
        clean = (x - step.noise * guess) / step.signal
        if design.codec is None:
            clean = clean.clamp(-1, 1)
        chance = bool(after) and (ancestral or eta > 0)
        fresh = torch.randn(x.shape, generator=draw, device=x.device) if chance else 0 * x
        if ancestral:
            x = _ancestral(step, x, clean, fresh, range_)
        else:
            x = _implicit(step, x, clean, fresh, eta)
        yield torch.where(made, x, known)


def _ancestral(step: Move, x: Tensor, clean: Tensor, fresh: Tensor, range_: Tensor) -> Tensor:
    deviation = (_log_variance(step, range_) / 2).exp()
    return step.of_clip * clean + step.of_state * x + deviation * fresh


def _implicit(step: Move, x: Tensor, clean: Tensor, fresh: Tensor, eta: float) -> Tensor:
    noise = (x - step.signal * clean) / step.noise
    new = eta * step.deviation
    old = (step.next_noise**2 - new**2).clamp(min=0).sqrt()
    return step.next_signal * clean + old * noise + new * fresh


def _made(mask: Tensor, design: Design) -> Tensor:
    """What is generated, as a yes or no for each place."""
    if not ((mask == 0) | (mask == 1)).all():
        raise RequestError(
            "a faithful net gives a token or generates it: its mask must be 0 or 1 everywhere;"
            " a modern net takes what is between",
            param="mask",
        )
    return spread(mask, design.patch) > 0
