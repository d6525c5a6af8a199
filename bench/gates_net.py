"""A small spiking net, its gradient through time with a surrogate, and its NIR file.

Events on a grid -> Conv 5x5 -> LIF -> Conv 3x3 -> LIF (both of stride 2) -> sum over the grid ->
Linear -> LIF. A neuron holds v[t] = beta * v[t-1] * (1 - s[t-1]) + input and spikes where v > 1;
the score is the leaky count of output spikes. For the derivative a spike does not have, that of a
fast sigmoid is used.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]

LEAK = 0.8  # of the count of output spikes, per step
SLOPE = 4.0
GRID = (2, 12, 16)
CHANNELS, OUT = 8, 8
DT = 1e-4  # the step every NIR reader agrees on; here it stands for one frame


def columns(x: Array, kernel: int, pad: int) -> Array:
    """(N, H, W, C) at stride 2 -> (N * positions, kernel * kernel * C)."""
    x = np.pad(x, ((0, 0), (pad, pad), (pad, pad), (0, 0)))
    views = np.lib.stride_tricks.sliding_window_view(x, (kernel, kernel), axis=(1, 2))
    views = views[:, ::2, ::2].transpose(0, 1, 2, 4, 5, 3)
    return views.reshape(-1, kernel * kernel * x.shape[-1])


def uncolumns(grad: Array, weight: Array) -> Array:
    """The gradient of what layer 2 was given, (N, 6, 8, C), from that of its currents."""
    grad = grad.reshape(-1, CHANNELS)
    wide = np.zeros((len(grad) // 12, 8, 10, CHANNELS), np.float32)
    for index, part in enumerate(np.split(weight, 9, axis=1)):
        i, j = divmod(index, 3)
        wide[:, i : i + 6 : 2, j : j + 8 : 2] += (grad @ part).reshape(-1, 3, 4, CHANNELS)
    return wide[:, 1:-1, 1:-1]


def fire(current: Array, beta: Array) -> tuple[Array, Array]:
    """Spikes and membranes of LIF neurons, (B, T, N) -> (B, T, N) each."""
    spikes, membranes = np.empty_like(current), np.empty_like(current)
    v = np.zeros_like(current[:, 0])
    for t in range(current.shape[1]):
        v = beta * v + current[:, t]
        membranes[:, t] = v
        spikes[:, t] = v > 1
        v = v * (1 - spikes[:, t])
    return spikes, membranes


def unfire(grad: Array, spikes: Array, membranes: Array, beta: Array) -> Array:
    """The gradient of the current from that of the spikes; the reset is not differentiated."""
    local = grad / (1 + SLOPE * np.abs(membranes - 1)) ** 2
    back = np.zeros_like(grad[:, 0])
    for t in range(grad.shape[1] - 1, -1, -1):
        back = local[:, t] + beta * (1 - spikes[:, t]) * back
        local[:, t] = back
    return local


def leaky(values: Array, *, backward: bool = False) -> Array:
    out, total = np.empty_like(values), np.zeros_like(values[:, 0])
    steps = range(values.shape[1])
    for t in reversed(steps) if backward else steps:
        total = LEAK * total + values[:, t]
        out[:, t] = total
    return out


@dataclass
class Net:
    """The weights, and which leak each neuron has: half of a layer is quick, half slow."""

    weights: dict[str, Array]
    betas: tuple[Array, Array, Array] = field(init=False)

    def __post_init__(self) -> None:
        beta = np.repeat([0.4, 0.85], CHANNELS // 2).astype(np.float32)
        slow = np.repeat([0.6, 0.9], OUT // 2).astype(np.float32)
        self.betas = np.tile(beta, 48), np.tile(beta, 12), slow

    def forward(self, x: Array) -> tuple[Array, dict[str, Array]]:
        """(B, T, 12, 16, 2) -> the leaky count of output spikes (B, T), and what backward needs."""
        batch, steps = x.shape[:2]
        w, kept = self.weights, {}
        kept["c1"] = columns(x.reshape(-1, *x.shape[2:]), 5, 2)
        current = (kept["c1"] @ w["conv1"].T).reshape(batch, steps, -1)
        kept["s1"], kept["v1"] = fire(current, self.betas[0])
        kept["c2"] = columns(kept["s1"].reshape(-1, 6, 8, CHANNELS), 3, 1)
        current = (kept["c2"] @ w["conv2"].T).reshape(batch, steps, -1)
        kept["s2"], kept["v2"] = fire(current, self.betas[1])
        kept["pool"] = kept["s2"].reshape(batch, steps, 12, CHANNELS).sum(2)
        kept["s3"], kept["v3"] = fire(kept["pool"] @ w["linear"].T, self.betas[2])
        return leaky(kept["s3"].sum(-1)), kept

    def backward(self, grad: Array, kept: dict[str, Array], cost: float) -> dict[str, Array]:
        """Gradients from that of the count; `cost` is the price of one hidden spike."""
        w, out = self.weights, {}
        g = np.repeat(leaky(grad, backward=True)[..., None], OUT, axis=-1)
        g = unfire(g, kept["s3"], kept["v3"], self.betas[2])
        out["linear"] = g.reshape(-1, OUT).T @ kept["pool"].reshape(-1, CHANNELS)
        g = np.tile(g @ w["linear"], 12) + cost
        g = unfire(g, kept["s2"], kept["v2"], self.betas[1])
        out["conv2"] = g.reshape(-1, CHANNELS).T @ kept["c2"]
        g = uncolumns(g, w["conv2"]).reshape(kept["s1"].shape) + cost
        g = unfire(g, kept["s1"], kept["v1"], self.betas[0])
        out["conv1"] = g.reshape(-1, CHANNELS).T @ kept["c1"]
        return out


def fresh(seed: int) -> Net:
    rng = np.random.default_rng(seed)

    def normal(rows: int, inputs: int, gain: float) -> Array:
        return (rng.standard_normal((rows, inputs)) * gain / np.sqrt(inputs)).astype(np.float32)

    conv1 = normal(CHANNELS, 50, 1.0) + 0.03
    conv2 = normal(CHANNELS, CHANNELS * 9, 1.5) + 0.05
    linear = normal(OUT, CHANNELS, 0.3) + 0.1
    return Net({"conv1": conv1, "conv2": conv2, "linear": linear})


class Adam:
    def __init__(self, values: dict[str, Array], rate: Callable[[int], float]) -> None:
        self.values, self.rate, self.step = values, rate, 0
        self.first = {name: np.zeros_like(value) for name, value in values.items()}
        self.second = {name: np.zeros_like(value) for name, value in values.items()}

    def update(self, gradients: dict[str, Array]) -> None:
        self.step += 1
        size = np.sqrt(sum(float((g**2).sum()) for g in gradients.values()))
        for name, gradient in gradients.items():
            g = gradient * min(1.0, 1.0 / (size + 1e-9))
            self.first[name] += 0.1 * (g - self.first[name])
            self.second[name] += 0.001 * (g**2 - self.second[name])
            first = self.first[name] / (1 - 0.9**self.step)
            second = self.second[name] / (1 - 0.999**self.step)
            self.values[name] -= self.rate(self.step) * first / (np.sqrt(second) + 1e-8)


def write(net: Net, path: Path) -> None:
    """As NIR. Its neuron is tau dv/dt = -v + r i; with r = 1 the weights carry tau / dt."""
    import nir

    def neurons(beta: Array) -> nir.LIF:
        tau = (DT / (1 - beta)).astype(np.float32)
        one = np.ones(tau.shape, np.float32)
        return nir.LIF(tau=tau, r=one, v_leak=0 * one, v_threshold=one, v_reset=0 * one)

    def gain(beta: Array) -> Array:
        return (1 / (1 - beta)).astype(np.float32)

    def kernels(weight: Array, beta: Array, size: int) -> Array:
        gained = weight * gain(beta[:CHANNELS, None])
        return gained.reshape(CHANNELS, size, size, -1).transpose(0, 3, 1, 2)

    def maps(beta: Array, height: int, width: int) -> Array:
        return beta.reshape(height, width, CHANNELS).transpose(2, 0, 1)

    w, beta, zero = net.weights, net.betas, np.zeros(CHANNELS, np.float32)
    nodes = {
        "input": nir.Input(np.array(GRID)),
        "conv1": nir.Conv2d(GRID[1:], kernels(w["conv1"], beta[0], 5), 2, 2, 1, 1, zero),
        "lif1": neurons(maps(beta[0], 6, 8)),
        "conv2": nir.Conv2d((6, 8), kernels(w["conv2"], beta[1], 3), 2, 1, 1, 1, zero),
        "lif2": neurons(maps(beta[1], 3, 4)),
        "pool": nir.SumPool2d(np.array([3, 4]), np.array([3, 4]), np.array([0, 0])),
        "flat": nir.Flatten({"input": np.array([CHANNELS, 1, 1])}, 0, -1),
        "linear": nir.Linear(w["linear"] * gain(beta[2])[:, None]),
        "lif3": neurons(beta[2]),
        "output": nir.Output(np.array([OUT])),
    }
    # Without compression: chunks of compressed data would make so small a file three times as big.
    graph = nir.NIRGraph(nodes, list(pairwise(nodes)), type_check=False)
    nir.write(path, graph, compression=None)
