"""Small nets and spike trains for the tests of spiking nets; every one is alive (it fires)."""

from __future__ import annotations

import numpy as np

from bicameral.engines.spike.execute import Executor
from bicameral.engines.spike.graph import (
    IF,
    LIF,
    Affine,
    Conv2d,
    CubaLIF,
    Delay,
    Flatten,
    Linear,
    Net,
    SumPool2d,
    arrange,
    chain,
)
from bicameral.engines.spike.steps import Steps


def full(shape, value) -> np.ndarray:
    return np.full(shape, float(value))


def lif(shape, *, tau=2e-3, r=20.0, leak=0.0, threshold=1.0, reset=0.0) -> LIF:
    return LIF(
        tau=full(shape, tau),
        r=full(shape, r),
        v_leak=full(shape, leak),
        v_threshold=full(shape, threshold),
        v_reset=full(shape, reset),
    )


def cuba(shape, *, w_in=10.0, leak=0.0, reset=0.0) -> CubaLIF:
    return CubaLIF(
        tau_syn=full(shape, 1e-3),
        tau_mem=full(shape, 2e-3),
        r=full(shape, 20),
        v_leak=full(shape, leak),
        v_threshold=full(shape, 1),
        v_reset=full(shape, reset),
        w_in=full(shape, w_in),
    )


def integrate(shape, *, r=1e4, reset=0.0) -> IF:
    return IF(r=full(shape, r), v_threshold=full(shape, 1), v_reset=full(shape, reset))


def linear(rng, inputs: int, outputs: int, scale=0.3) -> Linear:
    return Linear(weight=rng.normal(0.05, scale, (outputs, inputs)))


def affine(rng, inputs: int, outputs: int, scale=0.3) -> Affine:
    bias = rng.normal(0.0, 0.02, outputs)
    return Affine(weight=rng.normal(0.05, scale, (outputs, inputs)), bias=bias)


def conv(rng, inputs: int, outputs: int, kernel=(3, 3), bias=0.02, **keys) -> Conv2d:
    per = inputs // keys.get("groups", 1)
    return Conv2d(
        weight=rng.normal(0.05, 0.4, (outputs, per, *kernel)),
        bias=rng.normal(0, bias, outputs) if bias else np.zeros(outputs),
        **keys,
    )


def pool(size=2, **keys) -> SumPool2d:
    return SumPool2d(kernel=(size, size), stride=keys.pop("stride", (size, size)), **keys)


def looped(rng, *, through: str = "lif") -> Net:
    """Eight neurons that feed one another through weights of their own."""
    neurons = {"lif": lif, "cuba": cuba}[through]((8,))
    layers = {"in": linear(rng, 6, 8), "cells": neurons, "back": linear(rng, 8, 8, 0.2)}
    edges = [("input", "in"), ("in", "cells"), ("cells", "back"), ("back", "cells")]
    return arrange(layers, edges, input="input", input_shape=(6,), output="cells")


def every(rng) -> dict[str, Net]:
    """A net for each kind of node and for the conventions that tell files apart."""
    return {
        "affine": chain((20,), affine(rng, 20, 12), lif((12,)), linear(rng, 12, 5), lif((5,))),
        "r is 1": chain((20,), linear(rng, 20, 12, 6.0), lif((12,), r=1)),
        "rest and reset": chain((20,), linear(rng, 20, 12), lif((12,), leak=0.2, reset=-0.3)),
        "cuba": chain((20,), linear(rng, 20, 12), cuba((12,), leak=-0.1, reset=0.1)),
        "if": chain((20,), linear(rng, 20, 12), integrate((12,), reset=0.25)),
        "one neuron": chain((20,), Linear(weight=np.abs(rng.normal(0, 0.3, (1, 20)))), lif((1,))),
        "no weights": chain((20,), lif((20,), r=12)),
        "pool first": chain((2, 6, 6), pool(), lif((2, 3, 3), r=9)),
        "conv": chain((2, 9, 8), conv(rng, 2, 3, padding=(1, 1)), lif((3, 9, 8))),
        "conv, strided": chain(
            (2, 9, 8),
            conv(rng, 2, 4, (3, 2), stride=(2, 3), padding=(2, 1), dilation=(3, 1)),
            lif((4, 4, 3)),
        ),
        "conv, grouped": chain(
            (4, 7, 7),
            conv(rng, 4, 6, (5, 3), groups=2, padding=(2, 1), bias=0),
            lif((6, 7, 7)),
            pool(3, stride=(2, 2), padding=(1, 1)),
            conv(rng, 6, 2, (3, 3)),
            integrate((2, 2, 2), r=3e3),
            Flatten(),
            linear(rng, 8, 4),
            lif((4,)),
        ),
        "conv, square": chain(
            (4, 7, 7),
            conv(rng, 4, 6, groups=2, stride=(2, 1), padding=(1, 0), dilation=(1, 2), bias=0),
            lif((6, 4, 3)),
            Flatten(),
            affine(rng, 72, 4),
            lif((4,)),
        ),
        "delay": chain(
            (20,),
            Delay(delay=rng.integers(0, 9, 20) * 1e-4),
            linear(rng, 20, 12),
            lif((12,)),
            Delay(delay=full((12,), 3e-4)),
        ),
        "loop": looped(rng),
        "loop, cuba": looped(rng, through="cuba"),
    }


def train(rng, net: Net | Steps, rate: float, steps: int = 60) -> np.ndarray:
    """Random spikes, as (steps, inputs) of bool."""
    return rng.random((steps, int(np.prod(net.input_shape)))) < rate


def executed(net: Net | Steps, spikes: np.ndarray, **keys) -> np.ndarray:
    """What the executor gives for a train, as (steps, outputs) of bool."""
    run = Executor(net, **keys)
    out = np.zeros((len(spikes), run.outputs), dtype=bool)
    for now, given in zip(out, spikes, strict=True):
        now[run.step(np.flatnonzero(given))] = True
    return out
