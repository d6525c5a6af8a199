"""A net in the one dialect of NIR that other readers take the way it is meant.

Readers differ: some fix dt at 1e-4 s, some ignore r, v_leak or v_reset, some refuse a layer whose
neurons differ, some know no SumPool2d, one takes an IF for a LIF. So here: dt is 1e-4, v_leak is 0,
r is 1 and the weights carry the scale (where the neurons of a layer differ in tau, or have no
weights of their own, r is tau / dt); of a CubaLIF r is tau_mem / dt and w_in tau_syn / dt, which is
what all ask for. Thresholds that differ become 1. An IF is a LIF whose tau is 2**60 steps, a
SumPool2d a Conv2d of ones; groups of a Conv2d become zeros between them. What cannot be helped is
named by `obstacles`.
"""

from __future__ import annotations

import numpy as np

from bicameral.engines.spike.graph import (
    LIF,
    Array,
    Conv2d,
    CubaLIF,
    Delay,
    Layer,
    Net,
    Node,
    Shape,
    SumPool2d,
)
from bicameral.engines.spike.steps import (
    DT,
    Cells,
    Lag,
    Op,
    Steps,
    own_weights,
    weighted,
    with_layers,
)

_ENDLESS = DT * 2.0**60


def portable(net: Steps) -> Net:
    """The same net as NIR at dt = 1e-4, whatever the step of `net` was."""
    layers: dict[str, Layer] = {}
    gains: dict[str, Array] = {}
    for node in net.nodes:
        match node.layer:
            case Cells() as cells:
                layers[node.name], gain = _neurons(net, node, cells)
                gains |= dict.fromkeys(own_weights(net, node, gain), gain)
            case Lag() as lag:
                layers[node.name] = Delay(
                    delay=lag.steps.astype(np.float64).reshape(node.shape) * DT
                )
            case SumPool2d() as pool:
                layers[node.name] = _summing(pool, node.takes[0])
            case Conv2d() as conv:
                layers[node.name] = _ungrouped(conv)
            case layer:
                layers[node.name] = layer
    for name, gain in gains.items():
        scaled = weighted(net.node(name).layer, gain)
        layers[name] = _ungrouped(scaled) if isinstance(scaled, Conv2d) else scaled
    return with_layers(net, layers, None)


def obstacles(net: Net) -> tuple[str, ...]:
    """What of a portable net other readers still refuse or, worse, read wrongly; empty: nothing."""
    found = []
    for node in net.nodes:
        if isinstance(node.layer, Delay):
            found.append(f"node '{node.name}' is a Delay, which most readers do not know")
        if isinstance(node.layer, LIF | CubaLIF) and node.layer.v_reset.any():
            found.append(
                f"node '{node.name}' resets to something else than its rest, which snnTorch and "
                "Norse ignore and SpikingJelly refuses"
            )
        if isinstance(node.layer, LIF) and not _alike(node.layer.tau.reshape(-1)):
            found.append(
                f"node '{node.name}' has neurons that differ in tau, which SpikingJelly refuses; "
                "they need an r, which Norse ignores"
            )
        if isinstance(node.layer, Conv2d) and len(set(node.layer.weight.shape[2:])) > 1:
            found.append(
                f"node '{node.name}' has a kernel that is not square, of which nir computes "
                "a wrong shape: readers that let it check refuse the file"
            )
        if node.delayed:
            found.append(f"node '{node.name}' closes a loop, which snnTorch cannot read")
    return tuple(found)


def _neurons(net: Steps, node: Node[Op], cells: Cells) -> tuple[Layer, Array]:
    """The neurons, and the factor that the weights before them have to take."""
    tau = _tau(cells.decay)
    scale = np.ones_like(tau) if _alike(cells.threshold) else _reciprocal(cells.threshold)
    gain = scale * tau / DT if cells.synapse is None and _alike(tau) else scale
    if not own_weights(net, node, gain):
        scale = gain = np.ones_like(tau)
    carried = gain is not scale
    r = np.ones_like(tau) if carried else tau / DT
    return _layer(cells, tau, r, scale, node.shape), gain


def _layer(cells: Cells, tau: Array, r: Array, scale: Array, shape: Shape) -> Layer:
    fields = {
        "r": r,
        "v_leak": np.zeros_like(tau),
        "v_threshold": cells.threshold if (scale == 1).all() else np.sign(cells.threshold),
        "v_reset": cells.reset * scale,
    }
    if cells.synapse is None:
        return LIF(tau=tau.reshape(shape), **{k: v.reshape(shape) for k, v in fields.items()})
    tau_syn = _tau(cells.synapse)
    fields |= {"tau_mem": tau, "tau_syn": tau_syn, "w_in": tau_syn / DT}
    return CubaLIF(**{k: v.reshape(shape) for k, v in fields.items()})


def _tau(decay: Array) -> Array:
    """The time constant of a decay by Euler's method at dt = 1e-4."""
    return np.where(decay < 1, DT / np.where(decay < 1, 1 - decay, 1), _ENDLESS)


def _reciprocal(threshold: Array) -> Array:
    return 1 / threshold if (threshold > 0).all() else np.ones_like(threshold)


def _alike(values: Array) -> bool:
    return bool((values == values[0]).all())


def _summing(pool: SumPool2d, channels: int) -> Conv2d:
    weight = np.zeros((channels, channels, *pool.kernel))
    weight[range(channels), range(channels)] = 1
    return Conv2d(weight=weight, bias=np.zeros(channels), stride=pool.stride, padding=pool.padding)


def _ungrouped(conv: Conv2d) -> Conv2d:
    """One group, with zeros where channels did not meet."""
    outputs, per, *kernel = conv.weight.shape
    if conv.groups == 1:
        return conv
    weight = np.zeros((outputs, per * conv.groups, *kernel))
    each = outputs // conv.groups
    for group in range(conv.groups):
        own = slice(group * each, (group + 1) * each)
        weight[own, group * per : (group + 1) * per] = conv.weight[own]
    return Conv2d(
        weight=weight,
        bias=conv.bias,
        stride=conv.stride,
        padding=conv.padding,
        dilation=conv.dilation,
    )
