"""A network's shape from a file: a config.json, or the header of GGUF weights."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bicameral.chips.network import Network, of_config, of_gguf
from bicameral.errors import ConfigError


def read(name: str, path: Path, more: Mapping[str, Any] | None = None) -> Network:
    """The shape in the file; `more` stands in for keys that a config.json lacks.

    Raises ConfigError for a file that is none or lacks what is needed, WeightsError for damaged
    weights.
    """
    if path.suffix == ".gguf":
        from bicameral.engines.llama.gguf import metadata

        said = metadata(path)
        lists = {k: list(v) if isinstance(v, tuple) else v for k, v in said.items()}
        return of_gguf(name, lists)
    return of_config(name, {**(more or {}), **config(path)})


def config(path: Path) -> dict[str, Any]:
    """The table in a config.json; raises ConfigError if there is none."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"network: {path} is no config.json that can be read ({error})") from None
    if not isinstance(found, dict):
        raise ConfigError(f"network: {path} holds no table")
    return found
