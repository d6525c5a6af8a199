"""The net and the diffusion process of a design."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol, cast

from torch import Generator, Tensor, nn

from bicameral.engines.vdt import flow
from bicameral.engines.vdt.design import Design
from bicameral.engines.vdt.modern import Modern

Net = Callable[[Tensor, Tensor, Tensor, Tensor | None], Tensor]
"""(x, mask, time, known) to what the design predicts; clips (B, T, C, H, W), masks (B, T, h, w)."""


class Process(Protocol):
    """How clips become noise and come back: a module of this package. M = 1: generate."""

    def loss(self, net: Net, design: Design, clip: Tensor, mask: Tensor, draw: Generator) -> Tensor:
        """(B,) what training makes small, one number for each clip; `draw` gives all chance."""
        ...

    def sample(
        self,
        net: Net,
        design: Design,
        known: Tensor,
        mask: Tensor,
        draw: Generator,
        *,
        steps: int,
        guidance: float = 1.0,
    ) -> Iterator[Tensor]:
        """The clip after each step; in the last, what was given is as it was, bit for bit."""
        ...


def build(design: Design) -> nn.Module:
    """A net with fresh weights; torch's own seed decides them."""
    if design.kind == "modern":
        return Modern(design)
    from bicameral.engines.vdt.faithful import Faithful

    return Faithful(design)


def process(design: Design) -> Process:
    """What trains it and samples from it."""
    if design.kind == "modern":
        return cast(Process, flow)
    from bicameral.engines.vdt import ddpm

    return cast(Process, ddpm)
