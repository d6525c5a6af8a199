"""Weights in one safetensors file, and beside them, in its header, what they are weights of."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

import msgspec
from torch import Tensor

from bicameral.engines.vdt.design import Design
from bicameral.errors import ConfigError, WeightsError

FORMAT = "bicameral-vdt-1"


def save(path: Path, design: Design, tensors: Mapping[str, Tensor], **about: object) -> None:
    """Write or replace `path` at once; `about` is kept as JSON."""
    from safetensors.torch import save_file

    head = {"format": FORMAT, "design": msgspec.json.encode(design).decode()}
    head |= {key: json.dumps(value, sort_keys=True) for key, value in about.items()}
    partly = path.with_name(f".{path.name}.part")
    save_file({name: each.detach().contiguous() for name, each in tensors.items()}, partly, head)
    os.replace(partly, path)


def read(path: Path) -> tuple[Design, dict[str, Tensor], dict[str, object]]:
    """The design, the tensors and what else was said; WeightsError if it is no such file."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            head = dict(file.metadata() or {})
            if head.pop("format", "") != FORMAT:
                raise WeightsError(f"{path} holds no video diffusion transformer of this program")
            design = msgspec.json.decode(head.pop("design"), type=Design)
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError, KeyError, msgspec.MsgspecError, ConfigError) as error:
        raise WeightsError(f"{path} cannot be read as weights: {error}") from error
    return design, tensors, {key: json.loads(value) for key, value in head.items()}
