"""Checks the book: `bicameral ledger verify`, and `bicameral ledger head` for what to publish."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from bicameral.brain import load_config
from bicameral.errors import ConfigError
from bicameral.ledger.audit import Report, audit
from bicameral.ledger.engine import where
from bicameral.ledger_cli.figures import dollars
from bicameral.ledger_cli.opening import ConfigPath

_Heads = Annotated[
    list[str] | None,
    typer.Option("--head", help="A head published earlier, SEQ:HASH; may be given again."),
]


def verify(config: ConfigPath = None, head: _Heads = None) -> None:
    """Recompute the whole book, by code of its own. It changes nothing; the book may be in use.

    Exit code 1, and every fault with the number of its entry, if anything is wrong.
    """
    report = audit(_url(config), head or ())
    if not report.faults:
        _show(report)
        return
    for fault in report.faults:
        typer.echo(fault)
    typer.echo(f"{len(report.faults)} faults in {report.entries} entries", err=True)
    raise typer.Exit(1)


def head(config: ConfigPath = None) -> None:
    """Print the number and hash of the last entry, if the book is right.

    Publish it: `verify --head` then finds whether any entry up to it was changed or removed since.
    """
    report = audit(_url(config))
    if report.faults:
        typer.echo("the book is wrong, see: bicameral ledger verify", err=True)
        raise typer.Exit(1)
    typer.echo(report.head)


def _show(report: Report) -> None:
    typer.echo(f"the book is right: {report.entries} entries, {report.open_holds} open holds")
    for kind, amount in sorted(_classes(report.balances).items()):
        typer.echo(f"  {kind:<10}{dollars(amount, 9):>24}")
    typer.echo(f"head {report.head}")


def _classes(balances: Mapping[str, int]) -> dict[str, int]:
    """The balances of all callers, owners, margins and so on."""
    classes: dict[str, int] = {}
    for account, amount in balances.items():
        kind = account.partition("/")[0]
        classes[kind] = classes.get(kind, 0) + amount
    return classes


def _url(config: Path | None) -> str:
    """Of the config's book, which is not opened: what opens it may be what is wrong."""
    loaded = load_config(config)
    if loaded.ledger is None or not loaded.ledger.enabled:
        raise ConfigError(f"{loaded.source}: there is no ledger; add a [ledger] table")
    return where(loaded.ledger)
