"""`bicameral ledger contribution` and `bicameral ledger settle`: who is owed what, and why."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Annotated

import typer
from msgspec.structs import replace
from rich.markup import escape
from rich.table import Table

from bicameral import terminal
from bicameral.config import Config
from bicameral.errors import ConfigError, LedgerError, RequestError
from bicameral.explain import journal
from bicameral.ledger.book import wall
from bicameral.ledger.entry import Weights, Written
from bicameral.ledger.page import page
from bicameral.ledger.settle import Result, book, frozen, month, settlements
from bicameral.ledger.settle import settle as found
from bicameral.ledger.sheet import as_csv, as_json, dollars, file_name
from bicameral.ledger.statement import Statement, owners, statements
from bicameral.ledger.store import Store
from bicameral.ledger_cli.opening import ConfigPath, opened

Period = Annotated[str, typer.Option("--period", help="The month, as in 2026-11 (UTC).")]


class Whole:
    """The entries of a book from the first on, read anew each time."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def __iter__(self) -> Iterator[Written]:
        return self._store.entries()


def settle(
    period: Period,
    scheme: Annotated[
        str | None,
        typer.Option(help="shapley, feedback, calls, tokens or final; else what was frozen."),
    ] = None,
    draft: Annotated[bool, typer.Option("--draft", help="Only look, book nothing.")] = False,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="A folder; else ./statements-PERIOD.")
    ] = None,
    config: ConfigPath = None,
) -> None:
    """Share out the margins of a month among the owners of members, and write their statements.

    Doing it again books nothing more and writes the same. A month that has not ended is only
    looked at.
    """
    over = month(period)[1] <= wall()
    with opened(config) as (loaded, store):
        entries = Whole(store)
        results = found(entries, period, keep=kept(loaded), scheme=scheme)
        if over and not draft:
            results = book(store, results, wall())
        drafts = [r.settlement for r in results if r.settlement is not None and not r.booked]
        names = owners(entries, period, drafts)
        told = statements(names, entries, period, drafts)
    told = [replace(each, draft=each.draft or not over) for each in told]
    _show(results, told)
    folder = out or Path(f"statements-{period}")
    _write(told, folder)
    if drafts or not over:
        why = "is not over" if not over else "was only looked at"
        terminal.err.print(f"a draft: {period} {why}, nothing was booked", markup=False)
    terminal.err.print(str(folder), markup=False)


def contribution(
    mind: Annotated[str, typer.Argument(help="The mind that owners contribute to.")],
    table: Annotated[
        Path | None,
        typer.Argument(help="Recorded outcomes that it did not learn from: .parquet, .csv, .jsonl"),
    ] = None,
    *,
    period: Period,
    feedback: Annotated[
        bool, typer.Option("--feedback", help="By the month's rated answers instead.")
    ] = False,
    draft: Annotated[bool, typer.Option("--draft", help="Only look, freeze nothing.")] = False,
    orders: Annotated[
        int, typer.Option(min=2, help="How many random orders, for more than 10 owners.")
    ] = 200,
    seed: Annotated[int, typer.Option(help="Of those orders.")] = 0,
    config: ConfigPath = None,
) -> None:
    """Find what each owner contributes to a mind and freeze it for a month, once.

    By Shapley values over TABLE, or, which is no Shapley value, by whose answers were rated how.
    """
    if (table is None) != feedback:
        raise RequestError("give a table of outcomes, or --feedback: one of the two")
    month(period)
    with opened(config) as (loaded, store):
        _open(store, mind, period)
        if table is None:
            weights = _rated(loaded, mind, period, config)
        else:
            weights = _replayed(loaded, mind, table, period, orders, seed)
        _show_weights(weights)
        if draft:
            terminal.err.print("a draft: nothing was frozen")
            return
        _freeze(store, weights)
    terminal.err.print(f"frozen for {period}: {weights.id}", markup=False)


def kept(config: Config) -> Fraction:
    """The operator's part of margins; ConfigError if it is none."""
    text = config.ledger.keep if config.ledger else "0"
    try:
        share = Fraction(text)
    except (ValueError, ZeroDivisionError):
        share = Fraction(-1)
    if not 0 <= share <= 1:
        raise ConfigError(f'{config.source}: [ledger] keep: write a part of 1, as in "0.2"')
    return share


