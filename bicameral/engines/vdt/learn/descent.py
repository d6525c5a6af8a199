"""How a net's numbers follow their gradients: by AdamW, the matrices of its blocks by Muon."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn
from torch.optim import AdamW, Muon, Optimizer

_KEPT: dict[type[Optimizer], tuple[str, ...]] = {
    AdamW: ("step", "exp_avg", "exp_avg_sq"),
    Muon: ("momentum_buffer",),
}


class Descent:
    """AdamW at `rate`; where `muon` is above 0, Muon at that rate for the matrices of the blocks.

    Muon (K. Jordan, 2024; arXiv 2502.16982) makes each update of a matrix orthogonal.
    """

    def __init__(self, net: nn.Module, rate: float, muon: float) -> None:
        named = dict(net.named_parameters())
        inner = [n for n in named if muon and n.startswith("blocks.") and n.endswith(".weight")]
        inner = [name for name in inner if named[name].ndim == 2]
        outer = [name for name in named if name not in set(inner)]
        fused = next(iter(named.values())).device.type == "cuda" or None
        adam = AdamW(
            [named[n] for n in outer], lr=rate, betas=(0.9, 0.99), weight_decay=0.0, fused=fused
        )
        self._parts: list[tuple[Optimizer, list[str], float]] = [(adam, outer, rate)]
        if inner:
            matrices = Muon([named[n] for n in inner], lr=muon, weight_decay=0.0)
            self._parts.append((matrices, inner, muon))

    def step(self, share: float) -> None:
        """One update at that share of the rates; the gradients are gone after it."""
        for optimizer, _, rate in self._parts:
            for group in optimizer.param_groups:
                group["lr"] = rate * share
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

    def moments(self) -> dict[str, Tensor]:
        """What it remembers of earlier gradients, by key and the parameter's name."""
        return {
            f"{key}.{names[index]}": value
            for optimizer, names, _ in self._parts
            for index, state in optimizer.state_dict()["state"].items()
            for key, value in state.items()
        }

    def restore(self, moments: Mapping[str, Tensor]) -> None:
        """Go on with what `moments` gave; KeyError if some of it is missing."""
        for optimizer, names, _ in self._parts:
            keys = _KEPT[type(optimizer)]
            held = optimizer.state_dict()
            held["state"] = {
                index: {key: moments[f"{key}.{name}"] for key in keys}
                for index, name in enumerate(names)
            }
            optimizer.load_state_dict(held)
