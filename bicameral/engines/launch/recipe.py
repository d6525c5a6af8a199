"""Loads recipes.toml: how each server is started, told apart from another, and kept quiet."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Literal

from bicameral.config import Closed, convert, nearest
from bicameral.errors import ConfigError


class Settings(Closed, frozen=True, kw_only=True):
    """A file that a server reads at its start; it is private, and {file} in the command.

    Either it is `text`, or the JSON file that the member's `settings` names, with the values at the
    JSON pointers in `json` replaced. `variable` names the file to the server, where the command
    cannot.
    """

    text: str = ""
    json: Mapping[str, str] = {}
    variable: str = ""


class Recipe(Closed, frozen=True, kw_only=True):
    """One row. `source` is the page that says so; `tested` whether we ran it, `where` then says.

    In `command`, `env` and `file` stand {model}, {served} (the name it is served under), {host},
    {port}, {key}, {chips} (their numbers, with commas), {count} (how many), {python}, {file};
    {args} is where the member's own arguments go. `key` is the variable that takes the API key.
    `chips` are the kinds of chip it runs on, each with the variable that chooses among them.
    `devices` matches a device file for each chip; `lost` are words of its log for a chip that has
    gone. `health` answers 200 when it can serve, `models` with what it serves. `version` is a
    command that prints it.
    """

    command: tuple[str, ...]
    source: str
    tested: bool
    where: str = ""
    install: str
    kinds: tuple[Literal["chat", "embeddings"], ...] = ("chat",)
    chips: Mapping[str, str] = {}
    devices: str = ""
    lost: tuple[str, ...] = ()
    key: str = ""
    env: Mapping[str, str] = {}
    file: Settings | None = None
    health: str = "/health"
    models: str = "/v1/models"
    api: str = "/v1"
    version: tuple[str, ...] = ()
    note: str = ""


@cache
def recipes() -> dict[str, Recipe]:
    """Every recipe by its name."""
    text = files(__package__).joinpath("recipes.toml").read_text(encoding="utf-8")
    rows = tomllib.loads(text).items()
    return {name: convert(row, Recipe, "recipes.toml", name) for name, row in rows}


def recipe(name: str, model: str) -> Recipe:
    """The recipe called `name`; ConfigError with the nearest name, for the member `model`."""
    found = recipes().get(name)
    if found is None:
        close = nearest(name, tuple(recipes()))
        raise ConfigError(f"[models.{model}] recipe: there is no '{name}'; {close}")
    return found


def untried(name: str, row: Recipe) -> str:
    """What an error has to add for a recipe that was never run; else nothing."""
    if row.tested:
        return ""
    return f" The recipe '{name}' was never run by us: hold it against {row.source}."
