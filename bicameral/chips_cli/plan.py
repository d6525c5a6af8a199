"""The command `plan`: which chip should run which part, what it will cost, and why."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from textwrap import wrap
from typing import Annotated

import msgspec
import typer
from rich.table import Table
from rich.text import Text

from bicameral import terminal
from bicameral.chips.plan import describe, solve
from bicameral.chips.planned import Alternative, Figure, Group, Plan, Seen
from bicameral.chips.simulate import Simulated, simulate
from bicameral.chips.workload_file import load
from bicameral.ledger_cli.figures import dollars, say, table_of


def plan(
    workload: Annotated[Path, typer.Argument(help="The workload, a TOML file.")],
    json: Annotated[bool, typer.Option("--json", help="All of it, as one line of JSON.")] = False,
    play: Annotated[
        bool, typer.Option("--simulate", help="Play it through, to check the queues.")
    ] = False,
    seed: Annotated[int, typer.Option(help="Of the simulation.")] = 0,
) -> None:
    """Plan which chips run which models: speed, cost and energy with their bands, and why."""
    work = load(workload)
    with terminal.waiting("planning…"):
        solved = solve(work)
        found = describe(work, solved)
        played = simulate(work, solved.chosen, seed=seed) if play else None
    if json:
        sys.stdout.write(as_json(found, played, seed) + "\n")
        return
    show(found)
    if played is not None:
        show_simulated(played, work.goal.percentile, seed)


def as_json(found: Plan, played: Sequence[Simulated] | None, seed: int) -> str:
    """The whole plan, and the simulation if there is one."""
    whole = {"plan": found}
    if played is None:
        return msgspec.json.encode(whole).decode()
    return msgspec.json.encode(whole | {"simulated": {"seed": seed, "groups": played}}).decode()


def show(found: Plan) -> None:
    """The plan as a person reads it, in 80 columns."""
    _heading(f"{found.chosen}: {found.chips} chips for {_asked(found)} requests an hour")
    terminal.out.print(_groups(found.groups))
    _heading(f"what who asks will see; seconds at p{found.goal.percentile:g}, milliseconds a token")
    terminal.out.print(_seen(found.seen))
    for line in _totals(found):
        say(line)
    _heading("for 1,000 requests, and other ways")
    terminal.out.print(_alternatives(found))
    _heading("why")
    for of, whys in _reasons(found):
        say(of, "bold")
        for why in whys:
            _point(why)
    if found.notes:
        _heading("notes")
    for note in found.notes:
        _point(note)


def _heading(text: str) -> None:
    terminal.out.print(Text(text, style="bold"))


def _point(text: str) -> None:
    """A line of a list, folded where the terminal ends."""
    for i, part in enumerate(wrap(text, max(20, terminal.out.width - 4))):
        terminal.out.print(Text(f"  {'-' if i == 0 else ' '} {part}"))


def _asked(found: Plan) -> str:
    return f"{found.load.requests_per_hour:,.0f}"


def _groups(groups: Sequence[Group]) -> Table:
    table = table_of("model", "on", "layout", "replicas", "chips", "at once", "busy", "GB a chip")
    for each in groups:
        table.add_row(
            each.model,
            each.pool,
            each.layout,
            f"{each.replicas:,}",
            f"{each.chips:,}",
            f"{each.places:,}",
            f"{each.busy:.0%}",
            _memory(each),
        )
    return table


def _memory(group: Group) -> str:
    """Weights and cache when full, of what there is."""
    if group.weights_gb is None or group.cache_gb is None or group.usable_gb is None:
        return "?"
    return f"{group.weights_gb + group.cache_gb:.0f} of {group.usable_gb:.0f}"


def _seen(answers: Sequence[Seen]) -> Table:
    table = table_of("model", "first token", "band", "a token", "band", "known")
    for each in answers:
        table.add_row(
            each.model,
            f"{each.first_at.value:.2f}",
            _band(each.first_at, 1, 2),
            f"{each.token_at.value * 1e3:.1f}",
            _band(each.token_at, 1e3, 1),
            each.token_at.way,
        )
    return table


def _band(figure: Figure, scale: float, places: int) -> str:
    if figure.low is None or figure.high is None:
        return "-"
    return f"{figure.low * scale:,.{places}f} to {figure.high * scale:,.{places}f}"


def _totals(found: Plan) -> Iterator[str]:
    """Load, cost and energy, each with its band and how it is known."""
    able = found.requests
    yield f"takes {able.value:,.0f} requests an hour ({_band(able, 1, 0)}; {able.way})"
    if found.cost is None:
        yield "cost of 1,000 requests: ?, as not all prices are given"
    else:
        band = ""
        if found.cost.low is not None and found.cost.high is not None:
            band = f"{dollars(found.cost.low, 4)} to {dollars(found.cost.high, 4)}; "
        cost = dollars(found.cost.value, 4)
        yield f"cost of 1,000 requests: {cost} ({band}{found.cost.way})"
    if found.energy is None:
        yield f"energy of 1,000 requests: ?, {found.energy_trust}"
    else:
        yield f"energy of 1,000 requests: {found.energy.value / 1e3:,.1f} kJ {found.energy_trust}"
    for cut in found.cuts:
        each = "?" if cut.bytes_each is None else f"{cut.bytes_each / 1e6:,.3g} MB"
        whole = "?" if cut.bytes_s is None else f"{cut.bytes_s / 1e9:,.3g} GB/s"
        yield f"cut: {cut.what}: {each} a request, {whole} in all"
    if found.gap:
        yield f"a better plan could be less by {found.gap:.1%} at most"


def _alternatives(found: Plan) -> Table:
    table = table_of("", "chips", "cost", "kJ at most", "s each")
    table.columns[0].no_wrap = True
    table.add_column("", overflow="fold")
    for each in found.alternatives:
        table.add_row(*_alternative(each, each.name == found.chosen))
    return table


def _alternative(each: Alternative, chosen: bool) -> tuple[str, ...]:
    name = f"{'✓' if chosen else ' '} {each.name}"
    if not each.fits:
        return name, "", "", "", "", each.note
    return (
        name,
        f"{each.chips:,}",
        dollars(each.cost, 4),
        "?" if each.energy is None else f"{each.energy / 1e3:,.1f}",
        "?" if each.seconds is None else f"{each.seconds:.2f}",
        each.note,
    )


def _reasons(found: Plan) -> Iterator[tuple[str, list[str]]]:
    for of in dict.fromkeys(reason.of for reason in found.reasons):
        yield of, [reason.why for reason in found.reasons if reason.of == of]


def show_simulated(played: Sequence[Simulated], at: float, seed: int) -> None:
    """What was played beside what was planned, and where the plan's queues do not hold."""
    _heading(f"simulated (seed {seed}) beside the plan at p{at:g}")
    table = table_of("model", "on", "first p50", "p90", "p99", "plan", "token p90", "plan", "busy")
    for each in played:
        table.add_row(each.model, each.pool, *_played(each))
    terminal.out.print(table)
    for each in played:
        for line in each.fails:
            say(f"{each.model} on {each.pool}: the plan's queue does not hold: {line}", "red")
    if not any(each.fails for each in played):
        say("the queues are as planned", "green")
    if any(each.played < each.replicas for each in played):
        say("of alike replicas at most 4 are played, which stand for all", "dim")


def _played(each: Simulated) -> tuple[str, ...]:
    token = "-" if each.token is None else f"{each.token.p90 * 1e3:.1f}"
    planned = "-" if each.planned_token is None else f"{each.planned_token * 1e3:.1f}"
    first = each.first
    return (
        *(f"{seconds:.2f}" for seconds in (first.p50, first.p90, first.p99, each.planned_first)),
        token,
        planned,
        f"{each.busy:.0%}",
    )
