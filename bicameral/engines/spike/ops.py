"""The operations of a step, driven by events: each costs what its active inputs cost.

Spikes are ascending indices in NIR's order, with values where they are not all 1. A current is a
dense array; that of a convolution has its channels last, which `order` tells: the NIR index of
each of its elements. Weights of spikes are added one after another in ascending order of their
indices, starting from nothing, then the bias: a sum is the same to the last bit however it is
computed here.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from bicameral.engines.spike.graph import Affine, Conv2d, Linear, Shape, SumPool2d
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


class _Axis:
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


class Scatter:
    """Conv2d: each active input adds its kernel, mirrored, to the outputs it reaches."""

    def __init__(self, op: Conv2d, takes: Shape, shape: Shape, dtype: Any) -> None:
        self._takes, self._op = takes, op
        height, width = (
            _Axis(takes[a + 1], shape[a + 1], op.weight.shape[a + 2], *by)
            for a, by in enumerate(zip(op.stride, op.padding, op.dilation, strict=True))
        )
        self._axes = height, width
        self._each = shape[0] // op.groups
        self._field = np.zeros((height.length, width.length, shape[0]), dtype=dtype)
        inner = (slice(a.margin, a.margin + n) for a, n in zip(self._axes, shape[1:], strict=True))
        self._inner = self._field[tuple(inner)]
        self._sum = np.zeros((*shape[1:], shape[0]), dtype=dtype)
        self._bias = op.bias.astype(dtype) if op.bias.any() else None
        self._kernels = self._split(dtype)
        # What an input adds and where to, made when it first fires: about 400 bytes each.
        self._pairs: dict[int, tuple[Floats, Floats]] = {}
        count = np.count_nonzero(op.weight.reshape(op.groups, self._each, *op.weight.shape[1:]), 1)
        count = count.reshape(takes[0], *op.weight.shape[2:])
        reached = np.einsum("ckl,yk,xl->cyx", count, height.covers, width.covers)
        self.fan_out = reached.reshape(-1)
        places = np.arange(math.prod(shape), dtype=np.intp).reshape(shape)
        self.order: Index | None = places.transpose(1, 2, 0).reshape(-1)

    def _split(self, dtype: Any) -> dict[tuple[int, int, int], Floats]:
        """The mirrored kernel of each input channel, for each rest of place by stride."""
        op, (height, width) = self._op, self._axes
        weight = op.weight.reshape(op.groups, self._each, *op.weight.shape[1:])
        kernels = {}
        for channel in range(self._takes[0]):
            group, member = divmod(channel, op.weight.shape[1])
            own = weight[group, :, member].transpose(1, 2, 0)
            for i, rows in enumerate(height.taps):
                for j, columns in enumerate(width.taps):
                    part = own[rows][:, columns].astype(dtype)
                    kernels[channel, i, j] = np.ascontiguousarray(part)
        return kernels

    def _pair(self, index: int) -> tuple[Floats, Floats]:
        (height, width), (_, rows, columns) = self._axes, self._takes
        channel, place = divmod(index, rows * columns)
        y, x = divmod(place, columns)
        first = channel // self._op.weight.shape[1] * self._each
        field = self._field[height.slices[y], width.slices[x], first : first + self._each]
        pair = field, self._kernels[channel, height.rest[y], width.rest[x]]
        self._pairs[index] = pair
        return pair

    def run(self, spikes: Spikes) -> Signal:
        """The current, channels last; QUIET if there is none."""
        if not spikes.index.size and self._bias is None:
            return QUIET
        self._field.fill(0)
        values = [1.0] * spikes.index.size if spikes.value is None else spikes.value.tolist()
        add, known = np.add, self._pairs.get
        for index, value in zip(spikes.index.tolist(), values, strict=True):
            field, kernel = known(index) or self._pair(index)
            add(field, kernel if value == 1.0 else kernel * value, field)
        if self._bias is None:
            np.copyto(self._sum, self._inner)
        else:
            np.add(self._inner, self._bias, out=self._sum)
        return self._sum.reshape(-1)


class Pool:
    """SumPool2d: each active input adds itself to the windows it lies in."""

    def __init__(self, op: SumPool2d, takes: Shape, shape: Shape, dtype: Any) -> None:
        self._size = math.prod(shape)
        axes = [
            _Axis(takes[a + 1], shape[a + 1], op.kernel[a], op.stride[a], op.padding[a], 1)
            for a in (0, 1)
        ]
        self._table = self._targets(axes, takes, shape)
        self._sum = np.zeros(self._size + 1, dtype=dtype)
        self.fan_out = (self._table < self._size).sum(axis=1)
        self.order: Index | None = None

    def _targets(self, axes: list[_Axis], takes: Shape, shape: Shape) -> Index:
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
        self._over = np.zeros(op.threshold.size, dtype=bool)
        # Towards a rest below the threshold nothing fires without input.
        calm = (op.threshold >= 0) & (op.reset <= op.threshold)
        self._calm = op.synapse is None and bool(calm.all())

    def _laid(self, values: Floats, dtype: Any) -> Any:
        """One number where all are the same, else an array in the order of the current."""
        if (values == values[0]).all():
            return dtype(values[0])
        return (values if self.order is None else values[self.order]).astype(dtype)

    def reset(self) -> None:
        """Back to rest."""
        self._v.fill(0)
        self._i.fill(0)

    def run(self, current: Signal) -> Spikes:
        """The neurons that fire, in NIR's order."""
        v = self._v
        if self._synapse is None:
            v *= self._decay
            _take_in(v, current)
        else:
            self._i *= self._synapse
            _take_in(self._i, current)
            v *= self._decay
            v += self._i
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
