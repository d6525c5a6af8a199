"""A mind beside each of its members alone, as a person reads it; a loss is called a loss."""

from __future__ import annotations

from collections.abc import Iterator

from rich.table import Table
from rich.text import Text

from bicameral import terminal
from bicameral.account import plain
from bicameral.ledger.alternative import FEWEST, Alone, Alternative, Quality
from bicameral.ledger_cli.figures import count, dollars, many, places, say, table_of

_ESTIMATED = (
    "estimated: the member's price for the prompt as others counted it, and for as many tokens as "
    "it answers on average"
)

Line = tuple[str, str]
"""What is said, and its style."""


def show_alternative(mind: Alternative, *, tabled: bool) -> None:
    """Members, savings and what they rest on; `tabled`: qualities are those of a table."""
    show = terminal.out.print
    show(Text(f"{plain(mind.mind)}, or one of its members alone", style="bold"))
    if not mind.requests:
        say("of no request it is known what it cost, so there is nothing to compare")
        return
    behind = places(n for each in mind.alone for n in (each.cost, each.saved))
    cost, paid = dollars(mind.cost, behind), dollars(mind.paid, behind)
    say(f"{many(mind.requests, 'request')} cost {cost}, for which callers paid {paid}")
    show(_table(mind, behind))
    for line, style in (*_verdicts(mind, behind), *_quality(mind, tabled), *_doubts(mind)):
        say(line, style)


def _table(mind: Alternative, behind: int) -> Table:
    heads = ("alone\ncosts", "saved\nby the mind", "\nright", "own\ncalls", "esti-\nmated")
    table = table_of("\n  member", *heads)
    for each in mind.alone:
        mark = "✓" if each.member == mind.best else " "
        table.add_row(
            Text(f"{mark} {plain(each.member)}"),
            dollars(each.cost if each.compared else None, behind),
            Text(_saved(each, behind), style="red" if (each.saved or 0) < 0 else ""),
            _percent(each.quality),
            count(each.own),
            count(each.estimated),
        )
    return table


def _saved(alone: Alone, behind: int) -> str:
    if alone.saved is None:
        return "?"
    part = "" if alone.part is None else f" {float(100 * alone.part):+.1f} %"
    return dollars(alone.saved, behind) + part


def _percent(quality: Quality | None) -> str:
    return "?" if quality is None else f"{100 * quality.mean:.1f} %"


def _verdicts(mind: Alternative, behind: int) -> Iterator[Line]:
    if not mind.best:
        for each in mind.alone:
            yield _against(mind, each, "", behind)
        return
    yield _against(mind, mind.of(mind.best), ", the best single member", behind)
    if mind.cheapest != mind.best:
        cheap = ", the cheapest about as good"
        yield _against(mind, mind.of(mind.cheapest), cheap, behind)


def _against(mind: Alternative, alone: Alone, what: str, behind: int) -> Line:
    """The saving in words: one that is negative is called what it is."""
    which, name = f"{plain(alone.member)}{what}", plain(mind.mind)
    if alone.saved is None:
        return f"what {which}{',' if what else ''} would have cost is not known", "dim"
    if alone.saved == 0:
        return f"{name} cost as much as asking only {which}", ""
    than, style = ("more", "red") if alone.saved < 0 else ("less", "green")
    amount = dollars(abs(alone.saved), behind)
    part = "" if alone.part is None else f" ({abs(float(100 * alone.part)):.1f} %)"
    return f"{name} cost {amount}{part} {than} than asking only {which}", style


def _quality(mind: Alternative, tabled: bool) -> Iterator[Line]:
    """Where it comes from who is right how often, or that it is not known."""
    if tabled:
        rows = max((each.quality.count for each in mind.alone if each.quality), default=0)
        known = f"right: on the {rows:,} prompts of the table" if rows else ""
        unknown = "quality: unknown, the table has no outcomes of these members"
    else:
        rated = [
            f"{each.quality.count} {plain(each.member)}" for each in mind.alone if each.quality
        ]
        known = f"right: by ratings of answers that callers saw: {', '.join(rated)}"
        unknown = f"quality: unknown until {FEWEST} answers of a member are rated, or with --table"
    if mind.best or (tabled and known):
        yield known, "dim"
    else:
        yield unknown, "dim"
    if mind.quality is not None:
        many_ = many(mind.quality.count, "prompt" if tabled else "rating")
        yield f"{plain(mind.mind)} itself: {_percent(mind.quality)} right, by {many_}", "dim"
    elif mind.best:
        yield f"{plain(mind.mind)} itself: not known; see `bicameral eval`", "dim"


def _doubts(mind: Alternative) -> Iterator[Line]:
    """What the figures leave out or take on trust."""
    if any(each.estimated for each in mind.alone):
        yield _ESTIMATED, "dim"
    for each in mind.alone:
        name = plain(each.member)
        if each.guessed:
            yield f"{name} never finished an answer: the average is that of all members", "dim"
        if each.failed:
            yield f"{name} failed in {many(each.failed, 'request')}: alone, no answer", "dim"
        if each.unknown:
            left = many(each.unknown, "request")
            yield f"{name} is not compared in {left}: its cost there is not known", "dim"
    if mind.left_out:
        yield f"left out: {many(mind.left_out, 'request')} whose cost is not known", "dim"
