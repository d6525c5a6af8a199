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
    """Neurons as the recurrence above: one value of each for every neuron, in C order."""

    decay: Array
    threshold: Array
    reset: Array
    synapse: Array | None = None


class Lag(Struct, frozen=True, kw_only=True, eq=False):
    """Each element comes so many steps later."""

    steps: NDArray[np.intp]


Op = Affine | Linear | Conv2d | SumPool2d | Flatten | Cells | Lag
Weights = Affine | Linear | Conv2d


class Step(Struct, frozen=True, kw_only=True, eq=False):
    """One operation, and where it comes from: the same fields as a Node."""

    name: str
    op: Op
    sources: tuple[str, ...]
    delayed: tuple[str, ...] = ()
    takes: Shape
    shape: Shape


class Steps(Struct, frozen=True, kw_only=True, eq=False):
    """A net in discrete time; a step lasts `dt` seconds."""

    nodes: tuple[Step, ...]
    input: str
    input_shape: Shape
    output: str
    dt: float

    def node(self, name: str) -> Step:
        """The operation of that name."""
        return next(node for node in self.nodes if node.name == name)


def normalise(net: Net, dt: float = DT) -> Steps:
    """The net at a step of `dt` seconds; ConfigError if a time constant is too short for it."""
    if not (math.isfinite(dt) and dt > 0):
        raise ConfigError(f"dt is {dt}: it has to be a number of seconds above 0")
    gains: dict[str, Array] = {}
    ops: dict[str, Op] = {}
    for node in net.nodes:
        match node.layer:
            case LIF() | CubaLIF() | IF():
                ops[node.name], gain = _cells(node, node.layer, dt)
                feeders = _own_weights(net, node, gain)
                if feeders:
                    gains |= dict.fromkeys(feeders, gain)
                else:
                    ops[node.name] = _scaled(node.name, ops[node.name], gain)
            case Delay():
                ops[node.name] = _lag(node, node.layer, dt)
            case layer:
                ops[node.name] = layer
    for name, gain in gains.items():
        ops[name] = _weighted(ops[name], gain)
    return Steps(
        nodes=tuple(
            Step(
                name=node.name,
                op=ops[node.name],
                sources=node.sources,
                delayed=node.delayed,
                takes=node.takes,
                shape=node.shape,
            )
            for node in net.nodes
        ),
        input=net.input,
        input_shape=net.input_shape,
        output=net.output,
        dt=dt,
    )


def _cells(node: Node, layer: Neuron, dt: float) -> tuple[Cells, Array]:
    """The recurrence of the neurons, and the factor of their input."""
    field = {f: _spread(getattr(layer, f), node.shape) for f in layer.__struct_fields__}
    ones = np.ones(math.prod(node.shape))
    match layer:
        case IF():
            decay, synapse, rest, gain = ones, None, field["v_reset"], field["r"] * dt
        case LIF():
            share = _share(node.name, "tau", field["tau"], dt)
            decay, synapse, rest, gain = 1 - share, None, field["v_leak"], field["r"] * share
        case CubaLIF():
            share = _share(node.name, "tau_mem", field["tau_mem"], dt)
            quick = _share(node.name, "tau_syn", field["tau_syn"], dt)
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


def _own_weights(net: Net, node: Node, gain: Array) -> tuple[str, ...]:
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


def _weighted(op: Op, gain: Array) -> Op:
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


def _scaled(name: str, op: Op, gain: Array) -> Op:
    """Voltages in units of the gain: the input then needs no factor."""
    if not isinstance(op, Cells):
        raise TypeError(f"{type(op).__name__} has no threshold")
    if not (gain > 0).all():
        raise WeightsError(
            f"node '{name}': r (and w_in) have to be above 0 where no weights of its own feed it"
        )
    return Cells(
        decay=op.decay,
        threshold=op.threshold / gain,
        reset=op.reset / gain,
        synapse=op.synapse,
    )


def _lag(node: Node, layer: Delay, dt: float) -> Lag:
    """Whole steps: a delay that falls between two is rounded to the nearer."""
    steps = np.rint(_spread(layer.delay, node.shape) / dt)
    if steps.max(initial=0) > MOST_LAG:
        raise ConfigError(
            f"node '{node.name}': a delay of {layer.delay.max():g} s is {steps.max():.0f} steps of"
            f" {dt:g} s, at most {MOST_LAG} are kept"
        )
    return Lag(steps=steps.astype(np.intp))
