"""`bicameral ledger report`: what was spent, and what one member alone would have cost."""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterator, Mapping
from datetime import date
from pathlib import Path
from typing import Annotated, Any, cast

import msgspec
import typer

from bicameral import engines, terminal
from bicameral.config import Config, convert, nearest
from bicameral.errors import ConfigError, RequestError
from bicameral.journal.store import Store as JournalStore
from bicameral.journal.store import home
from bicameral.ledger.alternative import (
    Alternative,
    Quality,
    Scores,
    alternatives,
    habits,
)
from bicameral.ledger.entry import LOCAL
from bicameral.ledger.prices import FREE, filled
from bicameral.ledger.report import WAYS, By, Row, Spend, Sum, bookings, spend
from bicameral.ledger.store import Store
from bicameral.ledger_cli.beside import show_alternative
from bicameral.ledger_cli.opening import ConfigPath, opened
from bicameral.ledger_cli.spent import show_spend
from bicameral.usage import Price


def report(
    by: Annotated[str, typer.Option(help="key, mind, member, owner or day.")] = "mind",
    first: Annotated[
        str | None, typer.Option("--from", help="The first day, UTC: 2026-11-01.")
    ] = None,
    last: Annotated[str | None, typer.Option("--to", help="The last day, UTC.")] = None,
    table: Annotated[
        Path | None,
        typer.Option(help="Recorded outcomes, as for `bicameral eval`: how good each member is."),
    ] = None,
    floor: Annotated[
        float, typer.Option(min=0, max=1, help="How much worse a cheaper member may be.")
    ] = 0.02,
    json: Annotated[bool, typer.Option("--json", help="One line; money is nano-dollars.")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="A line a group, in nano-dollars.")] = False,
    config: ConfigPath = None,
) -> None:
    """Report what was spent, and what the best single member would have cost instead.

    A member alone costs what its own call in the request cost, or what its price and habits say.
    """
    if by not in WAYS:
        raise RequestError(f"--by {by}: {nearest(by, WAYS)}")
    if json and as_csv:
        raise RequestError("--json and --csv: ask for one of them")
    days = _day("--from", first), _day("--to", last)
    with opened(config) as (loaded, store):
        spent = spend(store.entries(), cast(By, by), *days)
        if as_csv:
            _as_csv(spent)
            return
        beside = _beside(loaded, store, days, table, floor)
    if json:
        _as_json(spent, beside)
        return
    show_spend(spent)
    for mind in beside:
        terminal.out.print()
        show_alternative(mind, tabled=table is not None)


def _day(option: str, text: str | None) -> str:
    try:
        return "" if text is None else date.fromisoformat(text).isoformat()
    except ValueError as error:
        raise RequestError(f"{option} {text}: write a day as 2026-11-30") from error


# --- what the alternative is computed from -------------------------------------------------------


def _beside(
    config: Config, store: Store, days: tuple[str, str], table: Path | None, floor: float
) -> list[Alternative]:
    minds = {name: tuple(dict.fromkeys(_leaves(config, name))) for name in config.minds}
    members = {member for leaves in minds.values() for member in leaves}
    return alternatives(
        bookings(store.entries(), *days),
        minds,
        {name: _price(config, name) for name in members},
        habits(bookings(store.entries(), *days)),
        known=None if table is None else _known(table),
        scores=_scores(config) if table is None else None,
        floor=floor,
    )


def _leaves(config: Config, name: str) -> Iterator[str]:
    if name not in config.minds:
        yield name
        return
    for member in config.minds[name].members:
        yield from _leaves(config, member)


def _price(config: Config, name: str) -> Price | None:
    """What the config says of it; the member is not opened for that."""
    where, table = f"models.{name}", config.models.get(name, {})
    if "engine" not in table:
        raise ConfigError(f"{config.source}: [{where}] engine: say which engine runs this model")
    try:
        table = filled(table, where, config.source)
        options = convert(table, engines.find(table["engine"]).Options, config.source, where)
        price = options.price()
    except ValueError as error:
        raise ConfigError(f"{config.source}: [{where}] {error}") from error
    return Price(input=0, output=0) if price is None and options.engine in FREE else price


def _known(path: Path) -> dict[str, Quality]:
    """How good each model of a table of outcomes is; without an outcome it is wrong."""
    from bicameral.evals.baselines import single
    from bicameral.left.table import load

    outcomes = load(path)
    return {
        model: Quality(mean=float(single(outcomes, model).quality.mean()), count=len(outcomes.ids))
        for model in outcomes.models
    }


def _scores(config: Config) -> Scores:
    """The ratings in the journal: of the mind, and of each member that said what it said."""
    if not config.journal.enabled or not (path := home(config.journal)).exists():
        return {}
    journal = JournalStore(path, create=False)
    try:
        rated = list(journal.rated())
    finally:
        journal.close()
    callers = {entry.caller for entry in rated}
    found: dict[tuple[str, str], dict[str, float]] = {}
    for caller in callers:
        given = [entry for entry in rated if entry.caller == caller]
        for entry in given:
            if entry.score is not None:
                mind = entry.decisions[0].mind
                found[caller or LOCAL, entry.id] = {mind: entry.score}
        for id, scores in _said(given):
            found[caller or LOCAL, id].update(scores)
    return found


def _said(entries: list[Any]) -> Iterator[tuple[str, Mapping[str, float]]]:
    from bicameral.journal.rated import outcomes

    try:
        table = outcomes(entries)
    except ConfigError:  # every rated answer was written from several
        return
    for id, row in zip(table.ids, table.score, strict=True):
        yield id, {m: float(s) for m, s in zip(table.models, row, strict=True) if s == s}


# --- for machines --------------------------------------------------------------------------------


def _as_json(spent: Spend, beside: list[Alternative]) -> None:
    body = {
        "money": "nano-dollars",
        **msgspec.to_builtins(spent),
        "alternatives": [_plainly(mind) for mind in beside],
    }
    sys.stdout.write(msgspec.json.encode(body).decode() + "\n")


def _plainly(mind: Alternative) -> dict[str, Any]:
    plainly: dict[str, Any] = msgspec.to_builtins(mind)
    for row, alone in zip(plainly["alone"], mind.alone, strict=True):
        row["saved"] = alone.saved
        row["saved_percent"] = None if alone.part is None else round(float(100 * alone.part), 4)
    return plainly


def _as_csv(spent: Spend) -> None:
    """Unknown is an empty cell; how many are missing stands beside each sum."""
    writer = csv.writer(sys.stdout, lineterminator="\n")
    names = Row.__struct_fields__
    sums = [name for name in names if isinstance(getattr(spent.total, name), Sum)]
    heads = ([name, f"{name}_unknown"] if name in sums else [name] for name in names[1:])
    writer.writerow([spent.by, *(head for some in heads for head in some)])
    for row in spent.rows:
        writer.writerow(list(_cells(row)))


def _cells(row: Row) -> Iterator[str | int | float | None]:
    for name in Row.__struct_fields__:
        value = getattr(row, name)
        if isinstance(value, Sum):
            yield value.amount
            yield value.missing
        elif isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r"):
            yield f"'{value}"  # a spreadsheet would run it
        else:
            yield value
