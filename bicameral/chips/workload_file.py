"""A workload from TOML, the networks and chips that it names found and read.

Closed tables: an unknown key is an error that names the nearest. Money is a decimal string, kept
in nano-dollars. Nothing is guessed that a plan would silently rest on.
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

from bicameral.chips.catalogue import Catalogue, shipped
from bicameral.chips.chip import Chip
from bicameral.chips.network import Network, of_config
from bicameral.chips.network_file import read
from bicameral.chips.roofline import Precision
from bicameral.chips.workload import Goal, Load, Measured, Model, Pool, Workload, check
from bicameral.config import convert, nearest
from bicameral.errors import ConfigError
from bicameral.options import Closed, nano

Here = Callable[[], Sequence[Chip]]
# Any CPU that the catalogue does not know, by itself one "chip" of a node.
CPU = Chip(id="cpu", name="CPU", vendor="", per="system", kind="cpu")
_TABLES = ("models", "chips", "load", "goal", "measured")


class _Model(Closed, frozen=True, kw_only=True):
    name: str
    network: dict[str, Any] | str | None = None
    precisions: tuple[str, ...] = ("bf16",)
    cache: str = "bf16"
    share: float | None = None
    reads: Literal["pictures", "audio"] | None = None
    tokens: float = 0.0
    moves: float | None = None


class _Pool(Closed, frozen=True, kw_only=True):
    chip: str = ""
    here: bool = False
    name: str = ""
    count: int | None = None
    per_node: int | None = None
    price_per_hour: str | None = None
    network_gbs: float | None = None


def load(path: Path, catalogue: Catalogue | None = None, here: Here | None = None) -> Workload:
    """The workload in the file; networks named by a path are read beside it."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: is not UTF-8 text") from error
    return parse(text, str(path), folder=path.parent, catalogue=catalogue, here=here)


def parse(
    text: str,
    source: str,
    *,
    folder: Path = Path(),
    catalogue: Catalogue | None = None,
    here: Here | None = None,
) -> Workload:
    """The workload in `text`. Raises ConfigError that names the table, key and reason.

    `here` finds the chips of this machine for a pool with `here = true`; else chips/find.py does.
    """
    tables = _read(text, source)
    known = catalogue or shipped()
    rows = partial(_rows, tables, source)
    models = _models(rows("models", _Model), folder, source)
    found = tuple(pool for row in rows("chips", _Pool) for pool in _pools(row, known, here, source))
    whole = Workload(
        models=models,
        pools=found,
        load=convert(tables.get("load", {}), Load, source, "load"),
        goal=convert(tables.get("goal", {}), Goal, source, "goal"),
        measured=tuple(rows("measured", Measured)),
        source=source,
    )
    check(whole)
    return whole


def _read(text: str, source: str) -> Mapping[str, Any]:
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{source}: is not valid TOML: {error}") from error
    for key in tables:
        if key not in _TABLES:
            raise ConfigError(f"{source}: unknown table '{key}'; {nearest(key, _TABLES)}")
    return tables


def _rows(tables: Mapping[str, Any], source: str, name: str, kind: type[Any]) -> list[Any]:
    found = tables.get(name, [])
    if not isinstance(found, list):
        raise ConfigError(f"{source}: write [[{name}]], once for each")
    return [convert(row, kind, source, f"{name} {i}") for i, row in enumerate(found, 1)]


def _models(rows: Sequence[_Model], folder: Path, source: str) -> tuple[Model, ...]:
    """The models; those without a share divide among them what the others leave."""
    answering = [row for row in rows if row.reads is None]
    given = sum(row.share or 0.0 for row in answering)
    open_ = sum(row.share is None for row in answering)
    rest = max(0.0, 1 - given) / open_ if open_ else 0.0
    if answering and not math.isclose(given + rest * open_, 1, abs_tol=1e-6):
        raise ConfigError(f"{source}: [[models]] share: they add up to {given:g}, not 1")
    return tuple(_model(row, rest, folder, source) for row in rows)


def _model(row: _Model, rest: float, folder: Path, source: str) -> Model:
    where = f"{source}: [[models]] {row.name}"
    if row.reads and row.share is not None:
        raise ConfigError(f"{where} share: an encoder has none, it reads what comes")
    try:
        precisions = tuple(Precision(weights=p, experts=p, cache=row.cache) for p in row.precisions)
        network = _network(row, folder)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from error
    share = 0.0 if row.reads else rest if row.share is None else row.share
    return Model(
        name=row.name,
        network=network,
        precisions=precisions,
        share=share,
        reads=row.reads,
        tokens=row.tokens,
        moves=row.moves,
    )


def _network(row: _Model, folder: Path) -> Network | None:
    """A shape from the table, a config.json or a GGUF file; None: by measurements only."""
    if row.network is None:
        return None
    bare = {"vocab_size": 0} if row.reads else {}
    if isinstance(row.network, str):
        return read(row.name, folder / row.network, bare)
    return of_config(row.name, bare | row.network)


def _pools(row: _Pool, known: Catalogue, here: Here | None, source: str) -> list[Pool]:
    where = f"{source}: [[chips]] {row.name or row.chip or 'here'}"
    try:
        price = None if row.price_per_hour is None else nano(row.price_per_hour)
        if row.here:
            return _found(row, price, here or _here(), where)
        chip = CPU if row.chip == "cpu" else known.chip(row.chip)
    except (ConfigError, ValueError) as error:
        raise ConfigError(f"{where}: {error}") from error
    if row.count is None:
        raise ConfigError(f"{where} count: say how many there are")
    per_node = row.per_node or min(row.count, 8) or 1
    return [_pool(row, chip, row.count, per_node, price, row.name or chip.id)]


def _found(row: _Pool, price: int | None, here: Here, where: str) -> list[Pool]:
    """Those of this machine, which is one node; alike ones are one pool."""
    if row.chip or row.count is not None or row.per_node is not None:
        raise ConfigError(
            f"{where}: with here = true the chips are found: no chip, count, per_node"
        )
    chips: dict[str, list[Chip]] = {}
    for chip in here():
        chips.setdefault(chip.id, []).append(chip)
    return [
        _pool(row, alike[0], len(alike), len(alike), price, f"{row.name or 'here'}:{name}")
        for name, alike in chips.items()
    ]


def _pool(row: _Pool, chip: Chip, count: int, per_node: int, price: int | None, name: str) -> Pool:
    return Pool(
        name=name,
        chip=chip,
        count=count,
        per_node=per_node,
        price=price,
        network_gbs=row.network_gbs,
    )


def _here() -> Here:
    """The chips of this machine, its CPU too: that is planned by measurements only."""
    from bicameral.chips import find

    def found() -> Sequence[Chip]:
        known = find.chips()
        return known if any(chip.kind == "cpu" for chip in known) else (CPU, *known)

    return found
