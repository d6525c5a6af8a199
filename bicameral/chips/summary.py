"""What a bake-off's requests come to: percentiles, goodput, tokens, energy, quality; remarks."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from statistics import fmean, median

from msgspec import Struct

from bicameral.chips.bakeoff import Bakeoff, Block, Row
from bicameral.chips.resample import Interval, Plan, between, percentile, plans, share

_TIMES = 1000
_LATE = 0.05  # of the median latency: more lateness than that and the load was not open
_APART = 1.1  # how many times longer answers may be before latencies do not compare
_TELL_P95, _TELL_P99 = 20, 100  # requests, for one of them to lie beyond the percentile
_BUSY = 0.5  # of the cores that were taken before the bake-off began


class Seen:
    """The latencies of one contestant by (repeat, rate), in the order in which they were due."""

    def __init__(self, rows: Sequence[Row], deadline: float) -> None:
        blocks: dict[tuple[int, float], list[Row]] = {}
        for row in sorted(rows, key=lambda r: r.number):
            if row.rate is not None:
                blocks.setdefault((row.repeat, row.rate), []).append(row)
        self.deadline = deadline
        self.rows = blocks
        self._latency = {at: [row.latency for row in rows] for at, rows in blocks.items()}
        self.counts = {at: len(rows) for at, rows in blocks.items()}

    @property
    def everything(self) -> Plan:
        """Each request once."""
        return [(at, range(count)) for at, count in self.counts.items()]

    def latencies(self, plan: Plan) -> list[float]:
        """Those of the plan, in order of length."""
        return sorted(self._latency[at][i] for at, which in plan for i in which)

    def measured(self, plan: Plan) -> tuple[float, float]:
        """Goodput as a share, and the median latency in seconds."""
        ordered = self.latencies(plan)
        return self.good(ordered), percentile(ordered, 0.5)

    def good(self, latencies: Sequence[float]) -> float:
        """The share that met the deadline."""
        return sum(latency <= self.deadline for latency in latencies) / len(latencies)


class Cell(Struct, frozen=True, kw_only=True):
    """One contestant at one rate. Seconds; a percentile that failed requests reach is None.

    `good` is the share that met the deadline, `good_rate` such requests a second. `each` is the
    time of a token after the first. `tokens_rate` is of what was written, while requests ran.
    """

    contestant: str
    rate: float
    requests: int
    failed: int
    p50: Interval
    p95: Interval
    p99: float | None
    first: float | None
    each: float | None
    tokens: float | None
    tokens_rate: float | None
    good: Interval
    good_rate: float
    late: float
    joules: float | None
    meter: str = ""


class Quality(Struct, frozen=True, kw_only=True):
    """How often one contestant was right, and by kind of task."""

    contestant: str
    asked: int
    right: Interval
    kinds: Mapping[str, float]


def seen(bakeoff: Bakeoff) -> dict[str, Seen]:
    """The latencies of everyone who counts."""
    rows: dict[str, list[Row]] = {each.name: [] for each in bakeoff.counted}
    for row in bakeoff.rows:
        if row.contestant in rows:
            rows[row.contestant].append(row)
    deadline = bakeoff.workload.load.deadline
    return {name: Seen(own, deadline) for name, own in rows.items()}


def cells(bakeoff: Bakeoff) -> Iterator[Cell]:
    """Contestant by contestant, rate by rate."""
    for name, each in seen(bakeoff).items():
        blocks = [b for b in bakeoff.blocks if b.contestant == name]
        for rate in bakeoff.workload.load.rates:
            rows = [row for at, own in each.rows.items() if at[1] == rate for row in own]
            ran = [block for block in blocks if block.rate == rate]
            if rows:
                yield _cell(name, rate, rows, ran, bakeoff)


def _cell(
    name: str, rate: float, rows: Sequence[Row], blocks: Sequence[Block], bakeoff: Bakeoff
) -> Cell:
    own = Seen(rows, bakeoff.workload.load.deadline)
    drawn = [own.latencies(plan) for plan in plans(own.counts, _TIMES, f"{name} {rate}")]
    whole = own.latencies(own.everything)
    ended = [row for row in rows if math.isfinite(row.latency)]
    lasted = sum(_lasted(of) for of in own.rows.values())
    said = [row.tokens_out for row in ended if row.tokens_out is not None]
    good = sum(latency <= own.deadline for latency in whole)
    joules = [block.joules for block in blocks]
    return Cell(
        contestant=name,
        rate=rate,
        requests=len(rows),
        failed=len(rows) - len(ended),
        p50=_at(whole, drawn, 0.5),
        p95=_at(whole, drawn, 0.95),
        p99=finite(percentile(whole, 0.99)),
        first=finite(percentile(sorted(row.waited for row in rows), 0.5)),
        each=_each(ended),
        tokens=fmean(said) if said else None,
        tokens_rate=sum(said) / lasted if said and lasted else None,
        good=Interval(own.good(whole), *between([own.good(d) for d in drawn])),
        good_rate=good / lasted if lasted else 0.0,
        late=max((row.sent - row.planned for row in rows if row.sent is not None), default=0.0),
        joules=None if None in joules or not joules else sum(j or 0.0 for j in joules),
        meter=blocks[0].meter if blocks else "",
    )


def _at(whole: Sequence[float], drawn: Sequence[Sequence[float]], at: float) -> Interval:
    low, high = between([percentile(each, at) for each in drawn])
    return Interval(finite(percentile(whole, at)), finite(low), finite(high))


def _lasted(rows: Sequence[Row]) -> float:
    """From the block's first due moment until its last request ended."""
    ends = [row.ended for row in rows if row.ended is not None]
    return max(ends, default=0.0) - min(row.planned for row in rows)


