"""Runs a net event by event: indices of spikes in, indices of spikes out, one step at a time.

In float64 it gives the spikes of `reference.simulate`; see there for how close a voltage has to be
to its threshold for the two to disagree. In float32, the default, that is about 1e-7 of the
voltage, as in any library that computes in float32.

    run = Executor(read(path))
    for spikes in stream:            # ascending indices of the inputs that fire in this step
        fired = run.step(spikes)
    run.counts(); run.reset()
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, Literal

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from bicameral.engines.spike.convolve import Convolution
from bicameral.engines.spike.graph import Affine, Conv2d, Flatten, Linear, Net, Node, SumPool2d
from bicameral.engines.spike.ops import (
    Fire,
    Floats,
    Gather,
    Hold,
    Index,
    Pool,
    Signal,
    Spikes,
    sparse,
)
from bicameral.engines.spike.steps import DT, Cells, Op, Steps, stepped
from bicameral.errors import RequestError, WeightsError

Given = NDArray[np.integer[Any]]
Orders = Mapping[str, Index | None]


class Count(Struct, frozen=True, kw_only=True):
    """What a node did since the start or the last reset.

    `events` came in, `spikes` went out. `synops` are additions of a weight that is not 0 (or of a
    pooled event) for an input that was active; `dense` are those a dense layer does whatever is
    active. `traffic` is in bytes: each weight that was used, once for each use, and each state and
    sum once read and once written a step; what a cache saves of it is not known here.
    """

    name: str
    kind: str
    steps: int
    neurons: int
    inputs: int
    events: int
    spikes: int
    synops: int
    dense: int
    traffic: int

    @property
    def rate(self) -> float:
        """Spikes per neuron and step."""
        return self.spikes / (self.steps * self.neurons) if self.steps else 0.0

    @property
    def activity(self) -> float:
        """Events per input and step."""
        return self.events / (self.steps * self.inputs) if self.steps else 0.0


class Executor:
    """A net and its state: one stream at a time, on one thread at a time."""

    def __init__(
        self,
        net: Net | Steps,
        *,
        dt: float = DT,
        dtype: Literal["float32", "float64"] = "float32",
    ) -> None:
        self.net = stepped(net, dt)
        _check_output(self.net)
        self.inputs = math.prod(self.net.input_shape)
        self.outputs = math.prod(self.net.node(self.net.output).shape)
        # Whole numbers of a chip's size are exact in float64 only.
        fixed = any(isinstance(n.layer, Cells) and n.layer.bits for n in self.net.nodes)
        self._dtype: Any = np.dtype("float64" if fixed else dtype).type
        self._nodes = _compiled(self.net, self._dtype)
        self._loops = {name for step in self.net.nodes for name in step.delayed}
        self.reset()

    def reset(self) -> None:
        """All at rest, nothing on its way, nothing counted."""
        self._ran = 0
        self._before: dict[str, Signal] = {name: Spikes(_none()) for name in self._loops}
        for node in self._nodes:
            node.reset()

    def step(self, spikes: Given, values: NDArray[Any] | None = None) -> Index:
        """One step: ascending indices of the inputs that fire; `values` where they are not all 1.

        Gives the ascending indices of the outputs that fire. RequestError if the indices are not
        such; the net's state is then as it was.
        """
        index = self._checked(spikes, values)
        value = None if values is None else values.astype(self._dtype)
        now: dict[str, Signal] = {self.net.input: Spikes(index, value)}
        for node in self._nodes:
            now[node.name] = node.run(now, self._before)
        for name in self._loops:
            self._before[name] = now[name]
        self._ran += 1
        fired = now[self.net.output]
        return fired.index if isinstance(fired, Spikes) else np.flatnonzero(fired)

    def run(self, steps: Iterable[Given]) -> list[Index]:
        """Many steps, one after another."""
        return [self.step(spikes) for spikes in steps]

    def counts(self) -> tuple[Count, ...]:
        """What each node did, in the order of the net."""
        return tuple(node.count(self._ran, self._dtype(0).itemsize) for node in self._nodes)

    def _checked(self, spikes: Given, values: NDArray[Any] | None) -> Index:
        if spikes.ndim != 1 or spikes.dtype.kind not in "iu":
            raise RequestError("spikes have to be a flat array of whole numbers", param="spikes")
        if values is not None and values.shape != spikes.shape:
            raise RequestError("there has to be one value for each spike", param="values")
        index = spikes.astype(np.intp, copy=False)
        if index.size and (
            index[0] < 0 or index[-1] >= self.inputs or (index[1:] <= index[:-1]).any()
        ):
            raise RequestError(
                f"spikes have to ascend, from 0 to at most {self.inputs - 1}", param="spikes"
            )
        return index


class _Node:
    """An operation of the net with its state, its sources and what it counted."""

    def __init__(self, step: Node[Op], orders: Orders, dtype: Any) -> None:
        self.name, self._step = step.name, step
        self._fed = (*step.sources, *step.delayed)
        self._only = step.sources[0] if len(self._fed) == 1 else None
        self._orders = orders
        self._sum = np.zeros(math.prod(step.takes), dtype=dtype)
        order = orders[self._only] if self._only is not None else None
        self._op = _operation(step, order, dtype)
        self.order = order if self._op is None else self._op.order
        self._fan_out = _fan_out(self._op)

    def reset(self) -> None:
        """At rest, nothing counted."""
        self._events = self._spikes = self._synops = 0
        if isinstance(self._op, Fire | Hold):
            self._op.reset()

    def run(self, now: Mapping[str, Signal], before: Mapping[str, Signal]) -> Signal:
        """What the node gives in this step."""
        given = now[self._only] if self._only is not None else self._added(now, before)
        op = self._op
        if op is None:
            return given
        if isinstance(op, Fire):
            fired = op.run(given)
            self._spikes += fired.index.size
            return fired
        if not isinstance(given, Spikes):
            given = sparse(given, None if self._only is None else self._orders[self._only])
        self._events += given.index.size
        if isinstance(self._fan_out, int):
            self._synops += self._fan_out * given.index.size
        else:
            self._synops += int(self._fan_out.take(given.index).sum())
        return op.run(given)

    def _added(self, now: Mapping[str, Signal], before: Mapping[str, Signal]) -> Floats:
        """The sum of all that feeds the node, in NIR's order."""
        self._sum.fill(0)
        for i, name in enumerate(self._fed):
            signal = now[name] if i < len(self._step.sources) else before[name]
            order = self._orders[name]
            if isinstance(signal, Spikes):
                self._sum[signal.index] += 1 if signal.value is None else signal.value
            elif order is None:
                self._sum += signal
            else:
                self._sum[order] += signal
        return self._sum

    def count(self, steps: int, width: int) -> Count:
        """What was counted, and what follows from it for memory."""
        step = self._step
        neurons = math.prod(step.shape)
        dense, moved = _per_step(step)
        spikes = self._spikes if isinstance(step.layer, Cells) else 0
        return Count(
            name=step.name,
            kind=type(step.layer).__name__,
            steps=steps,
            neurons=neurons if isinstance(step.layer, Cells) else 0,
            inputs=math.prod(step.takes),
            events=self._events,
            spikes=spikes,
            synops=self._synops,
            dense=dense * steps,
            traffic=width * (moved * steps + self._synops),
        )


