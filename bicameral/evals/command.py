"""`bicameral eval`: is a mind better than its members, on outcomes that were recorded?"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from bicameral import terminal
from bicameral.config import nano, nearest
from bicameral.errors import RequestError

if TYPE_CHECKING:
    from bicameral.evals.study import Study

_POLICIES = ("route", "cascade", "vote", "auto")


def evaluate(
    table: Annotated[Path, typer.Argument(help="Recorded outcomes: .parquet, .csv or .jsonl.")],
    policy: Annotated[
        list[str] | None, typer.Option(help="route, cascade, vote or auto; may be repeated.")
    ] = None,
    worth: Annotated[
        list[str] | None,
        typer.Option(help="What a right answer is worth in dollars; repeated: a curve."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="A folder for report.md and frontier.png.")
    ] = None,
    floor: Annotated[
        float | None,
        typer.Option(help="May it be promised not to be worse by more: 0.02 is two points."),
    ] = None,
    sure: Annotated[float, typer.Option(help="How sure the promise must be.")] = 0.95,
    folds: Annotated[int, typer.Option(min=2, help="Folds by the prompts' wording.")] = 5,
    seed: Annotated[int, typer.Option(help="Of folds and intervals.")] = 0,
) -> None:
    """Compare learned minds with their members on recorded outcomes, without asking anyone.

    TABLE has a row per prompt and member. Columns: prompt_id, prompt, model, score (0 to 1); and
    if known cost (dollars), seconds, tokens_in, tokens_out, category, answer (extracted), gold,
    confidence, checked. What is learned comes from other folds than the prompt it answers.
    """
    policies = [_policy(name) for name in policy or ["auto"]]
    worths: list[int | None] = [_worth(dollars) for dollars in worth or []]
    if "cascade" in policies and not worths:
        # Without it a cascade asks in the table's order until one sounds sure.
        raise RequestError("--policy cascade: say with --worth what a right answer is worth")
    if not (0 < sure < 1 and (floor is None or 0 < floor < 1)):
        raise RequestError("--floor and --sure: are between 0 and 1, as in --floor 0.02")
    from bicameral.left.table import check_learnable, load

    with terminal.waiting(f"reading {table}…"):
        outcomes = load(table)
    if out is not None:
        _folder(out)

    from bicameral.evals.study import study
    from bicameral.left.learn import LEAST, learn

    check_learnable(outcomes, -(-LEAST * folds // (folds - 1)))
    with _telling() as said:
        done = study(
            outcomes,
            lambda train: learn(train, seed=seed),
            policies,
            worths or [None],
            folds=folds,
            seed=seed,
            said=said,
        )
    _show(done, out, [] if floor is None else _floors(done, floor, sure))


def _floors(done: Study, eps: float, sure: float) -> list[str]:
    from bicameral.evals.floors import floors, told

    return [told(each, sure) for each in floors(done, eps=eps, sure=sure)]


@contextmanager
def _telling() -> Iterator[Callable[[str], None]]:
    """What is being done, beside a spinner on a terminal; nothing elsewhere."""
    if not terminal.err.is_terminal:
        yield lambda text: None
        return
    with terminal.err.status("") as status:
        yield lambda text: status.update(escape(text))


def _show(done: Study, out: Path | None, floors: Sequence[str]) -> None:
    from bicameral.evals.findings import findings
    from bicameral.evals.frontier import draw
    from bicameral.evals.frontier import markdown as frontier
    from bicameral.evals.report import lines, markdown, shown
    from bicameral.evals.study import points

    report, said = lines(done.runs, seed=done.seed), [*findings(done), *floors]
    wide = terminal.out.is_terminal
    terminal.out.print(shown(report) if wide else markdown(report), markup=False)
    for finding in said:
        terminal.out.print(finding, markup=False)
    if out is None:
        return
    spots = points(done)
    text = "\n".join([markdown(report), *(f"- {finding}" for finding in said), "", frontier(spots)])
    (out / "report.md").write_text(text, encoding="utf-8")
    written = [out / "report.md"]
    if any(spot.cost > 0 for spot in spots):
        draw(spots, out / "frontier.png")
        written.append(out / "frontier.png")
    for path in written:
        terminal.err.print(str(path), markup=False)


def _folder(path: Path) -> None:
    """Make it now rather than fail after the work."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RequestError(f"--out {path}: is no folder that can be made ({error.strerror})") from (
            error
        )


def _policy(name: str) -> str:
    if name not in _POLICIES:
        raise RequestError(f"--policy {name}: {nearest(name, _POLICIES)}")
    return name


def _worth(dollars: str) -> int:
    try:
        return nano(dollars)
    except ValueError as error:
        raise RequestError(f"--worth: {error}") from error
