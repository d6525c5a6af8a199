"""The plain simulator that says what a net does: NIR's equations by forward Euler, in float64.

It is written to be read and compared with, not to be fast: every step computes every element. It
shares no code with the executor and knows nothing of `steps`: it integrates the equations with
the parameters of the file. Order and start are those that `steps` states. Both round differently
(one computes v + dt/tau (v_leak - v + r I), the other decay * u + I), by about 1e-15 of the
voltage, so they can disagree only about a voltage that close to its threshold.
"""

from __future__ import annotations

import numpy as np

from bicameral.engines.spike.graph import (
    IF,
    LIF,
    Affine,
    Array,
    Conv2d,
    CubaLIF,
    Delay,
    Flatten,
    Layer,
    Linear,
    Net,
    Node,
    Shape,
    SumPool2d,
)

State = dict[str, Array]


def simulate(net: Net, inputs: Array, dt: float = 1e-4) -> Array:
    """Output of every step; `inputs` is (steps, number of inputs), the result likewise."""
    states = {node.name: _start(node) for node in net.nodes}
    before = {node.name: np.zeros(node.shape) for node in net.nodes}
    outputs = []
    for given in np.asarray(inputs, dtype=np.float64):
        now = {net.input: given.reshape(net.input_shape)}
        for node in net.nodes:
            x = sum([now[s] for s in node.sources] + [before[d] for d in node.delayed])
            now[node.name] = _advance(node, x, states[node.name], dt)
        before = now
        outputs.append(now[net.output].reshape(-1))
    return np.array(outputs)


def _start(node: Node[Layer]) -> State:
    match node.layer:
        case LIF() | CubaLIF() as layer:
            return {"v": np.zeros(node.shape) + layer.v_leak, "i": np.zeros(node.shape)}
        case IF() as layer:
            return {"v": np.zeros(node.shape) + layer.v_reset}
        case _:
            return {}


def _advance(node: Node[Layer], x: Array, state: State, dt: float) -> Array:
    match node.layer:
        case LIF() as n:
            v = state["v"] + dt / n.tau * (n.v_leak - state["v"] + n.r * x)
            return _fire(v, state, n)
        case CubaLIF() as n:
            state["i"] = state["i"] + dt / n.tau_syn * (n.w_in * x - state["i"])
            v = state["v"] + dt / n.tau_mem * (n.v_leak - state["v"] + n.r * state["i"])
            return _fire(v, state, n)
        case IF() as n:
            return _fire(state["v"] + dt * n.r * x, state, n)
        case Delay() as delay:
            return _later(delay, x, state, dt)
        case layer:
            return _stateless(layer, x, node.shape)


def _fire(v: Array, state: State, layer: LIF | CubaLIF | IF) -> Array:
    spikes = v > layer.v_threshold
    state["v"] = np.where(spikes, layer.v_reset, v)
    return spikes.astype(np.float64)


def _later(layer: Delay, x: Array, state: State, dt: float) -> Array:
    """The past is kept whole, newest first."""
    steps = np.broadcast_to(np.rint(layer.delay / dt).astype(int), x.shape)
    past = state.get("past", np.zeros((int(steps.max()) + 1, *x.shape)))
    state["past"] = np.concatenate([x[None], past[:-1]])
    due: Array = np.take_along_axis(state["past"], steps[None], 0)[0]
    return due


def _stateless(layer: Layer, x: Array, shape: Shape) -> Array:
    match layer:
        case Affine():
            return layer.weight @ x.reshape(-1) + layer.bias
        case Linear():
            return layer.weight @ x.reshape(-1)
        case Conv2d():
            return _convolve(layer, x, shape)
        case SumPool2d():
            return _pool(layer, x, shape)
        case Flatten():
            return x.reshape(shape)
    raise TypeError(f"{type(layer).__name__} has a state")


def _convolve(layer: Conv2d, x: Array, shape: Shape) -> Array:
    padded = _padded(x, layer.padding)
    out = np.zeros(shape) + layer.bias[:, None, None]
    per, each = layer.weight.shape[1], shape[0] // layer.groups
    for channel, row, column in np.ndindex(*shape):
        top, left = row * layer.stride[0], column * layer.stride[1]
        bottom = top + layer.dilation[0] * (layer.weight.shape[2] - 1) + 1
        right = left + layer.dilation[1] * (layer.weight.shape[3] - 1) + 1
        first = channel // each * per
        window = padded[first : first + per, top:bottom, left:right]
        window = window[:, :: layer.dilation[0], :: layer.dilation[1]]
        out[channel, row, column] += (window * layer.weight[channel]).sum()
    return out


def _pool(layer: SumPool2d, x: Array, shape: Shape) -> Array:
    padded = _padded(x, layer.padding)
    out = np.zeros(shape)
    for row, column in np.ndindex(*shape[1:]):
        top, left = row * layer.stride[0], column * layer.stride[1]
        window = padded[:, top : top + layer.kernel[0], left : left + layer.kernel[1]]
        out[:, row, column] = window.sum(axis=(1, 2))
    return out


def _padded(x: Array, padding: tuple[int, int]) -> Array:
    rows, columns = padding
    return np.pad(x, ((0, 0), (rows, rows), (columns, columns)))
