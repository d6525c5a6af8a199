"""One net in several processes, and one made faster by torch's compiler."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from msgspec import Struct
from torch import Tensor, distributed, nn

from bicameral.engines.vdt.design import Design
from bicameral.errors import ConfigError

_ADDED = 0.02  # to weights, so that all of a net takes part
_APART = 0.1  # of gradients, as a share; half precision alone makes 0.01


class Share(Struct, frozen=True):
    """Process `rank` of `count`; with more than one, torch's process group must be open."""

    rank: int = 0
    count: int = 1

    def rows(self, batch: int) -> slice:
        """Which clips of a batch are its own; ConfigError if they cannot all have as many."""
        each, rest = divmod(batch, self.count)
        if rest:
            raise ConfigError(
                f"a batch of {batch} does not divide among {self.count} processes: "
                f"set batch to {(each + 1) * self.count}"
            )
        return slice(self.rank * each, (self.rank + 1) * each)

    def joined(self, net: nn.Module, device: torch.device) -> nn.Module:
        """The net, its gradients averaged over all processes."""
        if self.count == 1:
            return net
        ids = [device] if device.type == "cuda" else None
        return nn.parallel.DistributedDataParallel(net, device_ids=ids)

    def mean(self, value: Tensor) -> float:
        """Over all processes."""
        if self.count > 1:
            distributed.all_reduce(value)
        return float(value) / self.count

    def agreed(self, code: int, device: torch.device) -> int:
        """What the first process says; every process must ask."""
        if self.count == 1:
            return code
        said = torch.tensor([code], device=device)
        distributed.broadcast(said, 0)
        return int(said)


ALONE = Share()


def faster(
    net: nn.Module,
    design: Design,
    count: int,
    device: torch.device,
    *,
    half: bool,
    said: Callable[[str], None],
) -> Any:
    """The net compiled; as it was if that fails, or if its gradients come out otherwise.

    Both are tried on `count` drawn clips, with weights that differ from the net's own, as a fresh
    net hides most of itself behind zeros.
    """
    frames, rows, columns = design.grid
    high, wide = rows * design.patch, columns * design.patch
    draw = torch.Generator().manual_seed(0)
    clip = torch.randn(count, frames, design.latent, high, wide, generator=draw).to(device)
    mask = torch.ones(count, frames, rows, columns, device=device)
    time = mask / 2
    if design.kind == "faithful":
        time = torch.full((count,), 500, device=device)
    inputs = clip, mask, time, torch.zeros_like(clip)
    try:
        run = torch.compile(net)
        with _awake(net, draw):
            plain, quick = (_gradient(net, each, inputs, half=half) for each in (net, run))
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        lines = str(error).strip().splitlines()
        why = next((line for line in lines if "error:" in line), lines[0])
        said(f"--compile has no effect here: {why}")
        return net
    apart = float((quick - plain).norm() / plain.norm())
    if not apart < _APART:
        said(f"--compile has no effect here: compiled, gradients are off by {100 * apart:.0f} %")
        return net
    return run


@contextmanager
def _awake(net: nn.Module, draw: torch.Generator) -> Iterator[None]:
    """The net with something added to all its weights; they and its gradients are restored."""
    kept = {name: each.detach().clone() for name, each in net.named_parameters()}
    with torch.no_grad():
        for each in net.parameters():
            each += _ADDED * torch.randn(each.shape, generator=draw).to(each)
    try:
        yield
    finally:
        with torch.no_grad():
            for name, each in net.named_parameters():
                each.copy_(kept[name])
        net.zero_grad(set_to_none=True)


def _gradient(net: nn.Module, run: Any, inputs: tuple[Tensor, ...], *, half: bool) -> Tensor:
    """Of the squares of what `run`, which is `net` somehow, puts out; in one row."""
    net.zero_grad(set_to_none=True)
    with torch.autocast(inputs[0].device.type, torch.bfloat16, enabled=half):
        out = run(*inputs)
    out.float().square().sum().backward()
    return torch.cat([each.grad.flatten() for each in net.parameters() if each.grad is not None])
