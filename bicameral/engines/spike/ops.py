"""The operations of a step, driven by events: each costs what its active inputs cost.

Spikes are ascending indices in NIR's order, with values where they are not all 1. A current is a
dense array; that of a convolution has its channels last, which `order` tells: the NIR index of
each of its elements. Rows of weights are added one after another in ascending order of their
indices, starting from nothing, then the bias: a sum is the same to the last bit however many rows
are taken at a time.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from bicameral.engines.spike.graph import Affine, Linear, Shape, SumPool2d
from bicameral.engines.spike.steps import Cells, Lag

Index = NDArray[np.intp]
Floats = NDArray[np.floating[Any]]
NONE: Index = np.empty(0, dtype=np.intp)


class Spikes(Struct, frozen=True, eq=False):
    """What is active: ascending indices; their values, or None where all are 1."""

    index: Index
    value: Floats | None = None


Signal = Spikes | Floats
QUIET = Spikes(NONE)


def sparse(signal: Signal, order: Index | None) -> Spikes:
    """The elements of a current that are not 0, as spikes with values."""
    if isinstance(signal, Spikes):
        return signal
    active = np.flatnonzero(signal)
    values = signal[active]
    if order is None:
        return Spikes(active, values)
    index = order[active]
    ranked = np.argsort(index)
    return Spikes(index[ranked], values[ranked])


class Gather:
    """Affine and Linear: the sum of the rows of the transposed weights that are active."""

    # Rows that are summed at a time: what they fill stays in the second-level cache.
    _BATCH = 64

    def __init__(self, op: Affine | Linear, dtype: Any) -> None:
        self._rows = np.ascontiguousarray(op.weight.T, dtype=dtype)
        bias = op.bias if isinstance(op, Affine) else np.zeros(1)
        self._bias = bias.astype(dtype) if bias.any() else None
        width = self._rows.shape[1]
        self._sum = np.zeros(width, dtype=dtype)
        self._batch = np.empty((self._BATCH + 1, width), dtype=dtype)
        self.fan_out = np.count_nonzero(self._rows, axis=1)
        self.order: Index | None = None

    def run(self, spikes: Spikes) -> Signal:
        """The current; QUIET if there is none."""
        index = spikes.index
        if not index.size:
            return QUIET if self._bias is None else self._bias
        total = self._sum
        total.fill(0)
        for start in range(0, index.size, self._BATCH):
            part = index[start : start + self._BATCH]
            batch = self._batch[: part.size + 1]
            batch[0] = total
            # Indices are checked where they enter; 'clip' spares numpy a second buffer.
            self._rows.take(part, axis=0, out=batch[1:], mode="clip")
            if spikes.value is not None:
                batch[1:] *= spikes.value[start : start + self._BATCH, None]
            _add_rows(batch, total)
        if self._bias is not None:
            total += self._bias
        return total


def _add_rows(batch: Floats, total: Floats) -> None:
    """Sum the rows in order. numpy adds a single column pairwise, so that one is done by hand."""
    if batch.shape[1] > 1:
        np.add.reduce(batch, axis=0, out=total)
        return
    np.cumsum(batch[:, 0], out=batch[:, 0])
    total[0] = batch[-1, 0]


class Axis:
    """Which windows an input takes part in, along one axis: for each place a slice and its taps."""

    def __init__(self, size: int, out: int, kernel: int, stride: int, pad: int, gap: int) -> None:
        places = [divmod(at + pad, stride) for at in range(size)]
        self.taps = [
            [k for k in reversed(range(kernel)) if (rest - k * gap) % stride == 0]
            for rest in range(stride)
        ]
        hits = [[q + (rest - k * gap) // stride for k in self.taps[rest]] for q, rest in places]
        self.rest = [rest for _, rest in places]
        self.margin = max([0, *(-h[0] for h in hits if h)])
        self.length = self.margin + max([out, *(h[-1] + 1 for h in hits if h)])
        self.slices = [self._slice(h) for h in hits]
        self.covers = np.zeros((size, kernel), dtype=np.intp)
        for at, found in enumerate(hits):
            for tap, place in zip(self.taps[self.rest[at]], found, strict=True):
                self.covers[at, tap] = 0 <= place < out

    def _slice(self, hits: list[int]) -> slice:
        if not hits:
            return slice(0, 0)
        gap = hits[1] - hits[0] if len(hits) > 1 else 1
        return slice(hits[0] + self.margin, hits[-1] + self.margin + 1, gap)


class Pool:
    """SumPool2d: each active input adds itself to the windows it lies in."""

    def __init__(self, op: SumPool2d, takes: Shape, shape: Shape, dtype: Any) -> None:
        self._size = math.prod(shape)
        axes = [
            Axis(takes[a + 1], shape[a + 1], op.kernel[a], op.stride[a], op.padding[a], 1)
            for a in (0, 1)
        ]
        self._table = self._targets(axes, takes, shape)
        self._sum = np.zeros(self._size + 1, dtype=dtype)
        self.fan_out = (self._table < self._size).sum(axis=1)
        self.order: Index | None = None

    def _targets(self, axes: list[Axis], takes: Shape, shape: Shape) -> Index:
        """The windows of each input; what is over points behind the last one."""
        rows, columns = (
            [[p - a.margin for p in range(s.start, s.stop, s.step or 1)] for s in a.slices]
            for a in axes
        )
        wide = [max(1, max(len(hits) for hits in found)) for found in (rows, columns)]
        table = np.full((*takes, *wide), self._size, dtype=np.intp)
        first = np.arange(shape[0]) * shape[1] * shape[2]
        for y, x in np.ndindex(*takes[1:]):
            for i, row in enumerate(rows[y]):
                for j, column in enumerate(columns[x]):
                    if 0 <= row < shape[1] and 0 <= column < shape[2]:
                        table[:, y, x, i, j] = first + row * shape[2] + column
        return table.reshape(math.prod(takes), -1)

    def run(self, spikes: Spikes) -> Signal:
        """The windows with something in them, and how much."""
        if not spikes.index.size:
            return QUIET
        targets = self._table[spikes.index]
        ones = self._sum.dtype.type(1)
        values = ones if spikes.value is None else np.repeat(spikes.value, targets.shape[1])
        self._sum.fill(0)
        np.add.at(self._sum, targets.reshape(-1), values)
        return sparse(self._sum[: self._size], None)


class Fire:
    """Neurons: all are updated together, in place; a step without input costs one product."""

    def __init__(self, op: Cells, order: Index | None, dtype: Any) -> None:
        self.order = order
        self._decay = self._laid(op.decay, dtype)
        self._threshold = self._laid(op.threshold, dtype)
        self._reset = (op.reset if order is None else op.reset[order]).astype(dtype)
        self._synapse = None if op.synapse is None else self._laid(op.synapse, dtype)
        self._v = np.zeros(op.threshold.size, dtype=dtype)
        self._i = np.zeros(op.threshold.size if op.synapse is not None else 0, dtype=dtype)
        self._most = None if op.bits is None else 2 ** (op.bits - 1) - 1
        self._over = np.zeros(op.threshold.size, dtype=bool)
        # Towards a rest below the threshold nothing fires without input.
        calm = (op.threshold >= 0) & (op.reset <= op.threshold)
        self._calm = op.synapse is None and bool(calm.all())

    def _laid(self, values: Floats, dtype: Any) -> Any:
        """One number where all are the same, else an array in the order of the current."""
        if (values == values[0]).all():
            return dtype(values[0])
        return (values if self.order is None else values[self.order]).astype(dtype)

    def _fade(self, state: Floats, decay: Any) -> None:
        state *= decay
        if self._most is not None:
            np.trunc(state, out=state)

    def _bound(self, state: Floats) -> None:
        if self._most is not None:
            np.clip(state, -self._most, self._most, out=state)

    def reset(self) -> None:
        """Back to rest."""
        self._v.fill(0)
        self._i.fill(0)

    def run(self, current: Signal) -> Spikes:
        """The neurons that fire, in NIR's order."""
        v = self._v
        if self._synapse is None:
            self._fade(v, self._decay)
            _take_in(v, current)
        else:
            self._fade(self._i, self._synapse)
            _take_in(self._i, current)
            self._bound(self._i)
            self._fade(v, self._decay)
            v += self._i
        self._bound(v)
        if self._calm and isinstance(current, Spikes) and not current.index.size:
            return QUIET
        np.greater(v, self._threshold, out=self._over)
        fired = self._over.nonzero()[0]
        if not fired.size:
            return QUIET
        v[fired] = self._reset[fired]
        return Spikes(fired if self.order is None else np.sort(self.order[fired]))


