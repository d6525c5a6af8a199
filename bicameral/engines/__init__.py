"""One file per way to run a model.

An engine is a module with `Options`, a closed struct that extends config.MemberOptions, and
`open(name, options)`, an async context manager that gives a Model and lets go of everything it
holds when left. Outsiders add theirs through the entry-point group `bicameral.engines`.
"""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any, Protocol, cast

from bicameral.config import MemberOptions, nearest
from bicameral.errors import ConfigError
from bicameral.model import Model

ENGINES = (
    "scripted",
    "llama_cpp",
    "transformers",
    "openai",
    "anthropic",
    "launched",
    "embed",
    "ocr",
    "tags",
    "faces",
    "whisper",
    "vad",
    "spiking",
    "vdt",
)
GROUP = "bicameral.engines"


class Engine(Protocol):
    """What an engine module offers."""

    Options: type[MemberOptions]

    def open(self, name: str, options: Any) -> AbstractAsyncContextManager[Model]:
        """Give the model named `name`; ConfigError if the options cannot work."""
        ...


def find(name: str) -> Engine:
    """The engine called `name`: ours, else an installed plugin's; imported only now."""
    if name in ENGINES:
        return cast(Engine, import_module(f"bicameral.engines.{name}"))
    plugins = {plugin.name: plugin for plugin in entry_points(group=GROUP)}
    if name in plugins:
        return cast(Engine, plugins[name].load())
    raise ConfigError(f"there is no engine '{name}'; {nearest(name, (*ENGINES, *plugins))}")
