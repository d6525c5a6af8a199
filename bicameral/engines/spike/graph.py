"""A spiking net as plain values: layers with the parameters NIR gives them, and how they connect.

Parameters are float64 arrays in SI units, exactly as in the file; what they mean at a given time
step is for `steps` to say. Shapes are those of NIR: (features,) or (channels, height, width), and
an index of a spike counts in C order. Where several nodes feed one, their outputs are added. An
edge that closes a loop hands over what its source gave in the step before.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Generic, TypeVar

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from bicameral.errors import WeightsError

Array = NDArray[np.float64]
Shape = tuple[int, ...]
Pair = tuple[int, int]


class Affine(Struct, frozen=True, kw_only=True, eq=False):
    """y = weight @ x + bias; weight is (out, in), bias (out,)."""

    weight: Array
    bias: Array


class Linear(Struct, frozen=True, kw_only=True, eq=False):
    """y = weight @ x; weight is (out, in)."""

    weight: Array


class Conv2d(Struct, frozen=True, kw_only=True, eq=False):
    """Cross-correlation plus bias; weight is (out, in / groups, height, width)."""

    weight: Array
    bias: Array
    stride: Pair = (1, 1)
    padding: Pair = (0, 0)
    dilation: Pair = (1, 1)
    groups: int = 1


class SumPool2d(Struct, frozen=True, kw_only=True, eq=False):
    """The sum of each window of each channel."""

    kernel: Pair
    stride: Pair
    padding: Pair = (0, 0)


class LIF(Struct, frozen=True, kw_only=True, eq=False):
    """tau dv/dt = v_leak - v + r I; above v_threshold a spike, and v becomes v_reset."""

    tau: Array
    r: Array
    v_leak: Array
    v_threshold: Array
    v_reset: Array


class CubaLIF(Struct, frozen=True, kw_only=True, eq=False):
    """tau_syn dI/dt = -I + w_in S, and a LIF of tau_mem that is driven by I."""

    tau_syn: Array
    tau_mem: Array
    r: Array
    v_leak: Array
    v_threshold: Array
    v_reset: Array
    w_in: Array


class IF(Struct, frozen=True, kw_only=True, eq=False):
    """dv/dt = r I; above v_threshold a spike, and v becomes v_reset."""

    r: Array
    v_threshold: Array
    v_reset: Array


class Flatten(Struct, frozen=True, kw_only=True, eq=False):
    """The dimensions from `start` to `end`, both included, become one."""

    start: int = 0
    end: int = -1


class Delay(Struct, frozen=True, kw_only=True, eq=False):
    """Each element comes `delay` seconds later."""

    delay: Array


Neuron = LIF | CubaLIF | IF
Layer = Affine | Linear | Conv2d | SumPool2d | LIF | CubaLIF | IF | Flatten | Delay
Edge = tuple[str, str]
L = TypeVar("L")


class Node(Struct, Generic[L], frozen=True, kw_only=True, eq=False):
    """A layer, what feeds it in the same step, what fed it in the step before, and its shapes."""

    name: str
    layer: L
    sources: tuple[str, ...]
    delayed: tuple[str, ...] = ()
    takes: Shape
    shape: Shape


class Graph(Struct, Generic[L], frozen=True, kw_only=True, eq=False):
    """Nodes in the order in which a step visits them; `input` names what comes from outside.

    `dt` is the step in seconds; None: time is continuous, no step is chosen yet.
    """

    nodes: tuple[Node[L], ...]
    input: str
    input_shape: Shape
    output: str
    dt: float | None = None

    @property
    def inputs(self) -> int:
        """How many inputs the net has."""
        return math.prod(self.input_shape)

    @property
    def outputs(self) -> int:
        """How many outputs the net has."""
        return math.prod(self.node(self.output).shape)

    def node(self, name: str) -> Node[L]:
        """The node of that name."""
        return next(node for node in self.nodes if node.name == name)


Net = Graph[Layer]


def chain(input_shape: Shape, *layers: Layer) -> Net:
    """A net whose layers follow one another, named by their kind and place."""
    names = [f"{type(layer).__name__.lower()}_{i}" for i, layer in enumerate(layers)]
    edges = list(zip(["input", *names], names, strict=False))
    named = dict(zip(names, layers, strict=True))
    return arrange(named, edges, input="input", input_shape=input_shape, output=names[-1])


def arrange(
    layers: Mapping[str, Layer],
    edges: Sequence[Edge],
    *,
    input: str,
    input_shape: Shape,
    output: str,
) -> Net:
    """Order the nodes and check their shapes; WeightsError names the node that does not fit."""
    order, back = _order(layers, edges, input)
    if unreached := sorted(set(layers) - set(order)):
        raise WeightsError(f"node '{unreached[0]}' is not fed by the input '{input}'")
    if output not in layers:
        raise WeightsError(f"the output '{output}' is not one of the net's nodes")
    shapes: dict[str, Shape] = {input: input_shape}
    nodes = []
    for name in order:
        fed = [a for a, b in edges if b == name]
        sources = tuple(a for a in fed if (a, name) not in back)
        takes = _agreed(name, sources, shapes)
        shapes[name] = result_shape(name, layers[name], takes)
        delayed = tuple(a for a in fed if (a, name) in back)
        nodes.append(
            Node(
                name=name,
                layer=layers[name],
                sources=sources,
                delayed=delayed,
                takes=takes,
                shape=shapes[name],
            )
        )
    for a, b in back:
        _agreed(b, (a, *(s for s, t in edges if t == b and (s, t) not in back)), shapes)
    return Graph(nodes=tuple(nodes), input=input, input_shape=input_shape, output=output)


def _order(
    layers: Mapping[str, Layer], edges: Sequence[Edge], input: str
) -> tuple[list[str], set[Edge]]:
    """Nodes in an order that follows the edges, and the edges that close loops."""
    after: dict[str, list[str]] = {input: [], **{name: [] for name in layers}}
    for a, b in edges:
        if a not in after or b not in layers:
            raise WeightsError(f"the edge from '{a}' to '{b}' joins a node that is not there")
        after[a].append(b)
    back: set[Edge] = set()
    done: list[str] = []
    path = {input: iter(after[input])}
    while path:
        name = next(reversed(path))
        following = next(path[name], None)
        if following is None:
            del path[name]
            done.append(name)
        elif following in path:
            _check_loop(layers, [*path][[*path].index(following) :])
            back.add((name, following))
        elif following not in done:
            path[following] = iter(after[following])
    return done[::-1][1:], back


def _check_loop(layers: Mapping[str, Layer], loop: Iterable[str]) -> None:
    names = list(loop)
    if not any(isinstance(layers[name], Neuron) for name in names):
        raise WeightsError(f"the loop {' -> '.join(names)} has no neuron in it")


def _agreed(name: str, sources: Sequence[str], shapes: Mapping[str, Shape]) -> Shape:
    """The shape that all sources of a node give."""
    first, *others = (shapes[source] for source in sources)
    for source, shape in zip(sources[1:], others, strict=True):
        if shape != first:
            raise WeightsError(
                f"node '{name}' is fed {first} by '{sources[0]}' and {shape} by '{source}'"
            )
    return first


def result_shape(name: str, layer: Layer, takes: Shape) -> Shape:
    """What the layer makes of input of that shape; WeightsError if it cannot take it."""
    match layer:
        case Affine() | Linear():
            if math.prod(takes) != layer.weight.shape[1]:
                raise _misfit(name, layer, f"{layer.weight.shape[1]} inputs", takes)
            return (layer.weight.shape[0],)
        case Conv2d():
            channels = layer.weight.shape[1] * layer.groups
            if len(takes) != 3 or takes[0] != channels:
                raise _misfit(name, layer, f"({channels}, height, width)", takes)
            kernel = (layer.weight.shape[2], layer.weight.shape[3])
            size = _windows(takes, kernel, layer.stride, layer.padding, layer.dilation)
            return _grown(name, (layer.weight.shape[0], *size), takes)
        case SumPool2d():
            if len(takes) != 3:
                raise _misfit(name, layer, "(channels, height, width)", takes)
            size = _windows(takes, layer.kernel, layer.stride, layer.padding, (1, 1))
            return _grown(name, (takes[0], *size), takes)
        case Flatten():
            return _flat(takes, layer)
        case Delay():
            return _same(name, layer, layer.delay.shape, takes)
        case _:
            return _same(name, layer, layer.v_threshold.shape, takes)


def _windows(takes: Shape, kernel: Pair, stride: Pair, padding: Pair, dilation: Pair) -> Pair:
    def along(axis: int) -> int:
        reach = dilation[axis] * (kernel[axis] - 1) + 1
        return (takes[axis + 1] + 2 * padding[axis] - reach) // stride[axis] + 1

    return along(0), along(1)


def _grown(name: str, shape: Shape, takes: Shape) -> Shape:
    if min(shape) < 1:
        raise WeightsError(f"node '{name}': its window does not fit into input of shape {takes}")
    return shape


def _flat(takes: Shape, layer: Flatten) -> Shape:
    last = len(takes) - 1
    start, end = (i % len(takes) if i < len(takes) else last for i in (layer.start, layer.end))
    return (*takes[:start], math.prod(takes[start : end + 1]), *takes[end + 1 :])


def _same(name: str, layer: Layer, own: Shape, takes: Shape) -> Shape:
    """Neurons and delays: one set of parameters for all, or one for each element."""
    if own not in (takes, (), (1,)):
        raise _misfit(name, layer, str(own), takes)
    return takes


def _misfit(name: str, layer: Layer, wants: str, takes: Shape) -> WeightsError:
    kind = type(layer).__name__
    return WeightsError(f"node '{name}' ({kind}) takes {wants}, but is given shape {takes}")
