"""`bicameral ledger`: the commands about the book."""

from __future__ import annotations

import typer

from bicameral.ledger_cli import audit, transfer
from bicameral.ledger_cli.report import report
from bicameral.ledger_cli.settle import contribution, settle

ledger = typer.Typer(
    no_args_is_help=True, help="The book: what was spent, who is owed what, is it intact."
)
for command in (
    report,
    settle,
    contribution,
    audit.verify,
    audit.head,
    transfer.deposit,
    transfer.payout,
    transfer.refund,
    transfer.holds,
    transfer.release,
):
    ledger.command()(command)
ledger.command(context_settings=dict(transfer.SIGNED))(transfer.adjust)
