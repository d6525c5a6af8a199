"""The verdict of a bake-off: who is better, by how much, and where nobody can tell.

Two are told apart by goodput, and where that does not tell them apart by their median latency,
over all rates. A difference counts if it is significant beside all the others that were tested
(Holm). With three repeats that takes all of them: where one points the other way, a ninth of the
resamples do. Who is wrong too often loses whatever its speed. Default and tuned settings are judged
apart.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from typing import Literal

from msgspec import Struct

from bicameral.chips.bakeoff import Bakeoff, Settings
from bicameral.chips.resample import (
    LEVEL,
    Interval,
    between,
    chance,
    holm,
    matched,
    plans,
    sign_test,
)
from bicameral.chips.summary import Seen, finite, seen

FEWEST_REPEATS = 3
_TIMES = 2000  # resamples, and more where there are many comparisons
_TIMES_EACH = 80
Measure = Literal["goodput", "median latency"]


class Pair(Struct, frozen=True, kw_only=True):
    """`first` against `second`. `chance` is corrected for all pairs and measures of the verdict.

    Goodput: the difference of the shares answered in time. Median latency: how many times that of
    the second.
    """

    first: str
    second: str
    measure: Measure
    value: Interval
    chance: float
    differs: bool

    @property
    def better(self) -> str:
        """Who is better; nobody if they do not differ."""
        none = 0.0 if self.measure == "goodput" else 1.0
        if not self.differs or self.value.value == none:
            return ""
        more = self.value.value is None or self.value.value > none
        return self.first if more == (self.measure == "goodput") else self.second


class Loss(Struct, frozen=True, kw_only=True):
    """`name` is right less often than `best` by more than the margin."""

    name: str
    best: str
    value: Interval
    chance: float


class Verdict(Struct, frozen=True, kw_only=True):
    """`ranks`: those of one rank do not differ, or not all of them; `judged` False: see `why`."""

    settings: Settings
    ranks: tuple[tuple[str, ...], ...]
    pairs: tuple[Pair, ...]
    judged: bool = True
    why: str = ""

    @property
    def winner(self) -> str:
        """Who is better than every other; nobody if there is none such."""
        if not self.judged or not self.ranks or len(self.ranks[0]) != 1:
            return ""
        first = self.ranks[0][0]
        others = {name for rank in self.ranks[1:] for name in rank}
        beaten = {loser for winner, loser in _beaten(self.pairs) if winner == first}
        return first if others <= beaten else ""


def losses(bakeoff: Bakeoff) -> tuple[Loss, ...]:
    """Who is wrong too often: on tasks that both were asked, a failed one counts as wrong."""
    right = _answers(bakeoff)
    names = [each.name for each in bakeoff.counted if right.get(each.name)]
    if bakeoff.workload.tasks is None or len(names) < 2:
        return ()
    pairs = [(a, b) for a in names for b in names if a != b]
    split = [_split(right[worse], right[better]) for worse, better in pairs]
    chances = holm([sign_test(wins, lost) for wins, lost, _ in split])
    found = []
    for (worse, better), (wins, lost, count), p in zip(pairs, split, chances, strict=True):
        apart = matched(wins, lost, count, among=len(pairs))
        below = apart.high is not None and apart.high < -bakeoff.workload.tasks.margin
        if below and p < 1 - LEVEL:
            found.append(Loss(name=worse, best=better, value=apart, chance=p))
    worst = {loss.name: loss for loss in sorted(found, key=lambda x: -(x.value.value or 0.0))}
    return tuple(worst.values())


def _answers(bakeoff: Bakeoff) -> dict[str, dict[tuple[int, str], bool]]:
    found: dict[str, dict[tuple[int, str], bool]] = {}
    for row in bakeoff.rows:
        if row.rate is None:
            found.setdefault(row.contestant, {})[row.repeat, row.task] = bool(row.passed)
    return found


def _split(
    ours: Mapping[tuple[int, str], bool], theirs: Mapping[tuple[int, str], bool]
) -> tuple[int, int, int]:
    """How often only we were right, only they, and how many tasks both were asked."""
    both = ours.keys() & theirs.keys()
    wins = sum(ours[task] and not theirs[task] for task in both)
    lost = sum(theirs[task] and not ours[task] for task in both)
    return wins, lost, len(both)


def verdicts(bakeoff: Bakeoff) -> tuple[Verdict, ...]:
    """One for the default settings and one for the tuned, of those that are not out by quality."""
    out = {loss.name for loss in losses(bakeoff)}
    rows = seen(bakeoff)
    groups: dict[Settings, list[str]] = {}
    for each in bakeoff.counted:
        if each.name not in out:
            groups.setdefault(each.settings, []).append(each.name)
    return tuple(
        _verdict(bakeoff, kind, {name: rows[name] for name in names})
        for kind, names in groups.items()
    )


def _verdict(bakeoff: Bakeoff, settings: Settings, rows: Mapping[str, Seen]) -> Verdict:
    names = list(rows)
    if len(names) < 2:
        why = "there is nobody to compare it with"
        return Verdict(settings=settings, ranks=(tuple(names),), pairs=(), judged=False, why=why)
    pairs = tuple(_pairs(bakeoff, rows))
    repeats = len({row.repeat for row in bakeoff.rows if row.rate is not None})
    if repeats < FEWEST_REPEATS:
        why = f"{repeats} of {FEWEST_REPEATS} repeats: a verdict needs to see how they differ"
        return Verdict(settings=settings, ranks=(tuple(names),), pairs=pairs, judged=False, why=why)
    return Verdict(settings=settings, ranks=tuple(_ranks(names, pairs)), pairs=pairs)


def _pairs(bakeoff: Bakeoff, rows: Mapping[str, Seen]) -> Iterator[Pair]:
    """Every pair on both measures, from the same resamples."""
    both = list(combinations(rows, 2))
    times = max(_TIMES, _TIMES_EACH * 2 * len(both))
    counts = next(iter(rows.values())).counts
    drawn: dict[str, list[tuple[float, float]]] = {name: [] for name in rows}
    for plan in plans(counts, times, f"{bakeoff.workload.seed} verdict"):
        for name, each in rows.items():
            drawn[name].append(each.measured(plan))
    found = [_compared(rows, drawn, *pair) for pair in both]
    chances = holm([p for pair in found for _, p, _ in pair])
    at = iter(chances)
    for (first, second), pair in zip(both, found, strict=True):
        for measure, _, value in pair:
            p = next(at)
            yield Pair(
                first=first,
                second=second,
                measure=measure,
                value=value,
                chance=p,
                differs=p < 1 - LEVEL,
            )


_Compared = tuple[Measure, float, Interval]


def _compared(
    rows: Mapping[str, Seen],
    drawn: Mapping[str, Sequence[tuple[float, float]]],
    first: str,
    second: str,
) -> tuple[_Compared, _Compared]:
    """Both measures: the chance before correction, and the interval."""
    both = list(zip(drawn[first], drawn[second], strict=True))
    good = [ours[0] - theirs[0] for ours, theirs in both]
    slow = [ratio(ours[1], theirs[1]) for ours, theirs in both]
    ours, theirs = (rows[name].measured(rows[name].everything) for name in (first, second))
    return (
        ("goodput", chance(good, 0.0), _interval(ours[0] - theirs[0], good)),
        ("median latency", chance(slow, 1.0), _interval(ratio(ours[1], theirs[1]), slow)),
    )


def ratio(one: float, other: float) -> float:
    """How many times the other; two that never end are alike."""
    return 1.0 if one == other else one / other


def _interval(value: float, resampled: Sequence[float]) -> Interval:
    low, high = between(resampled)
    return Interval(finite(value), finite(low), finite(high))


def _beaten(pairs: Sequence[Pair]) -> Iterator[tuple[str, str]]:
    """(winner, loser): by goodput, else by latency where goodput does not tell."""
    by: dict[tuple[str, str], str] = {}
    for pair in sorted(pairs, key=lambda p: p.measure != "goodput"):
        by[pair.first, pair.second] = by.get((pair.first, pair.second)) or pair.better
    for (first, second), winner in by.items():
        if winner:
            yield winner, second if winner == first else first


def _ranks(names: Sequence[str], pairs: Sequence[Pair]) -> Iterator[tuple[str, ...]]:
    """First those whom nobody beats, then those whom nobody else does."""
    beaten = set(_beaten(pairs))
    left = list(names)
    while left:
        top = [n for n in left if not any((other, n) in beaten for other in left)] or left
        yield tuple(top)
        left = [n for n in left if n not in top]


def told(bakeoff: Bakeoff) -> Iterator[str]:
    """The verdict in sentences, each with its interval."""
    for loss in losses(bakeoff):
        yield (
            f"{loss.name} loses on quality: {_points(loss.value)} against {loss.best} "
            f"(p {loss.chance:.2g}), whatever its speed"
        )
    for verdict in verdicts(bakeoff):
        yield from _told(verdict)


def _told(verdict: Verdict) -> Iterator[str]:
    kind = f"{verdict.settings} settings"
    if not verdict.judged:
        yield f"{kind}: no verdict: {verdict.why}"
        return
    if verdict.winner:
        yield f"{kind}: {verdict.winner} is better than every other"
    elif len(verdict.ranks) == 1:
        yield f"{kind}: no significant difference that ranks {', '.join(verdict.ranks[0])}"
    else:
        first = ", ".join(verdict.ranks[0])
        yield f"{kind}: nobody is better than every other; beaten by none: {first}"
    for pair in verdict.pairs:
        yield _line(pair)


def _line(pair: Pair) -> str:
    say = _points(pair.value) if pair.measure == "goodput" else _times(pair.value)
    against = f"  {pair.first} against {pair.second}, {pair.measure}: {say}"
    if pair.better:
        return f"{against}, p {pair.chance:.2g}: {pair.better} is better"
    return f"{against}, p {pair.chance:.2g}: no significant difference"


def _points(value: Interval) -> str:
    low, high = (100 * (x or 0.0) for x in (value.low, value.high))
    return f"{100 * (value.value or 0.0):+.1f} points [{low:+.1f}, {high:+.1f}]"


def _times(value: Interval) -> str:
    shown = ["∞" if x is None else f"{x:.2f}" for x in (value.value, value.low, value.high)]
    return f"{shown[0]} times [{shown[1]}, {shown[2]}]"


class Apart(Struct, frozen=True, kw_only=True):
    """One contestant on two machines, A and B: the ratio of latencies, the difference of goodput.

    `better` names the machine by its letter; empty: no significant difference.
    """

    name: str
    latency: Interval
    goodput: Interval
    better: str


def apart(both: Mapping[str, tuple[Seen, Seen]], seed: int) -> Iterator[Apart]:
    """Each contestant here and there; nothing is paired, as machines do not drift together."""
    found = []
    for name, (ours, theirs) in both.items():
        drawn = [
            [each.measured(plan) for plan in plans(each.counts, _TIMES, f"{seed} {name} {place}")]
            for place, each in enumerate((ours, theirs))
        ]
        good = [a[0] - b[0] for a, b in zip(*drawn, strict=True)]
        slow = [ratio(a[1], b[1]) for a, b in zip(*drawn, strict=True)]
        whole = ours.measured(ours.everything), theirs.measured(theirs.everything)
        good_at, slow_at = whole[0][0] - whole[1][0], ratio(whole[0][1], whole[1][1])
        found.append((name, _interval(good_at, good), good, _interval(slow_at, slow), slow))
    chances = holm([p for f in found for p in (chance(f[2], 0.0), chance(f[4], 1.0))])
    for place, (name, good_is, _, slow_is, _) in enumerate(found):
        by_good, by_slow = (p < 1 - LEVEL for p in chances[2 * place : 2 * place + 2])
        better = ""
        if by_good and good_is.value:
            better = "A" if good_is.value > 0 else "B"
        elif by_slow:
            better = "B" if slow_is.value is None or slow_is.value > 1 else "A"
        yield Apart(name=name, latency=slow_is, goodput=good_is, better=better)
