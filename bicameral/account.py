"""A decision as a person reads it on a terminal: expected and had, step by step, and why."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import zip_longest

from rich.console import Console
from rich.table import Table
from rich.text import Text

from bicameral.decision import Asked, Considered, Decision
from bicameral.journal.store import Entry

_EXPECTED = ("right", "cost", "s")
_HAD = ("cost", "s", "sure", "said", "share")
_LONGEST = 200


def show(console: Console, entry: Entry) -> None:
    """The whole account of an answer: the outer mind's decision, then those inside it."""
    when = datetime.fromtimestamp(entry.at, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    rated = "" if entry.score is None else f", rated {entry.score:g}"
    console.print(f"{entry.id}  {when}{rated}", markup=False)
    if entry.prompt is not None:
        console.print(f"question: {plain(entry.prompt)[:_LONGEST]}", markup=False)
    for decision in entry.decisions:
        console.print()
        console.print(Text(f"{decision.policy} of {plain(decision.mind)}", style="bold"))
        show_members(console, decision)
        for number, turn in enumerate(decision.turns, start=1):
            final = ", the answer itself" if turn.final else ""
            why = f": {plain(turn.why)}" if turn.why else ""
            asked = " + ".join(map(plain, turn.models))
            console.print(f"  {number}. asked {asked}{final}{why}", markup=False)
        console.print(f"  {_verdict(decision)}", markup=False)


def show_members(console: Console, decision: Decision) -> None:
    """A row a member: what was expected of it, what it did, its share in the answer."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("\n  member")
    for group, columns in (("expected", _EXPECTED), ("was", _HAD)):
        for column in columns:
            table.add_column(f"{group if column == columns[0] else ''}\n{column}", justify="right")
    for row in _rows(decision):
        table.add_row(*row)
    console.print(table)
    for member in decision.considered:
        if member.refused is not None:
            line = f"  {plain(member.model)} left out: {plain(member.refused)}"
            console.print(line, style="dim", markup=False)


def plain(text: str) -> str:
    """Without what a terminal would obey."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


def _rows(decision: Decision) -> Iterator[tuple[Text, ...]]:
    """Members in the config's order, one row for each time they were asked; then others asked."""
    expected = [c for c in decision.considered if c.refused is None]
    names = {c.model for c in expected}
    for member in expected:
        asked = [a for a in decision.asked if a.model == member.model]
        for first, one in zip_longest([member], asked):
            yield _row(decision, member.model, first, one)
    for one in decision.asked:
        if one.model not in names:
            yield _row(decision, one.model, None, one)


def _row(
    decision: Decision,
    name: str,
    expected: Considered | None,
    asked: Asked | None,
) -> tuple[Text, ...]:
    spoke = asked is not None and asked.share > 0 and name == decision.by
    arm = " (together)" if expected and expected.arm else ""
    cells = [f"{'✓' if spoke else ' '} {plain(name)}{arm}"]
    cells += _expectation(expected) if expected else ["", "", ""]
    cells += _outcome(decision, asked) if asked else [""] * 5
    return tuple(Text(cell, style="red" if asked and asked.error else "") for cell in cells)


def _expectation(expected: Considered) -> list[str]:
    if expected.quality is None:
        return ["", "", ""]
    known = "" if expected.known in (None, 0.0, 1.0) else f" ({expected.known:.0%} known)"
    return [f"{expected.quality:.2f}{known}", dollars(expected.cost), _number(expected.seconds)]


def _outcome(decision: Decision, asked: Asked) -> list[str]:
    checked = {True: " passed", False: " failed", None: ""}[asked.checked]
    return [
        dollars(asked.cost),
        _number(asked.seconds),
        _number(asked.confidence),
        f"{_said(decision, asked)}{checked}{' (cut)' if asked.cut else ''}",
        f"{asked.share:.0%}" if asked.share else "",
    ]


def _said(decision: Decision, asked: Asked) -> str:
    """A, B, C… for answers that say different things, in the order they came."""
    if asked.error is not None:
        return plain(asked.error)
    if asked.key is not None:
        keys = list(dict.fromkeys(a.key for a in decision.asked if a.key is not None))
        place = keys.index(asked.key)
        return chr(ord("A") + place) if place < 26 else f"#{place + 1}"
    streamed = decision.turns[-1].final and asked is decision.asked[-1]
    return "streamed" if streamed else "nothing"


def _verdict(decision: Decision) -> str:
    right = "" if decision.quality is None else f", {decision.quality:.2f} likely right"
    return (
        f"{plain(decision.by)} spoke{right}; {dollars(decision.cost)}, "
        f"{_number(decision.seconds)} s in all; {plain(decision.why)}"
    )


def dollars(cost: int | None) -> str:
    """Nano-dollars as dollars; ? for what is not known."""
    return "?" if cost is None else f"${cost / 1e9:.6f}"


def _number(value: float | None) -> str:
    return "?" if value is None else f"{value:.2f}"
