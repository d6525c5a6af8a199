"""What the CLI shows: answers as they stream, tables, progress bars."""

from __future__ import annotations

import sys
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing, contextmanager

import msgspec
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TransferSpeedColumn
from rich.table import Table

from bicameral.model import Fold, Model
from bicameral.probe import Probe
from bicameral.types import Answer, Call, Card, Delta, Event, Percept, Text

out = Console(highlight=False, soft_wrap=True)
err = Console(stderr=True, highlight=False, soft_wrap=True)


@contextmanager
def waiting(what: str) -> Iterator[None]:
    """A spinner on a terminal, nothing elsewhere."""
    if not err.is_terminal:
        yield
        return
    with err.status(what):
        yield


async def show_stream(events: AsyncGenerator[Event], name: str, *, quiet: bool = False) -> Answer:
    """Write the text as it comes, unless `quiet`; a spinner stands in until the first word."""
    fold = Fold(name)
    spinner = err.status("thinking…") if err.is_terminal else None
    if spinner:
        spinner.start()
    try:
        async with aclosing(events):
            async for event in events:
                fold.add(event)
                said = _said(event)
                if said and not quiet:
                    if spinner:
                        spinner.stop()
                    sys.stdout.write(said)
                    sys.stdout.flush()
    finally:
        if spinner:
            spinner.stop()
    answer = fold.answer()
    if not quiet and not answer.percepts:
        sys.stdout.write("\n")
    return answer


def _said(event: Event) -> str:
    """What there is to read in an event; a percept has a line of its own."""
    match event:
        case Delta(part=Text(text=text)):
            return text
        case Delta(part=Percept() as percept):
            return f"{_percept(percept)}\n"
    return ""


def _percept(percept: Percept) -> str:
    where = [f"{percept.confidence:.2f}" if percept.confidence is not None else ""]
    if percept.box is not None:
        where.append("at " + " ".join(f"{share:.1%}" for share in percept.box))
    if percept.start is not None:
        end = "" if percept.end is None else f"-{percept.end:.2f}"
        where.append(f"{percept.start:.2f}{end} s")
    return f"{percept.kind:8}{percept.text}  [{', '.join(part for part in where if part)}]"


def show_calls(answer: Answer) -> None:
    """Who spoke, how fast and for how much, and why, on stderr."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in ("member", "tokens in", "out", "tokens/s", "first", "seconds", "cost"):
        table.add_column(column, justify="left" if column == "member" else "right")
    for call in answer.calls:
        mark = "✓" if call.model == answer.by and call.error is None else " "
        table.add_row(f"{mark} {call.model}", *_figures(call))
    err.print(table)
    for call in answer.calls:
        if call.error:
            err.print(f"  {call.model} failed: {call.error}", style="red")
    err.print(f"  {answer.why} ({answer.seconds:.2f} s in all)", style="dim")


def _figures(call: Call) -> tuple[str, ...]:
    usage = call.usage
    said, first, total = usage.completion_tokens, call.first_token, call.seconds
    rate = None
    # The first token is the prompt's work, so the rate counts those after it.
    if said and said > 1 and first is not None and total is not None and total > first:
        rate = (said - 1) / (total - first)
    cost = None if call.cost is None else f"${call.cost / 1e9:.6f}"
    return (
        _number(usage.prompt_tokens),
        _number(said),
        _number(rate, ".1f"),
        _number(first, ".2f"),
        _number(total, ".2f"),
        cost or "?",
    )


def _number(value: float | None, form: str = "") -> str:
    return "?" if value is None else format(value, form)


def as_json(answer: Answer) -> str:
    """One line of JSON: the answer, what it consumed and who was asked."""
    body = {
        "text": answer.text,
        "reasoning": answer.reasoning or None,
        "percepts": answer.percepts or None,
        "finish_reason": answer.reason,
        "model": answer.model,
        "by": answer.by,
        "seconds": round(answer.seconds, 3),
        "usage": answer.usage,
        "cost_nano_dollars": answer.cost,
        "calls": answer.calls,
        "why": answer.why,
        "decisions": answer.decisions,
    }
    return msgspec.json.encode(body).decode()


def show_models(models: Mapping[str, Model], probes: Sequence[Probe], default: str) -> None:
    """One row a model: what it is, where it runs, whether it answers."""
    answers = {probe.name: probe for probe in probes}
    table = Table(box=None, pad_edge=False, header_style="dim")
    columns = ("model", "engine", "serves", "takes", "context", "chip", "reach")
    for column in (*columns, *(("answers",) if probes else ())):
        table.add_column(column, overflow="fold")
    for name, model in models.items():
        row = _row(model.card, "*" if name == default else " ")
        table.add_row(*row, *([_verdict(answers.get(name))] if probes else []))
    out.print(table)


def _row(card: Card, mark: str) -> tuple[str, ...]:
    return (
        f"{mark} {card.name}",
        card.engine,
        " + ".join(card.members) or card.serves or "?",
        " ".join(sorted(card.accepts)),
        _number(card.context),
        card.chip or ("" if card.members else "?"),
        card.reach.name.lower(),
    )


def print_cards(models: Mapping[str, Model], probes: Sequence[Probe]) -> None:
    """Each card and how its probe went, one JSON object a line."""
    answers = {probe.name: probe for probe in probes}
    for name, model in models.items():
        row = {"card": model.card, "probe": answers.get(name)}
        sys.stdout.write(msgspec.json.encode(row, order="sorted").decode() + "\n")


def _verdict(probe: Probe | None) -> str:
    if probe is None:
        return ""
    if probe.error is not None:
        return f"[red]no: {probe.error}[/red]"
    return f"[green]yes[/green], {probe.seconds:.2f} s"


@contextmanager
def download(name: str) -> Iterator[Callable[[int, int], None]]:
    """A progress bar to feed with (bytes done, bytes in all); lines when there is no terminal."""
    if not err.is_terminal:
        yield _in_lines(name)
        return
    columns = ("[progress.description]{task.description}", BarColumn(), DownloadColumn())
    with Progress(*columns, TransferSpeedColumn(), console=err) as progress:
        task = progress.add_task(name)
        yield lambda done, total: progress.update(task, completed=done, total=total)


def _in_lines(name: str) -> Callable[[int, int], None]:
    tenth = -1

    def report(done: int, total: int) -> None:
        nonlocal tenth
        now = 10 * done // total if total else 0
        if now > tenth:
            tenth = now
            err.print(f"{name}: {done / 2**20:.0f} of {total / 2**20:.0f} MiB")

    return report