# --- weights ------------------------------------------------------------------------------------


def _open(store: Store, mind: str, period: str) -> None:
    """LedgerError if the weights are frozen already, or it is too late for them."""
    if mind in frozen(store.entries(), period):
        raise LedgerError(f"the weights of {mind} for {period} are frozen: they stay as they are")
    if any(s.mind == mind and s.period >= period for _, s in settlements(store.entries())):
        raise LedgerError(f"{mind} is settled up to {period} already")


def _freeze(store: Store, weights: Weights) -> None:
    if not any(weight for _, weight in weights.weights):
        raise RequestError("nobody contributed anything by these outcomes, so nothing was frozen")
    if not store.write(lambda draft: draft.put(weights, wall())):
        raise LedgerError(f"{weights.id} is written already: what is frozen stays as it is")


def _replayed(
    config: Config, mind: str, table: Path, period: str, orders: int, seed: int
) -> Weights:
    from bicameral.evals.contribution import from_table
    from bicameral.left.table import load

    with terminal.waiting(f"reading {table}…"):
        outcomes, source = load(table), table.read_bytes()
    return from_table(
        config, mind, outcomes, period, source=source, orders=orders, seed=seed, said=_told
    )


def _rated(config: Config, mind: str, period: str, path: Path | None) -> Weights:
    from bicameral.evals.contribution import from_ratings

    with journal(path) as answers:
        return from_ratings(config, mind, answers.rated(), period)


def _told(text: str) -> None:
    if terminal.err.is_terminal:
        terminal.err.print(text, style="dim", markup=False)


def _show_weights(weights: Weights) -> None:
    total = sum(weight for _, weight in weights.weights) or 1
    table = _table("owner", "members", "#weight", "#share", "#± share")
    errors = weights.errors or (0,) * len(weights.weights)
    for (name, weight), error in zip(weights.weights, errors, strict=True):
        members = ", ".join(m for m, owner in weights.members if owner == name)
        shown = f"{error / total:.2%}" if weights.errors else "exact"
        _add(table, name, members, weight, f"{weight / total:.2%}", shown)
    terminal.out.print(table)
    how = f"{weights.scheme}, {weights.prompts} outcomes, inputs {weights.inputs}"
    terminal.out.print(how, markup=False)
    for name in weights.negative:
        terminal.err.print(
            f"{name}: {weights.mind} is better without its members; that counts as 0",
            style="yellow",
            markup=False,
        )


# --- statements ---------------------------------------------------------------------------------


def _show(results: Sequence[Result], told: Sequence[Statement]) -> None:
    minds = _table("mind", "by", "#margin", "#kept", "#shared out", "")
    for r in results:
        s = r.settlement
        if s is None:
            _add(minds, r.mind, "", "", "", "", r.note)
            continue
        state = r.note or ("booked" if r.booked else "draft")
        _add(minds, r.mind, s.scheme, *map(dollars, (s.margin, s.kept, s.amount)), state)
    if results:
        terminal.out.print(minds)
    else:
        terminal.out.print("No mind took a margin.")
    table = _table("owner", "#before", "#cost", "#margin", "#paid out", "#owed")
    for each in told:
        figures = (each.opening, each.cost, each.margin, each.moved, each.closing)
        _add(table, each.owner, *map(dollars, figures))
    terminal.out.print(table)


def _write(told: Sequence[Statement], folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for statement in told:
            files = {"csv": as_csv, "json": as_json, "html": page}
            for ending, made in files.items():
                _private(folder / f"{file_name(statement.owner)}.{ending}", made(statement))
    except OSError as error:
        raise RequestError(f"--out {folder}: cannot be written ({error.strerror})") from error


def _private(path: Path, text: str) -> None:
    """For nobody else on this machine to read."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
    with os.fdopen(os.open(path, flags, 0o600), "wb") as file:
        file.write(text.encode())


def _table(*columns: str) -> Table:
    """# marks columns of numbers."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in columns:
        number = column.startswith("#")
        name = column.removeprefix("#")
        table.add_column(name, justify="right" if number else "left", no_wrap=number)
    return table


def _add(table: Table, *cells: object) -> None:
    table.add_row(*(escape(str(cell)) for cell in cells))
