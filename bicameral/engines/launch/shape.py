"""What the weights of a launched model say of its network, for the planner; they are not loaded."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from msgspec import Struct

from bicameral.chips.layouts import weights
from bicameral.chips.network import Network, of_config
from bicameral.chips.network_file import config, read
from bicameral.chips.roofline import BYTES, Precision
from bicameral.chips.workload import Model

_SPLIT = re.compile(r"-\d{5}-of-(\d{5})$")  # one model in several GGUF files
_GGUF = ("bf16", "int8", "int4", "int2")
_BITS = {4: "int4", 8: "int8"}
_METHODS = {"fp8": "fp8", "mxfp4": "fp4"}


class Shape(Struct, frozen=True):
    """A network, and the format of its weights as far as the planner tells formats apart."""

    network: Network
    precision: Precision


def shape(name: str, model: str, given: Mapping[str, Any] | str | None) -> Shape | None:
    """The shape of `model`: as `given`, else as its files say; None if it has none here.

    `given` is the table of a config.json, or the path of one or of a GGUF file. `model` is a
    folder, a GGUF file, or a name of the Hugging Face hub whose files are in the cache here.
    Raises ConfigError or WeightsError if they cannot be read.
    """
    if given is not None and not isinstance(given, str):
        return Shape(of_config(name, given), _declared(given))
    path = _file(Path(given).expanduser()) if given else _file(Path(model).expanduser())
    if path is None and given is None:
        path = _cached(model)
    if path is None:
        # What is given must be there: reading it says why it cannot be.
        return None if given is None else _of(name, Path(given).expanduser())
    return _of(name, path)


def _of(name: str, path: Path) -> Shape:
    network = read(name, path)
    size = sum(file.stat().st_size for file in _stored(path))
    if path.suffix == ".gguf":
        # Embedding and head are quantised there as all else is.
        each = size / network.parameters
        dtype = min(_GGUF, key=lambda dtype: abs(math.log(BYTES[dtype] / each)))
        return Shape(network, _precision(dtype))
    table = config(path)
    if size and table.get("quantization_config"):
        return Shape(network, _nearest(network, size))
    return Shape(network, _declared(table))


def _file(path: Path) -> Path | None:
    """The file that tells of the weights at `path`."""
    if path.is_dir():
        path = path / "config.json"
    return path if path.is_file() else None


def _cached(model: str) -> Path | None:
    """In the cache of the Hugging Face hub, whose layout its library documents."""
    home = Path(os.environ.get("HF_HOME") or "~/.cache/huggingface").expanduser()
    hub = Path(os.environ.get("HF_HUB_CACHE") or home / "hub").expanduser()
    folder = hub / f"models--{model.replace('/', '--')}"
    try:
        commit = (folder / "refs" / "main").read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return None
    return _file(folder / "snapshots" / commit)


def _stored(path: Path) -> Iterator[Path]:
    """The files that hold the weights."""
    if path.suffix != ".gguf":
        yield from path.parent.glob("*.safetensors")
    elif found := _SPLIT.search(path.stem):
        yield from path.parent.glob(f"{path.stem[: found.start()]}-*-of-{found[1]}.gguf")
    else:
        yield path


def _nearest(network: Network, size: int) -> Precision:
    """The format in which these weights would come nearest to their size on disk."""

    def off(precision: Precision) -> float:
        model = Model(name=network.name, network=network, precisions=(precision,), share=1.0)
        return abs(math.log(weights(model, precision) / size))

    return min((_precision(dtype) for dtype in BYTES), key=off)


def _declared(table: Mapping[str, Any]) -> Precision:
    """As config.json's quantization_config says; without one, 16 bits."""
    said = table.get("quantization_config") or {}
    by_bits = _BITS.get(said.get("bits", 16), "bf16")
    return _precision(_METHODS.get(said.get("quant_method", ""), by_bits))


def _precision(dtype: str) -> Precision:
    return Precision(weights=dtype, experts=dtype)
