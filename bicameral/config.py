"""TOML to frozen structs. An unknown key is an error that names its table and the nearest key.

The shape of a member's table belongs to its engine: `convert` turns it into the engine's closed
Options once the engine is known. Secrets are named by environment variable, never written here.
"""

from __future__ import annotations

import difflib
import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from msgspec import Struct

from bicameral.errors import ConfigError
from bicameral.options import POLICIES as POLICIES
from bicameral.options import CheckOptions as CheckOptions
from bicameral.options import Closed as Closed
from bicameral.options import ClusterOptions as ClusterOptions
from bicameral.options import FetchOptions as FetchOptions
from bicameral.options import JournalOptions as JournalOptions
from bicameral.options import LedgerOptions as LedgerOptions
from bicameral.options import MemberOptions as MemberOptions
from bicameral.options import MindOptions as MindOptions
from bicameral.options import RightOptions as RightOptions
from bicameral.options import ServerOptions as ServerOptions
from bicameral.options import VideosOptions as VideosOptions
from bicameral.options import nano as nano


class Config(Struct, frozen=True, kw_only=True):
    """The whole file; `models` and `watch` are still raw: engines and the watch read their own."""

    models: Mapping[str, Mapping[str, Any]] = {}
    minds: Mapping[str, MindOptions] = {}
    server: ServerOptions = ServerOptions()
    journal: JournalOptions = JournalOptions()
    right: RightOptions = RightOptions()
    videos: VideosOptions = VideosOptions()
    ledger: LedgerOptions | None = None
    cluster: ClusterOptions | None = None
    watch: Mapping[str, Any] = {}
    source: str = "(embedded default)"


T = TypeVar("T")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/-]{0,99}")


