"""A report of what was spent, as a person reads it on a terminal of 80 columns."""

from __future__ import annotations

from collections.abc import Iterator

from rich.table import Table
from rich.text import Text

from bicameral import terminal
from bicameral.account import plain
from bicameral.ledger.entry import LOCAL
from bicameral.ledger.report import Holds, Row, Spend, Sum
from bicameral.ledger_cli.figures import (
    cost,
    count,
    dollars,
    many,
    places,
    say,
    seconds,
    summed,
    table_of,
)


def show_spend(spent: Spend) -> None:
    """The sums of each group, their total, and in words what a sum does not tell."""
    show = terminal.out.print
    show(Text(f"spent by {spent.by}, {_range(spent)}", style="bold"))
    if spent.rows:
        show(_money(spent))
        if details := _details(spent):
            show(details)
    else:
        say("nothing is booked" + (" in these days" if spent.first or spent.last else " yet"))
    for note in (*_unknown(spent.total), *_notes(spent)):
        say(note, "dim")


def _range(spent: Spend) -> str:
    if not spent.first and not spent.last:
        return "since the first entry"
    return f"{spent.first or 'the first entry'} to {spent.last or 'now'}, UTC"


def _money(spent: Spend) -> Table:
    """What was asked, consumed, spent and paid; of a member how fast it was instead."""
    rows = [*spent.rows, spent.total]
    ends: tuple[str, ...] = ()
    if spent.by == "member":
        ends = ("seconds\np50", "\np95")
    elif spent.by != "owner":
        ends = ("\npaid", "\nmargin")
    heads = ("\nasked", "\ncalls", "tokens\nin", "\nout", "\ncost")
    table = table_of(f"\n  {spent.by}", *heads, *ends)
    behind = places(n for row in rows for n in (row.cost.amount, row.paid, row.margin))
    for row in rows:
        cells = _cells(row, behind)[: 1 + len(heads) + len(ends)]
        if spent.by == "member":
            cells[6:] = ["", ""] if row is spent.total else [seconds(row.p50), seconds(row.p95)]
        style = "bold" if row is spent.total else ""
        table.add_row(*(Text(cell, style="red" if cell[:1] == "-" else style) for cell in cells))
    return table


def _cells(row: Row, behind: int) -> list[str]:
    return [
        _name(row),
        count(row.requests),
        count(row.calls),
        summed(row.prompt_tokens),
        summed(row.completion_tokens),
        cost(row.cost, behind),
        dollars(row.paid, behind),
        dollars(row.margin, behind),
    ]


# Told only where it is not nothing: the field, and the head of its column.
_MORE = (
    ("failed", "failed"),
    ("abandoned", "abandoned"),
    ("mismatches", "other model"),
    ("late", "late"),
    ("estimates", "estimated"),
    ("cached_tokens", "cached"),
    ("reasoning_tokens", "thought"),
    ("images", "images"),
    ("media_ms", "media s"),
    ("chip_seconds", "chip s"),
    ("joules", "joules"),
)


def _details(spent: Spend) -> Table | None:
    some = [(field, head) for field, head in _MORE if _amount(getattr(spent.total, field))]
    if not some:
        return None
    table = table_of("\n  of these", *(f"\n{head}" for _, head in some))
    for row in (*spent.rows, spent.total):
        style = "bold" if row is spent.total else ""
        cells = (_name(row), *(_detail(row, field) for field, _ in some))
        table.add_row(*(Text(cell, style=style) for cell in cells))
    return table


def _amount(value: int | Sum) -> float:
    return (value.amount or 0) if isinstance(value, Sum) else value


def _detail(row: Row, field: str) -> str:
    value = getattr(row, field)
    if not isinstance(value, Sum):
        return count(value)
    if field == "media_ms" and value.amount is not None:
        value = Sum(amount=value.amount / 1000, missing=value.missing)
    return summed(value)


def _name(row: Row) -> str:
    if not row.group:
        return "  total"
    return f"  {plain(row.name or ('no key' if row.group == LOCAL else row.group))}"


def _unknown(total: Row) -> Iterator[str]:
    """Of how many calls what is not known, and what is known of calls that were not as asked."""
    if total.cost.missing:
        yield f"cost: not known of {many(total.cost.missing, 'call')}: no price or no tokens"
    if tokens := max(total.prompt_tokens.missing, total.completion_tokens.missing):
        yield f"tokens: not known of {many(tokens, 'call')}"
    if total.estimates:
        calls = many(total.estimates, "call")
        yield f"{dollars(total.estimated)} of the cost is estimated: {calls} ended unreported"
    if total.mismatches:
        yield f"another model than was asked for answered {many(total.mismatches, 'call')}"


def _notes(spent: Spend) -> Iterator[str]:
    """The money that stands in no row."""
    total = spent.total
    if spent.rows and spent.rows[0].paid is None:
        yield f"callers paid {dollars(total.paid)}, a margin of {dollars(total.margin)}"
    if total.overrun:
        yield f"{dollars(total.overrun)} is beyond what callers pay for: the operator's loss"
    if spent.open.count:
        yield f"{many(spent.open.count, 'hold')} open now: {_held(spent.open)}"
    if spent.lost.count:
        lost = many(spent.lost.count, "hold")
        yield f"{lost} expired with the process, which counts as spent: {_held(spent.lost)}"
    for why, what in _MOVED.items():
        if amount := spent.moved.get(why):
            yield f"{dollars(amount)} {what}, which is no part of these rows"


_MOVED = {
    "deposit": "was paid in",
    "payout": "was paid out to owners",
    "refund": "was given back",
    "adjust": "was put right",
}


def _held(held: Holds) -> str:
    tokens = many(held.tokens, "token")
    return f"{dollars(held.money)} and {tokens}" if held.tokens else dollars(held.money)
