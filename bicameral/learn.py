"""`bicameral learn`: from recorded outcomes, or from rated answers, to a file that minds use."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from bicameral import terminal
from bicameral.errors import ConfigError, RequestError
from bicameral.explain import ConfigPath, journal

if TYPE_CHECKING:
    from bicameral.left.learned import Learned
    from bicameral.left.outcomes import Outcomes

_EXTRA = "learning needs more libraries: pip install 'bicameral[learn]'"


def learn(
    table: Annotated[
        Path | None, typer.Argument(help="Recorded outcomes: .parquet, .csv or .jsonl.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="The file to write; none: only tell.")
    ] = None,
    from_journal: Annotated[
        bool, typer.Option("--from-journal", help="Learn from the answers that were rated.")
    ] = False,
    add: Annotated[
        Path | None,
        typer.Option("--add", help="A learned file: TABLE, of one new member, is added to it."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of folds and fits: the same gives the same.")] = 0,
    config: ConfigPath = None,
) -> None:
    """Learn who is good at what, and which combinations pay; `learned` in the config takes it.

    With --add nothing is learned again: 100 to 300 outcomes show where one new member stands.
    """
    if (table is None) != from_journal:
        raise RequestError("learn from a table, or --from-journal: give one of the two")
    if add is not None and from_journal:
        raise RequestError("--add: give a table of the new member's outcomes")
    try:
        outcomes = _rated(config) if table is None else _recorded(table)
        learned = _fitted(outcomes, seed) if add is None else _added(add, outcomes)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("bicameral"):
            raise
        raise ConfigError(_EXTRA) from error
    show(learned)
    if out is not None:
        learned.save(out)
        terminal.err.print(str(out), markup=False)


def _fitted(outcomes: Outcomes, seed: int) -> Learned:
    from bicameral.left.learn import learn as fit

    with terminal.waiting("learning…"):
        return fit(outcomes, seed=seed)


def _added(path: Path, outcomes: Outcomes) -> Learned:
    from bicameral.left.learned import Learned
    from bicameral.left.place import placed

    return placed(Learned.load(path), outcomes)


def _recorded(table: Path) -> Outcomes:
    from bicameral.left.table import load

    with terminal.waiting(f"reading {table}…"):
        return load(table)


def _rated(config: Path | None) -> Outcomes:
    from bicameral.journal.rated import outcomes

    with journal(config) as store:
        entries = list(store.rated())
    rated = outcomes(entries)
    blind = sum(entry.prompt is None for entry in entries)
    if blind:
        terminal.err.print(
            f"{blind} of {len(entries)} rated answers were kept without their question, so only "
            f"base rates can be learned from them; [journal] prompts = true keeps it",
            markup=False,
        )
    return rated


def show(learned: Learned) -> None:
    """What came out: how good each member is, and what together beats it."""
    terminal.out.print(f"learned from {learned.prompts} prompts", markup=False)
    table = _table("member", "right", "cost", "seconds", "outcomes")
    for m in sorted(learned.members, key=lambda m: -m.quality):
        table.add_row(m.name, f"{m.quality:.1%}", _dollars(m.cost), _s(m.seconds), str(m.outcomes))
    terminal.out.print(table)
    worth = [arm for arm in learned.arms if arm.admitted]
    if not worth:
        terminal.out.print("No combination beats, beyond doubt, the members that cost no more.")
        return
    table = _table("together", "right", "against the best", "cost", "seconds", "calls")
    for arm in sorted(worth, key=lambda arm: -arm.quality):
        gain = f"{100 * arm.gain:+.1f} ({100 * arm.low:+.1f} to {100 * arm.high:+.1f})"
        name = f"{arm.name}: {' > '.join(arm.order)}"
        figures = (_dollars(arm.cost), _s(arm.seconds), f"{arm.calls:.1f}")
        table.add_row(name, f"{arm.quality:.1%}", gain, *figures)
    terminal.out.print(table)


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in columns:
        table.add_column(column, justify="left" if column == columns[0] else "right")
    return table


def _dollars(cost: float | None) -> str:
    return "?" if cost is None else f"${cost:.6f}"


def _s(seconds: float | None) -> str:
    return "?" if seconds is None else f"{seconds:.2f}"
