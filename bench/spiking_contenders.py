"""The same chain of layers in each library: one builder for each, which gives a function to run.

A builder takes layers as tuples, ("linear", W), ("conv", W), ("pool", 2), ("flatten",) or ("lif",)
and gives a function from spikes, (steps, *shape) as float32, to output spikes, (steps, outputs) as
torch tensor. All are built natively, with their own layers and neurons, under inference mode.
`stepped` ones take a step at a time, as a live stream needs; `batched` ones get the whole window at
once and may multiply over time.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn

DECAY, STEP = 0.95, 1e-4
TAU = STEP / (1 - DECAY)
Run = Callable[[torch.Tensor], torch.Tensor]


def _weights(make: Callable[..., nn.Module], weight: np.ndarray, scale: float) -> nn.Module:
    outputs, inputs, *kernel = weight.shape
    layer = make(inputs, outputs, *([tuple(kernel)] if kernel else []), bias=False)
    layer.weight.data = torch.from_numpy((weight * scale).astype(np.float32))
    return layer


def _modules(
    layers: list[tuple[Any, ...]], neuron: Callable[[], nn.Module], scale: float = 1.0
) -> list[nn.Module]:
    made: list[nn.Module] = []
    for kind, *given in layers:
        match kind:
            case "linear":
                made.append(_weights(nn.Linear, given[0], scale))
            case "conv":
                made.append(_weights(nn.Conv2d, given[0], scale))
            case "pool":
                made.append(nn.LPPool2d(1, given[0]))
            case "flatten":
                made.append(nn.Flatten())
            case "lif":
                made.append(neuron())
    return made


def _stepped(forward: Callable[[torch.Tensor], torch.Tensor]) -> Run:
    def run(window: torch.Tensor) -> torch.Tensor:
        with torch.inference_mode():
            return torch.stack([forward(now[None]).reshape(-1) for now in window])

    return run


def plain(layers: list[tuple[Any, ...]]) -> Run:
    """torch without any library: what a careful person writes."""
    state: dict[int, torch.Tensor] = {}

    class Leaky(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            v = state[id(self)].mul_(DECAY).add_(x) if id(self) in state else x.clone()
            spikes = v > 1.0
            state[id(self)] = v.masked_fill_(spikes, 0.0)
            return spikes.float()

    net = nn.Sequential(*_modules(layers, Leaky))
    step = _stepped(net)

    def run(window: torch.Tensor) -> torch.Tensor:
        state.clear()
        return step(window)

    return run


def snntorch(layers: list[tuple[Any, ...]]) -> Run:
    import snntorch as snn

    def neuron() -> nn.Module:
        return snn.Leaky(
            beta=DECAY, threshold=1.0, reset_mechanism="zero", init_hidden=True, reset_delay=False
        )

    modules = _modules(layers, neuron)
    step = _stepped(nn.Sequential(*modules))

    def run(window: torch.Tensor) -> torch.Tensor:
        for module in modules:
            if isinstance(module, snn.Leaky):
                module.reset_mem()
        return step(window)

    return run


def _jelly(layers: list[tuple[Any, ...]], mode: str) -> tuple[nn.Module, Any]:
    from spikingjelly.activation_based import functional, layer, neuron

    def lif() -> nn.Module:
        return neuron.LIFNode(tau=1 / (1 - DECAY), decay_input=False)

    modules = _modules(layers, lif)
    if mode == "m":
        modules = [
            m if isinstance(m, neuron.LIFNode) else layer.SeqToANNContainer(m) for m in modules
        ]
    net = nn.Sequential(*modules).eval()
    for module in modules:
        if isinstance(module, neuron.LIFNode):
            module.step_mode = mode
    return net, functional.reset_net


def spikingjelly(layers: list[tuple[Any, ...]]) -> Run:
    net, reset = _jelly(layers, "s")
    step = _stepped(net)

    def run(window: torch.Tensor) -> torch.Tensor:
        reset(net)
        return step(window)

    return run


def spikingjelly_batched(layers: list[tuple[Any, ...]]) -> Run:
    net, reset = _jelly(layers, "m")

    def run(window: torch.Tensor) -> torch.Tensor:
        reset(net)
        with torch.inference_mode():
            return net(window[:, None])[:, 0]

    return run


def norse(layers: list[tuple[Any, ...]]) -> Run:
    from norse.torch.functional.lif_box import LIFBoxParameters
    from norse.torch.module.lif_box import LIFBoxCell
    from norse.torch.module.sequential import SequentialState

    def neuron() -> nn.Module:
        return LIFBoxCell(LIFBoxParameters(tau_mem_inv=torch.tensor(1 / TAU)), dt=STEP)

    net = SequentialState(*_modules(layers, neuron, scale=TAU / STEP))

    def run(window: torch.Tensor) -> torch.Tensor:
        state = None
        outputs = []
        with torch.inference_mode():
            for now in window:
                out, state = net(now[None], state)
                outputs.append(out.reshape(-1))
        return torch.stack(outputs)

    return run


def _sinabs(layers: list[tuple[Any, ...]], steps: int) -> tuple[nn.Module, list[nn.Module]]:
    import sinabs.layers as sl
    from sinabs.activation import MembraneReset, SingleSpike

    def neuron() -> nn.Module:
        return sl.LIFSqueeze(
            tau_mem=-1 / math.log(DECAY),
            norm_input=False,
            spike_fn=SingleSpike,
            reset_fn=MembraneReset(),
            **({"num_timesteps": 1} if steps == 1 else {"batch_size": 1}),
        )

    modules = _modules(layers, neuron)
    return nn.Sequential(*modules), [m for m in modules if isinstance(m, sl.LIFSqueeze)]


def sinabs(layers: list[tuple[Any, ...]]) -> Run:
    net, neurons = _sinabs(layers, 1)
    step = _stepped(net)

    def run(window: torch.Tensor) -> torch.Tensor:
        with torch.inference_mode():
            for neuron in neurons:
                neuron.reset_states()
        return step(window)

    return run


def sinabs_batched(layers: list[tuple[Any, ...]]) -> Run:
    net, neurons = _sinabs(layers, -1)

    def run(window: torch.Tensor) -> torch.Tensor:
        with torch.inference_mode():
            for neuron in neurons:
                neuron.reset_states()
            return net(window)

    return run


STEPPED = {
    "snnTorch": snntorch,
    "SpikingJelly": spikingjelly,
    "Norse": norse,
    "Sinabs": sinabs,
    "plain torch": plain,
}
BATCHED = {"SpikingJelly": spikingjelly_batched, "Sinabs": sinabs_batched}
