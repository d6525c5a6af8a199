"""Reads and writes NIR files; whatever is wrong with one is a WeightsError that says what.

NIR (Pedersen et al. 2024, "Neuromorphic intermediate representation") is a graph in an HDF5 file.
A file is untrusted: what it would unpack to is counted before anything is read, and links out of
it are refused.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

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
    Pair,
    Shape,
    SumPool2d,
    arrange,
)
from bicameral.errors import ConfigError, WeightsError

MOST_BYTES = 2**31
_MOST_ITEMS = 20_000
# What nir and h5py raise on a file that is cut, forged or of another kind.
_FOREIGN = (OSError, KeyError, ValueError, TypeError, AttributeError, AssertionError, IndexError)


def read(path: Path) -> Net:
    """The net in a NIR file. WeightsError: missing, corrupt, too large, or has a node we lack."""
    nir, h5py = _libraries()
    if not path.is_file():
        raise WeightsError(f"{path}: there is no such file")
    try:
        with h5py.File(path, "r") as file:
            _measure(file)
        graph = nir.read(path, type_check=False)
        return _net(dict(graph.nodes), [(str(a), str(b)) for a, b in graph.edges])
    except WeightsError as error:
        raise WeightsError(f"{path}: {error}") from error
    except (*_FOREIGN, RuntimeError) as error:
        raise WeightsError(f"{path}: is not a NIR file that can be read ({error})") from error


def write(net: Net, path: Path, *, v_reset: bool = True) -> None:
    """Write a NIR file. Without `v_reset`, for old readers that refuse the field; it has to be 0.

    NIR takes a v_reset that is not there to be 0. Other than that the file says what `net` says.
    """
    nir, h5py = _libraries()
    nodes = {net.input: nir.Input(np.array(net.input_shape))}
    nodes |= {node.name: _to_nir(nir, node.layer, node.takes) for node in net.nodes}
    last = _free("output", nodes)
    nodes[last] = nir.Output(np.array(net.node(net.output).shape))
    edges = [(a, node.name) for node in net.nodes for a in (*node.sources, *node.delayed)]
    graph = nir.NIRGraph(nodes, [*edges, (net.output, last)], type_check=False)
    if not v_reset:
        _check_no_reset(net)
    nir.write(path, graph)
    if not v_reset:
        with h5py.File(path, "r+") as file:
            for group in file["node/nodes"].values():
                group.pop("v_reset", None)


def _libraries() -> tuple[Any, Any]:
    try:
        return import_module("nir"), import_module("h5py")
    except ImportError as error:
        raise ConfigError(
            f"{error.name} is not installed: run `pip install 'bicameral[spiking]'`"
        ) from error


def _measure(file: Any) -> None:
    """Refuse a file that unpacks to more than MOST_BYTES or that points out of itself."""
    h5py = import_module("h5py")
    groups, items, size = [file], 0, 0
    while groups:
        group = groups.pop()
        for key in group:
            items += 1
            if not isinstance(group.get(key, getlink=True), h5py.HardLink) or items > _MOST_ITEMS:
                raise WeightsError("has links or too many parts for a NIR file")
            item = group[key]
            if isinstance(item, h5py.Group):
                groups.append(item)
                continue
            if item.external or item.is_virtual:
                raise WeightsError("keeps its data in other files")
            size += item.nbytes
    if size > MOST_BYTES:
        raise WeightsError(f"unpacks to {size} bytes, at most {MOST_BYTES} are read")


def _net(nodes: Mapping[str, Any], edges: list[tuple[str, str]]) -> Net:
    kinds = {name: type(node).__name__ for name, node in nodes.items()}
    source, sink = (_only(kinds, kind) for kind in ("Input", "Output"))
    layers = {n: _layer(n, node) for n, node in nodes.items() if n not in (source, sink)}
    ends = [a for a, b in edges if b == sink]
    if len(ends) != 1:
        raise WeightsError(f"the output '{sink}' is fed by {len(ends)} nodes instead of one")
    inner = [(a, b) for a, b in edges if b != sink]
    shape = _shape(source, nodes[source].input_type["input"])
    return arrange(layers, inner, input=source, input_shape=shape, output=ends[0])


def _only(kinds: Mapping[str, str], kind: str) -> str:
    names = [name for name, found in kinds.items() if found == kind]
    if len(names) != 1:
        raise WeightsError(f"it has {len(names)} {kind} nodes, one is needed")
    return names[0]


def _shape(name: str, value: Any) -> Shape:
    found = np.asarray(value)
    if found.ndim != 1 or found.dtype.kind not in "iu" or not 1 <= found.size <= 3:
        raise WeightsError(f"node '{name}' has the shape {value}: 1 to 3 whole numbers are needed")
    if found.min() < 1 or found.prod(dtype=float) > 2**28:
        raise WeightsError(f"node '{name}' has the shape {value}: too small or too large")
    return tuple(int(n) for n in found)


def _layer(name: str, node: Any) -> Layer:
    kind = type(node).__name__
    make = _READERS.get(kind)
    if make is None:
        raise WeightsError(
            f"node '{name}' is a {kind}; nodes that run are {', '.join(sorted(_READERS))}"
        )
    return make(name, node)


def _array(name: str, node: Any, field: str, *, dims: int | None = None) -> Array:
    """The field as finite float64; a number where an array is meant becomes one."""
    try:
        value = np.ascontiguousarray(getattr(node, field), dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise WeightsError(f"node '{name}': {field} is not an array of numbers") from error
    if dims is not None and value.ndim != dims:
        raise WeightsError(f"node '{name}': {field} has {value.ndim} dimensions instead of {dims}")
    if not np.isfinite(value).all():
        raise WeightsError(f"node '{name}': {field} has values that are not finite")
    return value


def _pair(name: str, node: Any, field: str, least: int) -> Pair:
    value = np.asarray(getattr(node, field))
    if value.dtype.kind not in "iu" or value.size not in (1, 2) or value.min() < least:
        raise WeightsError(f"node '{name}': {field} has to be one or two numbers >= {least}")
    first, last = int(value.flat[0]), int(value.flat[-1])
    if max(first, last) > 2**20:
        raise WeightsError(f"node '{name}': {field} is too large")
    return first, last


def _affine(name: str, node: Any) -> Affine:
    weight = _array(name, node, "weight", dims=2)
    bias = _array(name, node, "bias", dims=1)
    _fits(name, "bias", bias, weight.shape[0])
    return Affine(weight=weight, bias=bias)


def _linear(name: str, node: Any) -> Linear:
    return Linear(weight=_array(name, node, "weight", dims=2))


def _conv(name: str, node: Any) -> Conv2d:
    weight, bias = _array(name, node, "weight", dims=4), _array(name, node, "bias", dims=1)
    _fits(name, "bias", bias, weight.shape[0])
    stride, dilation = (_pair(name, node, field, 1) for field in ("stride", "dilation"))
    groups = int(np.asarray(node.groups).reshape(-1)[0])
    if groups < 1 or weight.shape[0] % groups:
        raise WeightsError(f"node '{name}': {weight.shape[0]} channels do not split in {groups}")
    return Conv2d(
        weight=weight,
        bias=bias,
        stride=stride,
        padding=_padding(name, node, weight, stride, dilation),
        dilation=dilation,
        groups=groups,
    )


def _padding(name: str, node: Any, weight: Array, stride: Pair, dilation: Pair) -> Pair:
    """NIR takes numbers, or 'same' or 'valid'; same is symmetric only for odd windows."""
    said = node.padding.decode() if isinstance(node.padding, bytes) else node.padding
    if not isinstance(said, str):
        return _pair(name, node, "padding", 0)
    if said == "valid":
        return 0, 0
    height, width = (d * (k - 1) for d, k in zip(dilation, weight.shape[2:], strict=True))
    if said != "same" or height % 2 or width % 2 or stride != (1, 1):
        raise WeightsError(f"node '{name}': padding '{said}' cannot be expressed in numbers")
    return height // 2, width // 2


def _pool(name: str, node: Any) -> SumPool2d:
    return SumPool2d(
        kernel=_pair(name, node, "kernel_size", 1),
        stride=_pair(name, node, "stride", 1),
        padding=_pair(name, node, "padding", 0),
    )


def _neuron(kind: type[LIF | CubaLIF | IF]) -> Callable[[str, Any], Layer]:
    def make(name: str, node: Any) -> Layer:
        values = {field: _array(name, node, field) for field in kind.__struct_fields__}
        shape = values["v_threshold"].shape
        for field, value in values.items():
            if value.shape != shape:
                raise WeightsError(f"node '{name}': {field} is {value.shape}, v_threshold {shape}")
            if field.startswith("tau") and not (value > 0).all():
                raise WeightsError(f"node '{name}': {field} has to be above 0")
        return kind(**values)

    return make


def _flatten(name: str, node: Any) -> Flatten:
    return Flatten(start=int(node.start_dim), end=int(node.end_dim))


def _delay(name: str, node: Any) -> Delay:
    delay = _array(name, node, "delay")
    if (delay < 0).any():
        raise WeightsError(f"node '{name}': a delay is below 0")
    return Delay(delay=delay)


_READERS: Mapping[str, Callable[[str, Any], Layer]] = {
    "Affine": _affine,
    "Linear": _linear,
    "Conv2d": _conv,
    "SumPool2d": _pool,
    "LIF": _neuron(LIF),
    "CubaLIF": _neuron(CubaLIF),
    "IF": _neuron(IF),
    "Flatten": _flatten,
    "Delay": _delay,
}


def _fits(name: str, field: str, value: Array, length: int) -> None:
    if value.shape != (length,):
        raise WeightsError(f"node '{name}': {field} is {value.shape} instead of ({length},)")


def _to_nir(nir: Any, layer: Layer, takes: Shape) -> Any:
    fields = {field: getattr(layer, field) for field in layer.__struct_fields__}
    match layer:
        case Conv2d():
            fields["input_shape"] = takes[1:]
        case SumPool2d():
            fields = {"kernel_size": fields.pop("kernel"), **fields}
            fields = {field: np.array(value) for field, value in fields.items()}
        case Flatten():
            shape = {"input": np.array(takes)}
            fields = {"input_type": shape, "start_dim": layer.start, "end_dim": layer.end}
        case Affine() | Linear():
            pass
        case _:
            # NIR reads a shape off these; one value for all is written out.
            fields = {k: np.ascontiguousarray(np.broadcast_to(v, takes)) for k, v in fields.items()}
    return getattr(nir, type(layer).__name__)(**fields)


def _free(name: str, taken: Mapping[str, Any]) -> str:
    while name in taken:
        name += "_"
    return name


def _check_no_reset(net: Net) -> None:
    for node in net.nodes:
        if isinstance(node.layer, LIF | CubaLIF | IF) and node.layer.v_reset.any():
            raise WeightsError(f"node '{node.name}' has a v_reset, so it cannot be left out")
