"""What a net does in one step of time, whatever conventions its file uses.

NIR gives differential equations; a reader has to choose a step and an order. Here it is forward
Euler, the current before the voltage, the voltage before the comparison (v > threshold), as in
the NIR paper. A neuron starts at rest: v_leak, or v_reset for an IF. With the rest moved to 0 all
three kinds are one recurrence (x is what comes in, u is 0 at first):

    i = synapse * i + x;   u = decay * u + i;   spike where u > threshold;   there u = reset

decay = 1 - dt / tau (1 for an IF), synapse = 1 - dt / tau_syn (0 but for a CubaLIF). What scales
the input, r dt / tau (r dt for an IF; times w_in dt / tau_syn for a CubaLIF), is folded into the
weights before the neuron, or where those are not its own into threshold and reset.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, TypeVar, cast

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from bicameral.engines.spike.graph import (
    IF,
    LIF,
    Affine,
    Array,
    Conv2d,
    CubaLIF,
    Delay,
    Flatten,
    Graph,
    Linear,
    Net,
    Neuron,
    Node,
    Shape,
    SumPool2d,
)
from bicameral.errors import ConfigError, WeightsError

DT = 1e-4
MOST_LAG = 100_000


class Cells(Struct, frozen=True, kw_only=True, eq=False):
    """Neurons as the recurrence above: one value of each for every neuron, in C order.

    With `bits`, states are whole numbers of so many, sign included: a product with a decay loses
    its fraction, and a sum stays at the largest number instead of leaving it.
    """

    decay: Array
    threshold: Array
    reset: Array
    synapse: Array | None = None
    bits: int | None = None


class Lag(Struct, frozen=True, kw_only=True, eq=False):
    """Each element comes so many steps later."""

    steps: NDArray[np.intp]


Op = Affine | Linear | Conv2d | SumPool2d | Flatten | Cells | Lag
M = TypeVar("M")
Steps = Graph[Op]
Weights = Affine | Linear | Conv2d


def normalise(net: Net, dt: float = DT) -> Steps:
    """The net at a step of `dt` seconds; ConfigError if a time constant is too short for it."""
    if not (math.isfinite(dt) and dt > 0):
        raise ConfigError(f"dt is {dt}: it has to be a number of seconds above 0")
    gains: dict[str, Array] = {}
    ops: dict[str, Op] = {}
    for node in net.nodes:
        match node.layer:
            case LIF() | CubaLIF() | IF() as layer:
                cells, gain = _cells(node.name, layer, node.shape, dt)
                feeders = own_weights(net, node, gain)
                gains |= dict.fromkeys(feeders, gain)
                ops[node.name] = cells if feeders else _in_units(node.name, cells, gain)
            case Delay() as layer:
                ops[node.name] = _lag(node.name, layer, node.shape, dt)
            case layer:
                ops[node.name] = layer
    ops |= {name: weighted(ops[name], gain) for name, gain in gains.items()}
    return with_layers(net, ops, dt)


def stepped(net: Net | Steps, dt: float = DT) -> Steps:
    """The net in steps; one that is so already keeps its own."""
    return normalise(cast(Net, net), dt) if net.dt is None else cast(Steps, net)


def with_layers(net: Graph[Any], layers: Mapping[str, M], dt: float | None) -> Graph[M]:
    """The same connections between other layers."""
    nodes = tuple(
        Node(
            name=node.name,
            layer=layers[node.name],
            sources=node.sources,
            delayed=node.delayed,
            takes=node.takes,
            shape=node.shape,
        )
        for node in net.nodes
    )
    return Graph(
        nodes=nodes, input=net.input, input_shape=net.input_shape, output=net.output, dt=dt
    )


def _cells(name: str, layer: Neuron, shape: Shape, dt: float) -> tuple[Cells, Array]:
    """The recurrence of the neurons, and the factor of their input."""
    field = {f: _spread(getattr(layer, f), shape) for f in layer.__struct_fields__}
    ones = np.ones(math.prod(shape))
    match layer:
        case IF():
            decay, synapse, rest, gain = ones, None, field["v_reset"], field["r"] * dt
        case LIF():
            share = _share(name, "tau", field["tau"], dt)
            decay, synapse, rest, gain = 1 - share, None, field["v_leak"], field["r"] * share
        case CubaLIF():
            share = _share(name, "tau_mem", field["tau_mem"], dt)
            quick = _share(name, "tau_syn", field["tau_syn"], dt)
            decay, synapse, rest = 1 - share, 1 - quick, field["v_leak"]
            gain = field["r"] * share * field["w_in"] * quick
    cells = Cells(
        decay=decay,
        threshold=field["v_threshold"] - rest,
        reset=field["v_reset"] - rest,
        synapse=synapse,
    )
    return cells, gain


def _spread(value: Array, shape: Shape) -> Array:
    return np.ascontiguousarray(np.broadcast_to(value, shape)).reshape(-1)


def _share(name: str, field: str, tau: Array, dt: float) -> Array:
    """dt / tau; Euler's method overshoots where it is above 1."""
    share = dt / tau
    if (share > 1).any():
        raise ConfigError(
            f"node '{name}': {field} is down to {tau.min():g} s, shorter than the step of {dt:g} s;"
            " choose a smaller dt"
        )
    return share