def load(path: Path) -> Config:
    """Read and check a config file."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: is not UTF-8 text") from error
    return parse(text, str(path))


def parse(text: str, source: str) -> Config:
    """Check the text of a config file; `source` names it in errors."""
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{source}: is not valid TOML: {error}") from error
    _known(
        tables,
        ("models", "minds", "server", "journal", "ledger", "right", "videos", "cluster", "watch"),
        source,
        "the file",
    )
    models = _tables(tables.get("models", {}), source, "models")
    minds = {
        name: convert(table, MindOptions, source, f"minds.{name}")
        for name, table in _tables(tables.get("minds", {}), source, "minds").items()
    }
    server = convert(tables.get("server", {}), ServerOptions, source, "server")
    journal = convert(tables.get("journal", {}), JournalOptions, source, "journal")
    right = convert(tables.get("right", {}), RightOptions, source, "right")
    videos = convert(tables.get("videos", {}), VideosOptions, source, "videos")
    ledger, cluster = tables.get("ledger"), tables.get("cluster")
    config = Config(
        models=models,
        minds=minds,
        server=server,
        journal=journal,
        right=right,
        videos=videos,
        ledger=None if ledger is None else convert(ledger, LedgerOptions, source, "ledger"),
        cluster=None if cluster is None else convert(cluster, ClusterOptions, source, "cluster"),
        watch=tables.get("watch", {}),
        source=source,
    )
    _check_names(config)
    return config


def convert(table: Mapping[str, Any], kind: type[T], source: str, where: str) -> T:
    """Turn a raw table into `kind`; an error names the file, the table, the key and the reason."""
    _known(table, _keys(kind), source, f"[{where}]")
    try:
        return msgspec.convert(table, kind)
    except msgspec.ValidationError as error:
        reason, _, path = str(error).partition(" - at `$")
        key = path.rstrip("`").lstrip(".")
        raise ConfigError(f"{source}: [{where}] {key + ': ' if key else ''}{reason}") from error


def secret(variable: str, where: str) -> str:
    """The secret in the environment variable; ConfigError if it is not set."""
    value = os.environ.get(variable, "").strip()
    if not value:
        raise ConfigError(f"[{where}] key_env: the environment variable {variable} is not set")
    return value


def nearest(word: str, known: tuple[str, ...]) -> str:
    """'; did you mean X?' for the known word closest to `word`, or the list of them."""
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    return f"did you mean '{close[0]}'?" if close else f"known: {', '.join(sorted(known))}"


def _keys(kind: type) -> tuple[str, ...]:
    return tuple(f.encode_name for f in msgspec.structs.fields(kind))


def _known(table: Any, keys: tuple[str, ...], source: str, where: str) -> None:
    if not isinstance(table, Mapping):
        raise ConfigError(f"{source}: {where} must be a table")
    for key in table:
        if key not in keys:
            raise ConfigError(f"{source}: {where} has an unknown key '{key}'; {nearest(key, keys)}")


def _tables(group: Any, source: str, where: str) -> dict[str, dict[str, Any]]:
    if not isinstance(group, dict) or not all(isinstance(t, dict) for t in group.values()):
        raise ConfigError(f"{source}: [{where}] holds tables only: write [{where}.NAME]")
    return group


def _check_names(config: Config) -> None:
    names = (*config.models, *config.minds)
    for name in names:
        if not _NAME.fullmatch(name):
            raise ConfigError(
                f"{config.source}: '{name}' is no name: use letters, digits and ._:/-"
            )
    for name in config.minds:
        if name in config.models:
            raise ConfigError(f"{config.source}: '{name}' is both a model and a mind; rename one")
    for name in config.right.perceivers or ():
        if name not in config.models:
            hint = nearest(name, tuple(config.models))
            raise ConfigError(f"{config.source}: [right] perceivers: there is no '{name}'; {hint}")
    for name, mind in config.minds.items():
        _check_mind(config, name, mind, names)


def _check_mind(config: Config, name: str, mind: MindOptions, names: tuple[str, ...]) -> None:
    where = f"{config.source}: [minds.{name}]"
    if not mind.members:
        raise ConfigError(f"{where} members: is empty; name at least one model")
    for member in (*mind.members, *([mind.judge] if mind.judge else [])):
        if member not in names:
            raise ConfigError(f"{where} there is no '{member}'; {nearest(member, names)}")
    if len(set(mind.members)) < len(mind.members):
        raise ConfigError(f"{where} members: names one twice")
    _check_policy(where, mind)
    _check_cycle(config, (name,))


def _check_policy(where: str, mind: MindOptions) -> None:
    for key in _set_keys(mind):
        if key not in POLICIES[mind.policy]:
            policies = [name for name, keys in POLICIES.items() if key in keys]
            raise ConfigError(f"{where} {key}: is for the policy {' or '.join(policies)} only")
    for key in ("worth", "second", "most", "markup", "price_input", "price_output"):
        try:
            nano(getattr(mind, key) or "0")
        except ValueError as error:
            raise ConfigError(f"{where} {key}: {error}") from error
    if (mind.price_input is None) != (mind.price_output is None):
        raise ConfigError(f"{where} price_input and price_output go together: give both or neither")
    if mind.markup is not None and mind.price_input is not None:
        raise ConfigError(f"{where} markup: give it or price_input and price_output, not both")
    if mind.policy in ("samples", "verify") and len(mind.members) != 1:
        raise ConfigError(f"{where} members: {mind.policy} is over one member")
    if (
        mind.check
        and sum(map(bool, (mind.check.pattern, mind.check.json, mind.check.command))) != 1
    ):
        raise ConfigError(f"{where} check: give one of pattern, json and command")


def _set_keys(mind: MindOptions) -> list[str]:
    """The keys of the table that not every policy takes, as far as they are set."""
    known = frozenset().union(*POLICIES.values())
    return [
        key for key in mind.__struct_fields__ if key in known and getattr(mind, key) is not None
    ]


def _check_cycle(config: Config, path: tuple[str, ...]) -> None:
    mind = config.minds.get(path[-1])
    if mind is None:
        return
    for member in (*mind.members, *([mind.judge] if mind.judge else [])):
        if member in path:
            loop = " -> ".join((*path, member))
            raise ConfigError(f"{config.source}: minds form a circle: {loop}")
        _check_cycle(config, (*path, member))
