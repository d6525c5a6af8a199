"""`bicameral prices`: the price table, and which members of a config have no price."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime
from fractions import Fraction
from typing import Any

import typer
from msgspec import Struct
from rich.table import Table

from bicameral import engines, terminal
from bicameral.brain import load_config
from bicameral.config import Config, MemberOptions, convert
from bicameral.errors import ConfigError
from bicameral.ledger.prices import DOLLARS, FREE, Row, filled, table
from bicameral.ledger_cli.opening import ConfigPath

app = typer.Typer(no_args_is_help=True, help="What models cost, who says so, and since when.")

OLD_DAYS = 180


class Finding(Struct, frozen=True, kw_only=True):
    """How one member is priced: `lacks` a price, or is told with `remarks` that need a look."""

    member: str
    told: str
    lacks: bool = False
    remarks: tuple[str, ...] = ()


@app.command("list")
def show() -> None:
    """List the rows of the price table, in dollars, with their dates and sources."""
    shown = Table(box=None, pad_edge=False, header_style="dim")
    for column in ("price_of", "input", "output", "cached", "said on", ""):
        shown.add_column(column, overflow="fold", no_wrap=column in ("price_of", "said on"))
    for name, row in table().prices.items():
        for cells in _lines(name, row):
            shown.add_row(*cells)
    terminal.out.print(shown)
    terminal.out.print("dollars per million tokens; ~ read then, on a page without a date\n")
    for name, row in table().prices.items():
        terminal.out.print(f"{name}: {row.source}", style="dim", markup=False)


@app.command()
def check(config: ConfigPath = None) -> None:
    """Tell how each member of the config is priced; exit code 1 if one has no price."""
    found = list(findings(load_config(config), datetime.now(UTC).date()))
    for finding in found:
        mark = "✗" if finding.lacks else "✓"
        terminal.out.print(f"{mark} {finding.member}: {finding.told}", markup=False)
        for remark in finding.remarks:
            terminal.out.print(f"    ! {remark}", markup=False)
    if any(finding.lacks for finding in found):
        sys.exit(1)


def findings(config: Config, today: date) -> Iterator[Finding]:
    """How each member of `config` is priced, opening none; ConfigError if its table is wrong."""
    for name, given in config.models.items():
        options = _options(config, name, given)
        try:
            price = options.price()
        except ValueError as error:
            raise ConfigError(f"{config.source}: [models.{name}] {error}") from error
        if options.price_of is not None:
            yield _from_table(name, given, options.price_of, today)
        elif price is not None:
            yield Finding(member=name, told="priced in the config")
        elif options.engine in FREE:
            yield Finding(member=name, told="runs here, free")
        else:
            yield Finding(member=name, told=f"has no price; {_hint(options)}", lacks=True)


def nearest_row(provider: str, model: str) -> str | None:
    """The row of the table that looks most like `model` of `provider`, if any does."""
    rows = table().prices
    same = [name for name in rows if model and name.partition("/")[2] == model]
    asked = f"{provider}/{model}"
    if asked in rows:
        return asked
    return next(iter(same or difflib.get_close_matches(asked, rows, n=1, cutoff=0.7)), None)


def _options(config: Config, name: str, given: Mapping[str, Any]) -> MemberOptions:
    where = f"models.{name}"
    kind = given.get("engine")
    if not isinstance(kind, str):
        raise ConfigError(f"{config.source}: [{where}] engine: say which engine runs this model")
    try:
        engine = engines.find(kind)
    except ConfigError as error:
        raise ConfigError(f"{config.source}: [{where}] engine: {error}") from error
    return convert(filled(given, where, config.source), engine.Options, config.source, where)


def _from_table(name: str, given: Mapping[str, Any], price_of: str, today: date) -> Finding:
    row = table().row(price_of)
    age = (today - table().dated(row)).days
    told = f"{price_of}, {_said_on(row)}, {age} days old"
    remarks = list(_disagreements(given, price_of))
    if age > OLD_DAYS:
        remarks.append(f"older than {OLD_DAYS} days: see {row.source}")
    return Finding(member=name, told=told, remarks=tuple(remarks))


def _disagreements(given: Mapping[str, Any], price_of: str) -> Iterator[str]:
    """Where the config gives a price of its own that is not that of its row."""
    ours = table().options(price_of)
    for key, own in given.items():
        if key == "price_of" or not key.startswith("price_"):
            continue
        if key not in ours:
            yield f"{key} is {_text(own)}, of which {price_of} says nothing"
        elif not _equal(own, ours[key]):
            yield f"{key} is {_text(own)}, {price_of} says {_text(ours[key])}; yours is used"


def _equal(own: Any, row: Any) -> bool:
    if not isinstance(own, str):
        return [_numbers(tier) for tier in own] == [_numbers(tier) for tier in row]
    return _numbers({"": own}) == _numbers({"": row})


def _numbers(tier: Mapping[str, Any]) -> dict[str, Fraction]:
    return {key: Fraction(value) for key, value in tier.items()}


def _text(value: Any) -> str:
    return value if isinstance(value, str) else "other tiers"


def _hint(options: MemberOptions) -> str:
    provider = getattr(options, "preset", None) or options.engine
    found = nearest_row(provider, getattr(options, "model", "") or "")
    if found is None:
        return "no row looks like it: set price_input and price_output"
    return f'the nearest row is price_of = "{found}"'


def _said_on(row: Row) -> str:
    return f"{'~' if row.undated else ''}{row.date}"


def _lines(name: str, row: Row) -> Iterator[tuple[str, ...]]:
    """The row, and under it its tiers."""
    given = table().options(name)
    other = [
        f"{given[f'price_{key}']} per {unit}"
        for key, unit in (("image", "picture"), ("second", "second"))
        if f"price_{key}" in given
    ]
    if row.currency != DOLLARS:
        other.append(f"asked in {row.currency}")
    rates = (given.get(f"price_{key}", "") for key in ("input", "output", "cached_input"))
    yield (name, *rates, _said_on(row), ", ".join(other))
    for tier in given.get("price_tiers", ()):
        above = f"  from {tier['from_tokens']} tokens on"
        yield (above, tier["input"], tier["output"], tier.get("cached_input", ""), "", "")