def _compiled(net: Steps, dtype: Any) -> list[_Node]:
    orders: dict[str, Index | None] = {net.input: None}
    nodes = []
    for step in net.nodes:
        # The map is shared: what an edge back gives is laid out by a later node.
        node = _Node(step, orders, dtype)
        orders[step.name] = node.order
        nodes.append(node)
    return nodes


def _operation(
    step: Node[Op], order: Index | None, dtype: Any
) -> Gather | Convolution | Pool | Fire | Hold | None:
    match step.layer:
        case Affine() | Linear() as op:
            return Gather(op, dtype)
        case Conv2d() as op:
            return Convolution(op, step.takes, step.shape, dtype)
        case SumPool2d() as op:
            return Pool(op, step.takes, step.shape, dtype)
        case Cells() as op:
            return Fire(op, order, dtype)
        case Flatten():
            return None
        case lag:
            return Hold(lag)


def _fan_out(op: Gather | Convolution | Pool | Fire | Hold | None) -> int | Index:
    """Operations an input causes: one number where all inputs cause as many."""
    if not isinstance(op, Gather | Convolution | Pool):
        return 0
    same = op.fan_out.size and (op.fan_out == op.fan_out[0]).all()
    return int(op.fan_out[0]) if same else op.fan_out


def _per_step(step: Node[Op]) -> tuple[int, int]:
    """Dense operations of a step, and the values moved in it whatever is active."""
    size = math.prod(step.shape)
    match step.layer:
        case Affine() | Linear() as op:
            return op.weight.size, 2 * size
        case Conv2d() as op:
            return size * math.prod(op.weight.shape[1:]), 4 * size
        case SumPool2d() as op:
            return size * math.prod(op.kernel), 2 * size
        case Cells() as op:
            return 0, (3 if op.synapse is None else 6) * size
        case _:
            return 0, 0


def _check_output(net: Steps) -> None:
    """Currents are no spikes: the last node that computes has to be a neuron."""
    step = net.node(net.output)
    while not isinstance(step.layer, Cells):
        feeders = (*step.sources, *step.delayed)
        if isinstance(step.layer, Affine | Linear | Conv2d | SumPool2d) or feeders == (net.input,):
            raise WeightsError(
                f"the net ends in '{step.name}' ({type(step.layer).__name__}), which gives no "
                "spikes; let it end in neurons"
            )
        step = net.node(feeders[0])


def _none() -> Index:
    return np.empty(0, dtype=np.intp)