def _each(rows: Sequence[Row]) -> float | None:
    found = [
        (row.ended - row.first) / (row.tokens_out - 1)
        for row in rows
        if row.ended is not None and row.first is not None and (row.tokens_out or 0) > 1
        if row.tokens_out is not None
    ]
    return median(found) if found else None


def finite(value: float) -> float | None:
    """The value; None where failed requests made it infinite."""
    return value if math.isfinite(value) else None


def qualities(bakeoff: Bakeoff) -> Iterator[Quality]:
    """Everyone who was asked tasks; a failed one counts as wrong."""
    for each in bakeoff.counted:
        rows = [r for r in bakeoff.rows if r.contestant == each.name and r.rate is None]
        kinds: dict[str, list[bool]] = {}
        for row in rows:
            kinds.setdefault(row.kind, []).append(bool(row.passed))
        if rows:
            yield Quality(
                contestant=each.name,
                asked=len(rows),
                right=share(sum(bool(row.passed) for row in rows), len(rows)),
                kinds={kind: fmean(passed) for kind, passed in kinds.items()},
            )


def remarks(bakeoff: Bakeoff) -> Iterator[str]:
    """What a reader must know before the numbers mean anything."""
    for each in bakeoff.found:
        if each.left_out:
            yield f"{each.name} is left out: {each.left_out}"
    shown = list(cells(bakeoff))
    yield from _deadline(bakeoff, shown)
    few = min((cell.requests for cell in shown), default=_TELL_P99)
    if few < _TELL_P99:
        which = "p95 and p99 are" if few < _TELL_P95 else "p99 is"
        yield f"of {few} requests a rate, {which} no more than the slowest: raise load.count"
    yield from _failures(bakeoff, shown)
    yield from _lengths(shown)
    late = [c for c in shown if c.p50.value is not None and c.late > _LATE * c.p50.value]
    for cell in late:
        yield (
            f"{cell.contestant} at {cell.rate:g}/s: a request was sent {cell.late:.3f} s late "
            "(its latency counts from when it was due)"
        )
    busy = bakeoff.machine.load_before[:1]
    if busy and busy[0] > _BUSY * bakeoff.machine.cores:
        yield (
            f"the machine was busy before it began: load average {busy[0]:.2f} on "
            f"{bakeoff.machine.cores} cores"
        )


def _deadline(bakeoff: Bakeoff, shown: Sequence[Cell]) -> Iterator[str]:
    if not shown or any(cell.good.value for cell in shown):
        return
    deadline = bakeoff.workload.load.deadline
    ends = [latency for own in seen(bakeoff).values() for latency in own.latencies(own.everything)]
    least = min(ends, default=math.inf)
    fastest = f"the fastest took {least:.2f} s" if math.isfinite(least) else "all of them failed"
    yield (
        f"nobody met the deadline of {deadline:g} s even once: {fastest}; goodput tells nothing, "
        "raise load.deadline"
    )


def _failures(bakeoff: Bakeoff, shown: Sequence[Cell]) -> Iterator[str]:
    failed: dict[tuple[str, str], int] = {}
    for row in bakeoff.rows:
        if row.error:
            at = row.contestant, row.error
            failed[at] = failed.get(at, 0) + 1
    for (name, error), count in failed.items():
        yield f"{name}: {count} failed with {error}: they count as never answered, tasks as wrong"
    for block in bakeoff.blocks:
        if block.aborted:
            yield f"{block.contestant}, repeat {block.repeat + 1}: broken off: {block.aborted}"


def _lengths(shown: Sequence[Cell]) -> Iterator[str]:
    tokens = {cell.contestant: cell.tokens for cell in shown if cell.tokens}
    if len(tokens) > 1 and max(tokens.values()) > _APART * min(tokens.values()):
        said = ", ".join(f"{name} {count:.0f}" for name, count in tokens.items())
        yield f"answers differ in length (mean tokens: {said}): compare seconds a token as well"
