"""Loads presets.toml: the public addresses and quirks of OpenAI-compatible servers."""

from __future__ import annotations

import tomllib
from functools import cache
from importlib.resources import files

from bicameral.config import Closed, convert, nearest
from bicameral.errors import ConfigError


class Preset(Closed, frozen=True, kw_only=True):
    """One row. `source` is the page that says so; `checked` whether it was found to say so.

    `ask_usage` false: the server refuses stream_options. `max_tokens_field` is its word for it.
    """

    url: str
    source: str
    owner: str = ""
    key_env: str | None = None
    checked: bool = True
    ask_usage: bool = True
    max_tokens_field: str = "max_tokens"
    note: str = ""


@cache
def presets() -> dict[str, Preset]:
    """Every preset by its name."""
    text = files(__package__).joinpath("presets.toml").read_text(encoding="utf-8")
    rows = tomllib.loads(text).items()
    return {name: convert(row, Preset, "presets.toml", name) for name, row in rows}


def preset(name: str, model: str) -> Preset:
    """The preset called `name`; ConfigError with the nearest name, for the member `model`."""
    found = presets().get(name)
    if found is None:
        close = nearest(name, tuple(presets()))
        raise ConfigError(f"[models.{model}] preset: there is no '{name}'; {close}")
    return found