def _take_in(state: Floats, current: Signal) -> None:
    if not isinstance(current, Spikes):
        state += current
    elif current.index.size:
        state[current.index] += 1 if current.value is None else current.value


class Hold:
    """Delays: what comes in is put into the slot of the step in which it is due."""

    def __init__(self, op: Lag) -> None:
        self._steps = op.steps
        self._slots: list[list[Spikes]] = [[] for _ in range(int(op.steps.max(initial=0)) + 1)]
        self._now = 0
        self.order: Index | None = None

    def reset(self) -> None:
        """Nothing is on its way."""
        for slot in self._slots:
            slot.clear()

    def run(self, spikes: Spikes) -> Spikes:
        """What is due now."""
        due = self._steps[spikes.index]
        for steps in set(due.tolist()):
            chosen = due == steps
            value = None if spikes.value is None else spikes.value[chosen]
            slot = self._slots[(self._now + steps) % len(self._slots)]
            slot.append(Spikes(spikes.index[chosen], value))
        arrived = self._slots[self._now]
        self._slots[self._now] = []
        self._now = (self._now + 1) % len(self._slots)
        return _joined(arrived)


def _joined(parts: list[Spikes]) -> Spikes:
    """Parts of different elements, as each element has one delay."""
    if len(parts) < 2:
        return parts[0] if parts else QUIET
    index = np.concatenate([part.index for part in parts])
    ranked = np.argsort(index)
    if all(part.value is None for part in parts):
        return Spikes(index[ranked])
    values = [np.ones(p.index.size) if p.value is None else p.value for p in parts]
    return Spikes(index[ranked], np.concatenate(values)[ranked])
