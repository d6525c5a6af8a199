"""A bake-off as a person reads it: tables, remarks and verdicts in Markdown; two compared."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from bicameral.chips.bakeoff import Bakeoff
from bicameral.chips.published import Claim, claims, folder, matching
from bicameral.chips.resample import Interval
from bicameral.chips.summary import Cell, cells, qualities, remarks, seen
from bicameral.chips.verdict import apart, told
from bicameral.chips_cli.modelled import modelled
from bicameral.errors import ConfigError


def report(bakeoff: Bakeoff, data: Path | None = None) -> str:
    """Everything, as Markdown; published results from `data` in a table of their own."""
    return "\n".join(
        [
            *_heading(bakeoff),
            "",
            *_contestants(bakeoff),
            "",
            *_measured(bakeoff),
            "",
            *_quality(bakeoff),
            *_remarks(bakeoff),
            "Verdict",
            "",
            *(f"{'  ' if line.startswith(' ') else ''}- {line.strip()}" for line in told(bakeoff)),
            *_published(bakeoff, data),
            "",
            *modelled(bakeoff.workload),
            "",
        ]
    )


def _heading(bakeoff: Bakeoff) -> Iterator[str]:
    machine, workload = bakeoff.machine, bakeoff.workload
    memory = f", {machine.memory_gb:g} GB" if machine.memory_gb else ""
    loads = (x[0] if x else None for x in (machine.load_before, machine.load_after))
    before, after = ("?" if x is None else f"{x:g}" for x in loads)
    yield f"{workload.name}, {bakeoff.made}"
    yield ""
    yield (
        f"{machine.cpu}, {machine.cores} cores{memory}, {machine.system}, Python {machine.python}; "
        f"load average {before} before, {after} after."
    )
    yield ", ".join(f"{name} {said}" for name, said in machine.packages.items()) + "."
    load = workload.load
    kinds = ", ".join(f"{prompt.name} ({prompt.tokens} tokens)" for prompt in load.prompts)
    yield (
        f"{workload.repeats} repeats of {load.count} requests at each rate, open loop; prompts "
        f"{kinds}; at most {load.max_tokens} tokens; deadline {load.deadline:g} s."
    )


def _contestants(bakeoff: Bakeoff) -> Iterator[str]:
    yield "| contestant | settings | engine | chip | threads | serves |"
    yield "|---|---|---|---|---|---|"
    for each in bakeoff.found:
        threads = "" if each.threads is None else str(each.threads)
        serves = each.served or each.serves or "not said"
        left = " (left out)" if each.left_out else ""
        cells_ = (each.settings, each.engine, each.chip, threads, serves)
        yield f"| {each.name}{left} | {' | '.join(map(_plain, cells_))} |"


def _measured(bakeoff: Bakeoff) -> Iterator[str]:
    """Latency from when a request was due."""
    yield (
        "*measured* | rate /s | failed | latency p50 s | p95 | p99 | first token | s a token "
        "| tokens/s | in time % | in time /s | J a request |"
    ).join(("| ", ""))
    yield "|---" * 12 + "|"
    for cell in cells(bakeoff):
        yield f"| {' | '.join(_cells(cell))} |"


def _cells(cell: Cell) -> Iterator[str]:
    yield _plain(cell.contestant)
    yield f"{cell.rate:g}"
    yield f"{cell.failed} of {cell.requests}"
    yield _interval(cell.p50)
    yield _interval(cell.p95)
    yield _number(cell.p99, ".2f", "failed")
    yield _number(cell.first, ".2f", "failed")
    yield _number(cell.each, ".4f")
    yield _number(cell.tokens_rate, ".1f")
    yield _interval(cell.good, 100, ".0f")
    yield f"{cell.good_rate:.2f}"
    if cell.joules is None:
        yield "?"
    else:
        yield f"{cell.joules / cell.requests:.2f} ({cell.meter})"


def _quality(bakeoff: Bakeoff) -> Iterator[str]:
    rows = list(qualities(bakeoff))
    if not rows:
        yield "No tasks were asked: who answers wrong is not told apart."
        yield ""
        return
    kinds = sorted({kind for row in rows for kind in row.kinds})
    yield f"| *measured* | right % | of | {' | '.join(kinds)} |"
    yield "|---" * (3 + len(kinds)) + "|"
    for row in rows:
        each = (f"{100 * row.kinds.get(kind, 0):.0f}" for kind in kinds)
        right = _interval(row.right, 100, ".0f")
        yield f"| {_plain(row.contestant)} | {right} | {row.asked} | {' | '.join(each)} |"
    yield ""


def _remarks(bakeoff: Bakeoff) -> Iterator[str]:
    found = list(remarks(bakeoff))
    if found:
        yield from ("Remarks", "", *(f"- {remark}" for remark in found), "")


def _published(bakeoff: Bakeoff, data: Path | None) -> Iterator[str]:
    wanted = bakeoff.workload.published
    if wanted is None:
        return
    yield ""
    try:
        found, left = claims(folder(data))
    except ConfigError as error:
        yield f"No published results: {error}"
        return
    chosen = list(matching(found, wanted.models, wanted.chips))
    yield from table(chosen[: wanted.most])
    if len(chosen) > wanted.most:
        yield f"{len(chosen) - wanted.most} more are not shown (published.most)."
    yield f"Left out: {', '.join(f'{count} {why}' for why, count in left.items())}."


def table(found: Sequence[Claim]) -> Iterator[str]:
    """What others say: another load, another day, another engine; never compared with ours."""
    yield "| *published*, not by us | model | setting | value | per | source |"
    yield "|---" * 6 + "|"
    for claim in found:
        value = f"{claim.value:,.4g} {claim.unit}"
        told_ = (claim.chip, claim.model, claim.setting, value, claim.per, claim.source)
        yield f"| {' | '.join(map(_plain, told_))} |"


def compared(one: Bakeoff, other: Bakeoff) -> str:
    """Two machines' files: each contestant of both, there against here."""
    lines = [
        f"A: {one.workload.name}, {one.made}, {one.machine.cpu}, {one.machine.cores} cores",
        f"B: {other.workload.name}, {other.made}, {other.machine.cpu}, {other.machine.cores} cores",
        *_different(one, other),
        "",
        "| contestant | median latency, A / B | goodput, A - B, points | |",
        "|---|---|---|---|",
    ]
    ours, theirs = seen(one), seen(other)
    both = [name for name in ours if name in theirs]
    if not both:
        raise ConfigError("the two files have no contestant in common: name them alike")
    for pair in apart({name: (ours[name], theirs[name]) for name in both}, one.workload.seed):
        good, slow = pair.goodput, pair.latency
        said = f"{pair.better} is better" if pair.better else "no significant difference"
        lines.append(
            f"| {_plain(pair.name)} | {_interval(slow)} | {_interval(good, 100, '+.1f')} | {said} |"
        )
    return "\n".join([*lines, ""])


def _different(one: Bakeoff, other: Bakeoff) -> Iterator[str]:
    """What keeps the two from being the same experiment."""
    for key in ("load", "tasks", "seed", "repeats"):
        if getattr(one.workload, key) != getattr(other.workload, key):
            yield f"NOT the same workload: [{key}] differs"
    members = {each.name: each.member for each in other.workload.contestants}
    for each in one.workload.contestants:
        if each.name in members and members[each.name] != each.member:
            yield f"NOT the same member: {each.name}"
    for name, said in one.machine.packages.items():
        there = other.machine.packages.get(name)
        if there != said:
            yield f"other version: {name} {said} in A, {there or 'none'} in B"


def _plain(text: str) -> str:
    """For a cell: no bar, no line break."""
    return " ".join(text.replace("|", "/").split())


def _interval(value: Interval, scale: float = 1.0, form: str = ".2f") -> str:
    if value.value is None:
        return "failed"
    ends = ("∞" if x is None else format(scale * x, form) for x in (value.low, value.high))
    return f"{format(scale * value.value, form)} [{', '.join(ends)}]"


def _number(value: float | None, form: str, none: str = "?") -> str:
    return none if value is None else format(value, form)
