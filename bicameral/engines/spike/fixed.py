"""A net in the whole numbers of a chip like Loihi 2, and what of it would not fit.

Weights are signed 8-bit numbers with one scale for each layer of neurons; the largest becomes 127.
They are added 6 bits up into states of 24 bits that stay at their largest number instead of leaving
it. A decay is a number of 12 bits: u = u * d / 4096 without the fraction. A spike is a bit or, from
sum pooling or the input, graded: a whole number. It is arithmetic only: nothing here ran on a chip.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
from msgspec import Struct, structs

from bicameral.engines.spike.execute import Executor
from bicameral.engines.spike.graph import Affine, Array, Conv2d, Linear, Node, SumPool2d
from bicameral.engines.spike.ops import Index
from bicameral.engines.spike.steps import Cells, Op, Steps, Weights, own_weights, with_layers
from bicameral.errors import ConfigError

_DECAY = 2**12
_SHIFT = 2**6


class Limits(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a chip holds. `core_*` are of one core; the defaults stand for a Loihi 2.

    Its 1 M neurons and 120 M synapses are reported, for 128 cores; 8192 neurons and 937,500
    synapses a core are those divided by 128. A fan-in of 4096 is remembered from Loihi 1.
    """

    cores: int = 128
    core_neurons: int = 8192
    core_synapses: int = 937_500
    fan_in: int = 4096
    weight_bits: int = 8
    state_bits: int = 24


DEFAULT = Limits()


class Fit(Struct, frozen=True, kw_only=True):
    """What a layer of neurons needs; `misfits` says in words what is beyond the limits."""

    name: str
    neurons: int
    synapses: int
    weights: int
    fan_in: int
    cores: int
    misfits: tuple[str, ...]


class Report(Struct, frozen=True, kw_only=True):
    """What each layer needs, and the whole."""

    layers: tuple[Fit, ...]
    cores: int
    misfits: tuple[str, ...]

    @property
    def fits(self) -> bool:
        """Everything is within the limits."""
        return not self.misfits and not any(layer.misfits for layer in self.layers)


def fit(net: Steps, limits: Limits = DEFAULT) -> Report:
    """What the net would need on a chip with these limits, layer by layer."""
    layers = tuple(_layer(net, node, limits) for node in net.nodes if isinstance(node.layer, Cells))
    cores = sum(layer.cores for layer in layers)
    over = () if cores <= limits.cores else (f"needs {cores} cores, the chip has {limits.cores}",)
    return Report(layers=layers, cores=cores, misfits=over)


def _layer(net: Steps, node: Node[Op], limits: Limits) -> Fit:
    neurons = math.prod(node.shape)
    feeding = [n for n in net.nodes if n.name in (*node.sources, *node.delayed)]
    synapses = sum(_synapses(n) for n in feeding)
    fan_in = sum(_fan_in(n) for n in feeding)
    cores = max(-(-neurons // limits.core_neurons), -(-synapses // limits.core_synapses), 1)
    misfits = []
    if fan_in > limits.fan_in:
        misfits.append(f"has {fan_in} inputs a neuron, at most {limits.fan_in} fit")
    if fan_in > limits.core_synapses:
        misfits.append("has neurons whose synapses do not fit one core")
    return Fit(
        name=node.name,
        neurons=neurons,
        synapses=synapses,
        weights=sum(_weights(n) for n in feeding),
        fan_in=fan_in,
        cores=cores,
        misfits=tuple(misfits),
    )


def _synapses(node: Node[Op]) -> int:
    """Connections, each counted although a convolution shares its weights."""
    return _fan_in(node) * math.prod(node.shape)


def _fan_in(node: Node[Op]) -> int:
    match node.layer:
        case Affine() | Linear() | Conv2d() as layer:
            return math.prod(layer.weight.shape[1:])
        case SumPool2d() as pool:
            return math.prod(pool.kernel)
        case _:
            return 1


def _weights(node: Node[Op]) -> int:
    return node.layer.weight.size if isinstance(node.layer, Affine | Linear | Conv2d) else 0


class Difference(Struct, frozen=True, kw_only=True):
    """Output spikes of the net in floating point and in whole numbers, and how many differ."""

    steps: int
    floating: int
    fixed: int
    differ: int


def quantise(net: Steps, limits: Limits = DEFAULT) -> Steps:
    """The net in whole numbers.

    ConfigError: neurons have no weights of their own to scale, or a threshold no state reaches.
    """
    layers: dict[str, Op] = {node.name: node.layer for node in net.nodes}
    for node in net.nodes:
        if isinstance(node.layer, Cells):
            feeders = own_weights(net, node, np.ones(math.prod(node.shape)))
            if not feeders:
                raise ConfigError(
                    f"node '{node.name}' has no weights of its own, so nothing says how its "
                    "voltages become whole numbers: put a Linear or Conv2d before it"
                )
            scale = _scale([net.node(name).layer for name in feeders], limits)
            layers |= {n: _whole_weights(net.node(n).layer, scale, limits) for n in feeders}
            layers[node.name] = _whole_cells(node.name, node.layer, scale, limits)
    return with_layers(net, layers, net.dt)


def compare(net: Steps, inputs: Iterable[Index], limits: Limits = DEFAULT) -> Difference:
    """Run both on the same spikes; a difference of 0 means little where no neuron fires."""
    floating, fixed = Executor(net), Executor(quantise(net, limits))
    steps = a = b = differ = 0
    for spikes in inputs:
        one, other = floating.step(spikes), fixed.step(spikes)
        steps, a, b = steps + 1, a + one.size, b + other.size
        differ += np.setxor1d(one, other, assume_unique=True).size
    return Difference(steps=steps, floating=a, fixed=b, differ=differ)


def _scale(layers: Iterable[Op], limits: Limits) -> float:
    largest = max(np.abs(w.weight).max(initial=0) for w in layers if isinstance(w, Weights))
    return float((2 ** (limits.weight_bits - 1) - 1) / largest) if largest else 1.0


def _whole_weights(layer: Op, scale: float, limits: Limits) -> Op:
    """The weights of that scale, 6 bits up; a bias is a state and has its bits."""
    match layer:
        case Linear():
            return Linear(weight=np.rint(layer.weight * scale) * _SHIFT)
        case Affine() | Conv2d():
            weight = np.rint(layer.weight * scale) * _SHIFT
            bias = _state(layer.bias, scale, limits)
            return structs.replace(layer, weight=weight, bias=bias)
    raise TypeError(f"{type(layer).__name__} has no weights")


def _whole_cells(name: str, cells: Cells, scale: float, limits: Limits) -> Cells:
    most = 2 ** (limits.state_bits - 1) - 1
    if (np.rint(cells.threshold * scale * _SHIFT) >= most).any():
        raise ConfigError(
            f"node '{name}' has weights so small beside its threshold that a state of "
            f"{limits.state_bits} bits never reaches it"
        )
    return Cells(
        decay=np.rint(cells.decay * _DECAY) / _DECAY,
        threshold=_state(cells.threshold, scale, limits),
        reset=_state(cells.reset, scale, limits),
        synapse=None if cells.synapse is None else np.rint(cells.synapse * _DECAY) / _DECAY,
        bits=limits.state_bits,
    )


def _state(values: Array, scale: float, limits: Limits) -> Array:
    most = 2 ** (limits.state_bits - 1) - 1
    return np.clip(np.rint(values * scale * _SHIFT), -most, most)