def own_weights(net: Graph[Any], node: Node[Any], gain: Array) -> tuple[str, ...]:
    """The nodes whose weights may take the gain: all that feed these neurons, and nothing else."""
    feeders = (*node.sources, *node.delayed)
    if net.input in feeders:
        return ()
    for name in feeders:
        layer = net.node(name).layer
        takers = [n for n in net.nodes if name in (*n.sources, *n.delayed)]
        if not isinstance(layer, Weights) or len(takers) > 1 or name == net.output:
            return ()
        if isinstance(layer, Conv2d) and not _by_channel(gain, layer):
            return ()
    return feeders


def _by_channel(gain: Array, layer: Conv2d) -> bool:
    rows = gain.reshape(layer.weight.shape[0], -1)
    return bool((rows == rows[:, :1]).all())


def weighted(op: Op, gain: Array) -> Weights:
    """The weights times the gain of the neurons they feed."""
    match op:
        case Linear():
            return Linear(weight=op.weight * gain[:, None])
        case Affine():
            return Affine(weight=op.weight * gain[:, None], bias=op.bias * gain)
        case Conv2d():
            each = gain.reshape(op.weight.shape[0], -1)[:, 0]
            return Conv2d(
                weight=op.weight * each[:, None, None, None],
                bias=op.bias * each,
                stride=op.stride,
                padding=op.padding,
                dilation=op.dilation,
                groups=op.groups,
            )
    raise TypeError(f"{type(op).__name__} has no weights")


def _in_units(name: str, cells: Cells, gain: Array) -> Cells:
    """Voltages in units of the gain: the input then needs no factor."""
    if not (gain > 0).all():
        raise WeightsError(
            f"node '{name}': r (and w_in) have to be above 0 where no weights of its own feed it"
        )
    return Cells(
        decay=cells.decay,
        threshold=cells.threshold / gain,
        reset=cells.reset / gain,
        synapse=cells.synapse,
    )


def _lag(name: str, layer: Delay, shape: Shape, dt: float) -> Lag:
    """Whole steps: a delay that falls between two is rounded to the nearer."""
    steps = np.rint(_spread(layer.delay, shape) / dt)
    if steps.max(initial=0) > MOST_LAG:
        raise ConfigError(
            f"node '{name}': a delay of {layer.delay.max():g} s is {steps.max():.0f} steps of"
            f" {dt:g} s, at most {MOST_LAG} are kept"
        )
    return Lag(steps=steps.astype(np.intp))
