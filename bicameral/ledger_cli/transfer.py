"""`bicameral ledger deposit, payout, refund, adjust, holds, release`: money moved by hand."""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any

import typer
from rich.table import Table

from bicameral import terminal
from bicameral.ledger import transfer
from bicameral.ledger.book import wall
from bicameral.ledger.entry import CALLER, OWNER
from bicameral.ledger.prices import decimal
from bicameral.ledger_cli.opening import ConfigPath, opened

# So that an amount may begin with a minus.
SIGNED: Mapping[str, Any] = {"ignore_unknown_options": True}

Amount = Annotated[str, typer.Argument(help="Dollars, as 12.50.")]
Id = Annotated[
    str | None,
    typer.Option("--id", help="Your name for it: with the same one it is done only once."),
]
Note = Annotated[str, typer.Option(help="Why, for whoever reads the book.")]


def deposit(
    key: Annotated[str, typer.Argument(help="The id of a key, as `bicameral keys list` says it.")],
    amount: Amount,
    id: Id = None,
    note: Note = "",
    config: ConfigPath = None,
) -> None:
    """A caller has paid in: its prepaid key may spend that much more."""
    paid = transfer.dollars(amount)
    with opened(config) as (_, store):
        moved = transfer.deposit(store, key, paid, id=_id(id), at=wall(), note=note)
        left = store.tally(f"account/{CALLER}/{key}")
    _tell(moved, f"${decimal(paid)} paid in for {key}, which now has ${decimal(left)}")


def payout(
    owner: Annotated[str, typer.Argument(help="Who was paid.")],
    amount: Amount,
    id: Id = None,
    note: Note = "",
    config: ConfigPath = None,
) -> None:
    """An owner was paid what its members have earned, or a part of it."""
    paid = transfer.dollars(amount)
    with opened(config) as (_, store):
        moved = transfer.payout(store, owner, paid, id=_id(id), at=wall(), note=note)
        left = store.tally(f"account/{OWNER}/{owner}")
    _tell(moved, f"${decimal(paid)} paid out to {owner}, who is still owed ${decimal(left)}")


def refund(
    entry: Annotated[str, typer.Argument(help="The id of a request's booking.")],
    amount: Annotated[str | None, typer.Argument(help="Dollars; by default all of it.")] = None,
    id: Id = None,
    note: Note = "",
    config: ConfigPath = None,
) -> None:
    """Give a caller back what a request cost it, or a part; its members' owners keep theirs."""
    back = None if amount is None else transfer.dollars(amount)
    with opened(config) as (_, store):
        moved = transfer.refund(store, entry, back, id=_id(id), at=wall(), note=note)
    given = moved.amount(f"{transfer.REFUNDED}/{entry}")
    _tell(moved, f"${decimal(given)} of {entry} given back")


def adjust(
    owner: Annotated[str, typer.Argument(help="Whose invoice says something else.")],
    amount: Annotated[str, typer.Argument(help="Dollars more; -0.50: less.")],
    of: Annotated[str, typer.Option("--of", help="The id of the entry that it puts right.")],
    note: Note,
    id: Id = None,
    config: ConfigPath = None,
) -> None:
    """An owner's invoice differs from what the book says: the operator bears the difference."""
    more = transfer.dollars(amount, signed=True)
    with opened(config) as (_, store):
        moved = transfer.adjust(store, owner, more, of=of, id=_id(id), at=wall(), note=note)
        owed = store.tally(f"account/{OWNER}/{owner}")
    _tell(moved, f"{owner} adjusted by ${decimal(more)}, is now owed ${decimal(owed)}")


def holds(config: ConfigPath = None) -> None:
    """List what is set aside for requests that have not ended."""
    with opened(config) as (_, store):
        found = store.open_holds()
    shown = Table(box=None, pad_edge=False, header_style="dim")
    for column in ("hold", "caller", "mind", "money", "tokens", "expires (UTC)"):
        shown.add_column(column, overflow="fold")
    for hold in found:
        money = "no limit" if hold.money is None else f"${decimal(hold.money)}"
        end = datetime.fromtimestamp(hold.until, UTC).strftime("%Y-%m-%d %H:%M:%S")
        shown.add_row(hold.id, hold.caller, hold.mind, money, str(hold.tokens), end)
    terminal.out.print(shown if found else "no hold is open")


def release(
    hold: Annotated[str, typer.Argument(help="The id of an open hold, as `holds` lists it.")],
    config: ConfigPath = None,
) -> None:
    """Give a hold back; only for a request that has ended, as its cost could not be booked."""
    with opened(config) as (_, store):
        found = transfer.release(store, hold, at=wall())
    held = "nothing" if found.money is None else f"${decimal(found.money)}"
    terminal.out.print(f"{hold}: {held} given back to {found.caller}", markup=False)


def _id(given: str | None) -> str:
    return os.urandom(12).hex() if given is None else given


def _tell(moved: transfer.Moved, told: str) -> None:
    before = "" if moved.new else " (written when it was asked for before)"
    terminal.out.print(f"{moved.entry.id}: {told}{before}", markup=False)
