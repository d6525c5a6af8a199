"""One net in several processes, and one made faster by torch's compiler."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from msgspec import Struct
from torch import Tensor, distributed, nn

from bicameral.engines.vdt.design import Design
from bicameral.errors import ConfigError


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
    """The net compiled, tried forwards and backwards on `count` clips; as it was if that fails."""
    frames, rows, columns = design.grid
    high, wide = rows * design.patch, columns * design.patch
    clip = torch.zeros(count, frames, design.latent, high, wide, device=device)
    mask = torch.ones(count, frames, rows, columns, device=device)
    try:
        run = torch.compile(net)
        with torch.autocast(device.type, torch.bfloat16, enabled=half):
            out = run(clip, mask, mask, clip)
        out.float().sum().backward()
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        lines = str(error).strip().splitlines()
        why = next((line for line in lines if "error:" in line), lines[0])
        said(f"--compile has no effect here: {why}")
        return net
    finally:
        net.zero_grad(set_to_none=True)
    return run
