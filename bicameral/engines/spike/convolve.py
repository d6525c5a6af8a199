"""Conv2d in one step: event by event while few inputs are active, as one product above that.

Both give the same sums up to their rounding: the product adds in another order. Which one is taken
depends on nothing but the number of active inputs, so a run is always repeated exactly.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from bicameral.engines.spike.graph import Conv2d, Shape
from bicameral.engines.spike.ops import QUIET, Axis, Floats, Index, Signal, Spikes

# Nanoseconds on a common server core: what an event costs in Python and numpy, what it costs per
# weight, and what the product costs per element of its windows and per multiplication. They only
# choose the way; a wrong guess costs time, never spikes.
_EVENT, _EVENT_WEIGHT, _WINDOW, _MULTIPLY, _PRODUCT = 600, 0.5, 1.0, 0.1, 10_000


class Convolution:
    """The current of a Conv2d, channels last; QUIET if there is none."""

    def __init__(self, op: Conv2d, takes: Shape, shape: Shape, dtype: Any) -> None:
        self._events = _Scatter(op, takes, shape, dtype)
        self._product = _Product(op, takes, shape, dtype)
        self._sum = np.zeros((*shape[1:], shape[0]), dtype=dtype)
        self._bias = op.bias.astype(dtype) if op.bias.any() else None
        self.many = _many(op, shape)
        self.fan_out = self._events.fan_out
        places = np.arange(math.prod(shape), dtype=np.intp).reshape(shape)
        self.order: Index | None = places.transpose(1, 2, 0).reshape(-1)

    def run(self, spikes: Spikes) -> Signal:
        """The current of the active inputs, and the bias."""
        if not spikes.index.size and self._bias is None:
            return QUIET
        way = self._product if spikes.index.size > self.many else self._events
        way.run(spikes, self._sum)
        if self._bias is not None:
            self._sum += self._bias
        return self._sum.reshape(-1)


def _many(op: Conv2d, shape: Shape) -> int:
    """With more active inputs than this, the product is the cheaper way."""
    windows = math.prod(shape[1:]) * math.prod(op.weight.shape[1:]) * op.groups
    product = _PRODUCT + windows * (_WINDOW + _MULTIPLY * shape[0] / op.groups)
    event = _EVENT + _EVENT_WEIGHT * math.prod(op.weight.shape[2:]) * shape[0] / op.groups
    return int(product / event)


class _Scatter:
    """Each active input adds its kernel, mirrored, to the outputs it reaches."""

    def __init__(self, op: Conv2d, takes: Shape, shape: Shape, dtype: Any) -> None:
        self._takes, self._op = takes, op
        height, width = (
            Axis(takes[a + 1], shape[a + 1], op.weight.shape[a + 2], *by)
            for a, by in enumerate(zip(op.stride, op.padding, op.dilation, strict=True))
        )
        self._axes = height, width
        self._each = shape[0] // op.groups
        self._field = np.zeros((height.length, width.length, shape[0]), dtype=dtype)
        inner = (slice(a.margin, a.margin + n) for a, n in zip(self._axes, shape[1:], strict=True))
        self._inner = self._field[tuple(inner)]
        self._kernels = self._split(dtype)
        # What an input adds and where to, made when it first fires: about 400 bytes each.
        self._pairs: dict[int, tuple[Floats, Floats]] = {}
        count = np.count_nonzero(op.weight.reshape(op.groups, self._each, *op.weight.shape[1:]), 1)
        count = count.reshape(takes[0], *op.weight.shape[2:])
        reached = np.einsum("ckl,yk,xl->cyx", count, height.covers, width.covers)
        self.fan_out = reached.reshape(-1)

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

    def run(self, spikes: Spikes, out: Floats) -> None:
        """Write the sums to `out`."""
        self._field.fill(0)
        values = [1.0] * spikes.index.size if spikes.value is None else spikes.value.tolist()
        add, known = np.add, self._pairs.get
        for index, value in zip(spikes.index.tolist(), values, strict=True):
            field, kernel = known(index) or self._pair(index)
            add(field, kernel if value == 1.0 else kernel * value, field)
        np.copyto(out, self._inner)


class _Product:
    """All windows of the input, one below the other, times the weights."""

    def __init__(self, op: Conv2d, takes: Shape, shape: Shape, dtype: Any) -> None:
        channels, height, width = takes
        self._per, self._each = op.weight.shape[1], shape[0] // op.groups
        (top, left), (down, right) = op.padding, op.stride
        self._input = np.zeros((height + 2 * top, width + 2 * left, channels), dtype=dtype)
        own = np.arange(self._input.size, dtype=np.intp).reshape(self._input.shape)
        own = own[top : top + height, left : left + width]
        self._places = np.ascontiguousarray(own.transpose(2, 0, 1)).reshape(-1)
        y, x, c = self._input.strides
        self._windows = np.lib.stride_tricks.as_strided(
            self._input,
            (*shape[1:], *op.weight.shape[2:], channels),
            (y * down, x * right, y * op.dilation[0], x * op.dilation[1], c),
            writeable=False,
        )
        self._copy = np.empty((*self._windows.shape[:4], self._per), dtype=dtype)
        self._rows = self._copy.reshape(math.prod(shape[1:]), -1)
        by_group = op.weight.reshape(op.groups, self._each, *op.weight.shape[1:])
        matrices = by_group.transpose(0, 3, 4, 2, 1).reshape(op.groups, -1, self._each)
        self._weights = np.ascontiguousarray(matrices, dtype=dtype)

    def run(self, spikes: Spikes, out: Floats) -> None:
        """Write the sums to `out`."""
        places = self._places[spikes.index]
        flat = self._input.reshape(-1)
        flat[places] = 1 if spikes.value is None else spikes.value
        sums = out.reshape(len(self._rows), -1)
        for group, weights in enumerate(self._weights):
            members = slice(group * self._per, (group + 1) * self._per)
            np.copyto(self._copy, self._windows[..., members])
            sums[:, group * self._each : (group + 1) * self._each] = self._rows @ weights
        flat[places] = 0
