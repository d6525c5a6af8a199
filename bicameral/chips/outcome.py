"""What a solution will do: its groups of replicas, what who asks sees, and what it costs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from fractions import Fraction

import msgspec

from bicameral.chips.forecast import Spread
from bicameral.chips.operating import Predicted, predicted
from bicameral.chips.planned import Figure, Group, Money, Seen, figure
from bicameral.chips.replica import Rows
from bicameral.chips.solving import Solution, Taken, demand
from bicameral.chips.workload import Pool, Way, Workload
from bicameral.usage import half_even

_WORSE: tuple[Way, ...] = ("measured", "published", "modelled")


class Running(msgspec.Struct, frozen=True):
    """Replicas alike with the requests a second that come to each, and what those see."""

    taken: Taken
    arrivals: float
    does: Predicted


def running(work: Workload, solution: Solution) -> list[Running]:
    """The load dealt out: to replicas that do most by themselves first, evenly among the rest."""
    wanted = demand(work)
    for model in work.answering:
        wanted |= {f"{model.name} {half}": wanted[model.name] for half in ("prefill", "decode")}
    found: list[Running] = []
    ordered = sorted(solution.taken, key=_breadth, reverse=True)
    for breadth in dict.fromkeys(map(_breadth, ordered)):
        group = [t for t in ordered if _breadth(t) == breadth]
        found += _dealt(group, wanted)
    return found


def _breadth(taken: Taken) -> tuple[bool, int]:
    return taken.option.does == "all", len(taken.option.covers)


def _dealt(group: Sequence[Taken], wanted: dict[str, float]) -> list[Running]:
    """Takes what the group does off `wanted`."""
    found = []
    for name in dict.fromkeys(t.option.covers[0] for t in group):
        own = [t for t in group if t.option.covers[0] == name]
        most = sum(t.replicas * t.option.planned() for t in own)
        part = min(1.0, max(0.0, wanted[name]) / most)
        for taken in own:
            arrivals = part * taken.option.planned()
            found.append(_running(taken, arrivals))
            for covered in _covered(taken, wanted):
                wanted[covered] -= taken.replicas * arrivals
    return found


def _covered(taken: Taken, wanted: Mapping[str, float]) -> Iterable[str]:
    for name in taken.option.covers:
        yield name
        if taken.option.does == "all":
            yield from (n for n in (f"{name} prefill", f"{name} decode") if n in wanted)


def _running(taken: Taken, arrivals: float) -> Running:
    option = taken.option
    served = arrivals * option.served
    return Running(taken, arrivals, predicted(option.replica, option.places, served, option.held))


def group(work: Workload, run: Running) -> Group:
    """Replicas as a plan tells of them."""
    option, does = run.taken.option, run.does
    pool = _pool(work, option.pool)
    way, room = option.replica.way, option.replica.room
    speaks = option.does in ("all", "decode")
    return Group(
        model=option.model,
        does=option.does,
        pool=option.pool,
        chip=pool.chip.id,
        layout=option.words,
        replicas=run.taken.replicas,
        chips=run.taken.replicas * option.chips,
        places=option.places,
        arrivals=run.arrivals,
        running=does.running,
        busy=does.busy,
        capacity=figure(option.rate, way),
        first=figure(_later(does.first, option.late), way),
        first_at=figure(_later(does.first_at, option.late), way),
        token=figure(does.token, way) if speaks else None,
        token_at=figure(does.token_at, way) if speaks else None,
        weights_gb=room.weights / 1e9 if room else None,
        cache_gb=option.places / option.layout.data * room.sequence / 1e9 if room else None,
        usable_gb=room.usable / 1e9 if room else None,
        source=option.replica.source,
    )


def _later(first: Spread, seconds: float) -> Spread:
    return Spread(first.value + seconds, first.low + seconds, first.high + seconds)


def _pool(work: Workload, name: str) -> Pool:
    return next(pool for pool in work.pools if pool.name == name)


def worst(ways: Iterable[Way]) -> Way:
    """The class of a figure that rests on all of these."""
    return max(ways, key=_WORSE.index)


def seen(work: Workload, runs: Sequence[Running]) -> list[Seen]:
    """What who asks each model sees, all stages before the answer counted."""
    return [_seen(work, model.name, runs) for model in work.answering]


def _seen(work: Workload, model: str, runs: Sequence[Running]) -> Seen:
    own = [r for r in runs if r.taken.option.covers[0] in (model, f"{model} decode")]
    before = {id(run): _before(work, run, runs) for run in own}
    used = [*own, *(b for stages in before.values() for b in stages)]
    way = worst(run.taken.option.replica.way for run in used)
    weights = [run.arrivals * run.taken.replicas for run in own]

    def first(run: Running, of: Callable[[Predicted], Spread]) -> Spread:
        late = [_later(of(b.does), b.taken.option.late) for b in before[id(run)]]
        return _sum([of(run.does), *late])

    at = [first(run, lambda p: p.first_at) for run in own]
    return Seen(
        model=model,
        requests_per_hour=3600 * sum(weights),
        first=figure(_mean([first(run, lambda p: p.first) for run in own], weights), way),
        first_at=figure(max(at, key=lambda s: s.value), way),
        token=figure(_mean([run.does.token for run in own], weights), way),
        token_at=figure(max((run.does.token_at for run in own), key=lambda s: s.value), way),
    )


def _before(work: Workload, run: Running, runs: Sequence[Running]) -> list[Running]:
    """The slowest group of each stage that others do for this one before it answers."""
    option = run.taken.option
    stages = [f"{option.model} prefill"] if option.does == "decode" else []
    stages += [e.name for e in work.encoders if e.name not in option.covers]
    groups = [[r for r in runs if r.taken.option.covers[0] == stage] for stage in stages]
    return [max(g, key=lambda r: r.does.first_at.value) for g in groups if g]


def _sum(spreads: Sequence[Spread]) -> Spread:
    """Ends are added: as if all errors went together."""
    return Spread(*(sum(getattr(s, end) for s in spreads) for end in ("value", "low", "high")))


def _mean(spreads: Sequence[Spread], weights: Sequence[float]) -> Spread:
    whole = sum(weights)
    return Spread(
        *(
            sum(w * getattr(s, end) for s, w in zip(spreads, weights, strict=True)) / whole
            for end in ("value", "low", "high")
        )
    )


def capacity(work: Workload, solution: Solution) -> Figure:
    """Requests an hour of the whole mix, as the scarcest of its parts allows."""
    ends = [_taken(work, solution, end) for end in ("value", "low", "high")]
    return figure(Spread(*ends), worst(t.option.replica.way for t in solution.taken))


def _taken(work: Workload, solution: Solution, end: str) -> float:
    parts = {m.name: (f"{m.name} prefill", f"{m.name} decode") for m in work.answering}
    able: dict[str, float] = {}
    for taken in solution.taken:
        option = taken.option
        for name in option.covers:
            for row in parts.get(name, (name,)):
                able[row] = able.get(row, 0.0) + taken.replicas * getattr(option.rate, end)
    wanted = demand(work)
    rows = {row: rate for name, rate in wanted.items() for row in parts.get(name, (name,))}
    return work.load.requests_per_hour * min(able.get(row, 0.0) / r for row, r in rows.items())


def money(work: Workload, solution: Solution) -> Money | None:
    """Nano-dollars for 1,000 requests; its band is that of the chips needed. None: no price.

    More chips where these take too little at the low end, fewer where they take more at the high.
    """
    hourly = Fraction(0)
    for name, chips in solution.chips.items():
        price = _pool(work, name).price
        if price is None:
            return None
        hourly += price * chips
    value = hourly * 1000 / Fraction(work.load.requests_per_hour)
    able, asked = capacity(work, solution), work.load.requests_per_hour
    if able.low is None or able.high is None or not able.low:
        return Money(_whole(value), None, None, able.way)
    fewer = max(asked / able.high, _single(solution))
    low, high = value * Fraction(min(1.0, fewer)), value * Fraction(max(1.0, asked / able.low))
    return Money(_whole(value), _whole(low), _whole(high), able.way)


def _single(solution: Solution) -> float:
    """The part of the chips that one replica (or node) of each group has: fewer cannot do."""
    least = sum(node.chips for node, _ in solution.nodes) or sum(
        taken.option.chips for taken in solution.taken
    )
    return least / sum(solution.chips.values())


def _whole(value: Fraction) -> int:
    return half_even(value.numerator, value.denominator)


def energy(work: Workload, solution: Solution) -> tuple[Figure | None, str]:
    """Joules for 1,000 requests at the power of all chips all the time; and how that is known.

    A replica's measured power counts; of other chips the design power, an upper estimate.
    """
    watts, said = 0.0, []
    for name, chips in solution.chips.items():
        measured, of = _measured(solution, name)
        watts += measured
        said += [f"{name}: measured"] if of else []
        power = _pool(work, name).chip.power_w
        if chips > of and power is None:
            return None, f"power of {name} is unknown"
        if chips > of and power is not None:
            watts += power.value * (chips - of)
            said.append(f"{name}: {power.trust.value}")
    value = watts * 3600 * 1000 / work.load.requests_per_hour
    way: Way = "measured" if all(s.endswith(": measured") for s in said) else "modelled"
    return Figure(value, None, value, way), f"at most: full power all the time ({', '.join(said)})"


def _measured(solution: Solution, pool: str) -> tuple[float, int]:
    """Watts of the replicas whose power was measured, and the chips that those have."""
    watts, chips = 0.0, 0
    for taken in solution.taken:
        replica = taken.option.replica
        if taken.option.pool == pool and isinstance(replica, Rows) and replica.watts is not None:
            watts += taken.replicas * replica.watts
            chips += taken.replicas * taken.option.chips
    return watts, chips


def mean_seconds(work: Workload, runs: Sequence[Running]) -> float:
    """Of the mean answer, from its arrival to its last token."""
    steps = max(0.0, work.load.written.mean - 1)
    answers = seen(work, runs)
    whole = sum(a.requests_per_hour for a in answers)
    return (
        sum((a.first.value + steps * a.token.value) * a.requests_per_hour for a in answers) / whole
    )
