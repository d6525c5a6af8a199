"""Money and counts as a person reads them; ? stands for what is not known, never 0."""

from __future__ import annotations

from collections.abc import Iterable
from textwrap import wrap

from rich.table import Table
from rich.text import Text

from bicameral import terminal
from bicameral.ledger.report import Sum
from bicameral.usage import half_even


def table_of(*columns: str) -> Table:
    """An empty one: names on the left, figures that are never folded on the right."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for place, column in enumerate(columns):
        table.add_column(
            column, justify="right" if place else "left", no_wrap=place > 0, overflow="fold"
        )
    return table


def say(line: str, style: str = "") -> None:
    """A sentence under a heading, folded where the terminal ends."""
    for part in wrap(line, max(20, terminal.out.width - 2)):
        terminal.out.print(Text(f"  {part}", style=style))


def places(amounts: Iterable[float | None]) -> int:
    """Behind the point of dollars: 6, or all 9 where small amounts would lose in that."""
    return 9 if any(a and abs(a) < 1_000_000 and a % 1000 for a in amounts) else 6


def dollars(amount: int | None, behind: int | None = None) -> str:
    """Nano-dollars as dollars, rounded half to even to so many places."""
    if amount is None:
        return "?"
    behind = places([amount]) if behind is None else behind
    whole, rest = divmod(half_even(abs(amount), 10 ** (9 - behind)), 10**behind)
    return f"{'-' if amount < 0 else ''}${whole:,}.{rest:0{behind}}"


def cost(value: Sum, behind: int) -> str:
    """A sum of nano-dollars; +? where some of it is not known."""
    amount = None if value.amount is None else int(value.amount)
    return dollars(amount, behind) + ("+?" if amount is not None and value.missing else "")


def summed(value: Sum) -> str:
    """A sum of anything else; +? where some of it is not known."""
    if value.amount is None:
        return "?"
    return count(value.amount) + ("+?" if value.missing else "")


def count(value: float) -> str:
    """Exact up to ten million."""
    if value >= 10_000_000:
        return f"{value / 1e6:,.1f}M"
    return f"{value:,}" if isinstance(value, int) else f"{value:,.1f}"


def seconds(value: float | None) -> str:
    """With two places, with four below a tenth."""
    return "?" if value is None else f"{value:.2f}" if value >= 0.1 else f"{value:.4f}"


def many(number: int, what: str) -> str:
    """'1 call', '2 calls'."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"
