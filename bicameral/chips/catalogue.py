"""The shipped catalogue of chips, read from TOML and checked; a team's own rows are read alike."""

from __future__ import annotations

import tomllib
from collections import Counter
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import msgspec

from bicameral.chips.chip import Chip
from bicameral.chips.traps import traps
from bicameral.config import nearest
from bicameral.errors import ConfigError

_SHIPPED = Path(__file__).with_name("catalogue.toml")
_FACTS = (
    "memory_gb",
    "bandwidth_gbs",
    "achieved_gbs",
    "link_gbs",
    "power_w",
    "price_usd",
    "neurons",
    "synapses",
    "pj_per_synop",
)


class Catalogue(msgspec.Struct, frozen=True):
    """Chips by id, and what their sources are."""

    chips: Mapping[str, Chip]
    sources: Mapping[str, str]

    def chip(self, name: str) -> Chip:
        """The chip of this id, name or alias; raises ConfigError that names the nearest."""
        wanted = name.casefold()
        for chip in self.chips.values():
            if wanted in {s.casefold() for s in (chip.id, chip.name, *chip.aliases)}:
                return chip
        raise ConfigError(
            f"no chip '{name}' in the catalogue; {nearest(wanted, tuple(self.chips))}"
        )


@cache
def shipped() -> Catalogue:
    """The catalogue that comes with the package."""
    return read(_SHIPPED.read_text(encoding="utf-8"))


def read(text: str) -> Catalogue:
    """A catalogue from TOML; raises ConfigError that lists every row and cell that is wrong."""
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"the catalogue of chips is not TOML: {error}") from error
    sources = tables.get("sources", {})
    chips = [_chip(row) for row in tables.get("chip", [])]
    wrong = [f"{chip.id}: {why}" for chip in chips for why in traps(chip, sources)]
    counted = Counter(chip.id for chip in chips)
    wrong += [f"{id}: two rows have this id" for id, n in counted.items() if n > 1]
    if wrong:
        raise ConfigError("the catalogue of chips is refused:\n" + "\n".join(wrong))
    return Catalogue({chip.id: chip for chip in chips}, sources)


def _chip(row: Mapping[str, Any]) -> Chip:
    """A row with its defaults spread over its cells, as a Chip."""
    row = dict(row)
    name = row.get("id", "a row without an id")
    default: dict[str, Any] = {k: row.pop(k) for k in ("source", "trust") if k in row}
    for field in _FACTS:
        if field in row:
            row[field] = _cell(row[field], default)
    row["peaks"] = [
        _cell(cell, default) | {"dtype": dtype, "sparse": kind == "sparse"}
        for kind in ("dense", "sparse")
        for dtype, cell in row.pop(kind, {}).items()
    ]
    try:
        return msgspec.convert(row, Chip)
    except msgspec.ValidationError as error:
        raise ConfigError(f"the catalogue's chip {name}: {_said(error)}") from error


def _cell(cell: Any, default: Mapping[str, Any]) -> dict[str, Any]:
    return dict(default) | (dict(cell) if isinstance(cell, Mapping) else {"value": cell})


def _said(error: msgspec.ValidationError) -> str:
    """msgspec's message; a missing source or trust is said in our own words."""
    text = str(error)
    for field in ("source", "trust"):
        if f"missing required field `{field}`" in text:
            return f"a cell has no {field}, nor has its row: say where it is from ({text})"
    return text
