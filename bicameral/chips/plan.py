"""From models, chips, a load and measurements to a placement, and the reason for every choice.

A pure function. Whole replicas on whole chips that exist; forecasts where nobody measured, each
figure with its class and band; "every node serves everything alike" is always among the
alternatives, and taken where a split gains too little. Bands are intervals whose ends are added,
as if all errors went together; a goal is held against the forecast, or with `sure` against the far
end of its band.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial

import msgspec

from bicameral.chips.candidates import (
    Candidates,
    candidates,
    halves_of,
    open_pools,
    worth_a_thought,
)
from bicameral.chips.halves import NOTE
from bicameral.chips.outcome import capacity, energy, group, mean_seconds, money, running, seen
from bicameral.chips.place import WORTH, Pool, Stage, place
from bicameral.chips.planned import SAME, Alternative, Cut, Plan
from bicameral.chips.reasons import because
from bicameral.chips.solving import (
    Solution,
    apart,
    beside,
    demand,
    halved,
    one_kind,
    replicas,
)
from bicameral.chips.whole import Short
from bicameral.chips.workload import Workload, check
from bicameral.errors import ChipError

_REPLICAS = "replicas"
_PLACED = "placed"
_BESIDE = "encoders beside"
_APART = "encoders apart"
_HALVED = "prompts apart"
# From the simplest to what needs most cuts: each must be worth its cut.
_SIMPLE = (_REPLICAS, _PLACED, _BESIDE, _APART, _HALVED)


def plan(work: Workload) -> Plan:
    """The placement to take.

    Raises ConfigError or ChipError, with what is in the way and what to do, if there is none.
    """
    return describe(work, solve(work))


class Solved(msgspec.Struct, frozen=True):
    """The options, every way that was tried, and the one to take."""

    made: Candidates
    tried: tuple[tuple[str, Solution | Short], ...]
    chosen: Solution


def solve(work: Workload) -> Solved:
    """Every way to serve the load, and the one to take; raises as `plan` does."""
    check(work)
    made = candidates(work)
    tried = tuple((name, _try(way)) for name, way in _ways(work, made))
    found = {name: each for name, each in tried if isinstance(each, Solution)}
    if not found:
        raise _short(work, made, tried)
    return Solved(made, tried, _chosen(found))


def _ways(work: Workload, made: Candidates) -> Iterator[tuple[str, Callable[[], Solution]]]:
    options = worth_a_thought(work, made.options)
    yield _REPLICAS, lambda: replicas(work, made)
    if work.encoders:
        yield _BESIDE, lambda: beside(work, options, _BESIDE)
        yield _APART, lambda: apart(work, options, _APART)
    else:
        yield _PLACED, lambda: beside(work, options, _PLACED)
    pools = open_pools(work)
    for pool in pools if len(pools) > 1 else ():
        yield f"only {pool.name}", partial(one_kind, work, options, pool.name)
    split = worth_a_thought(work, halves_of(work))
    if split:
        yield _HALVED, lambda: halved(work, [*options, *split], _HALVED)


def _try(way: Callable[[], Solution]) -> Solution | Short:
    try:
        return way()
    except Short as short:
        return short


def _chosen(ways: dict[str, Solution]) -> Solution:
    """The cheapest; a simpler one where what is cheaper saves less than a cut is worth.

    One kind of chip is only compared with, unless the search has overlooked it.
    """
    ordered = sorted(ways.values(), key=_simplicity)
    best = ordered[0]
    for found in ordered[1:]:
        known = found.name in _SIMPLE and _saves(found.cost, best.cost)
        if known or (
            best.name != _REPLICAS and found.cost < best.cost and found.name not in _SIMPLE
        ):
            best = found
    return best


def _simplicity(found: Solution) -> int:
    return _SIMPLE.index(found.name) if found.name in _SIMPLE else len(_SIMPLE)


def _saves(less: int, more: int) -> bool:
    """Whether it is enough less to be worth another cut."""
    return less < more * (1 - WORTH)


def _short(
    work: Workload, made: Candidates, tried: Sequence[tuple[str, Solution | Short]]
) -> ChipError:
    """The chips cannot take the load: how much they could, at most."""
    wanted = demand(work)
    stages = [Stage(name, rate / work.load.rate) for name, rate in wanted.items()]
    pools = [
        Pool(p.name, p.count, tuple(_best(made, p.name, name) for name in wanted))
        for p in open_pools(work)
    ]
    most = 3600 * place(stages, pools).shared.rate
    asked = f"{work.load.requests_per_hour:,.0f}"
    if most >= work.load.requests_per_hour:
        unknown = any(isinstance(s, Short) and not s.proven for _, s in tried)
        why = "no whole numbers of replicas were found" if unknown else "no whole replicas fit so"
        return ChipError(
            f"{work.source}: {asked} requests an hour are too many for these chips: {why}, though "
            f"by halves of chips they could take {most:,.0f}: add chips or loosen the goal"
        )
    return ChipError(
        f"{work.source}: {asked} requests an hour are too many for these chips within the goal: "
        f"they take at most {most:,.0f} ({most / work.load.requests_per_hour:.0%}): add chips, "
        "loosen the goal, or take smaller weights"
    )


def _best(made: Candidates, pool: str, model: str) -> float:
    """Requests a second of one chip, of its best option for this alone."""
    return max(
        (o.planned() / o.chips for o in made.options if o.pool == pool and o.covers[0] == model),
        default=0.0,
    )


def describe(work: Workload, solved: Solved) -> Plan:
    """The plan of what was chosen."""
    made, chosen = solved.made, solved.chosen
    runs = running(work, chosen)
    groups = tuple(group(work, run) for run in runs)
    joules, trust = energy(work, chosen)
    others = tuple(_alternative(work, name, found, chosen) for name, found in solved.tried)
    return Plan(
        source=work.source,
        load=work.load,
        goal=work.goal,
        chosen=chosen.name,
        groups=groups,
        seen=tuple(seen(work, runs)),
        cuts=tuple(_cuts(work, chosen)),
        requests=capacity(work, chosen),
        chips=sum(chosen.chips.values()),
        cost=money(work, chosen),
        energy=joules,
        energy_trust=trust,
        gap=chosen.gap,
        alternatives=others,
        reasons=tuple(because(work, made, chosen, others, runs)),
        notes=tuple(_notes(work, made, chosen)),
    )


def _alternative(
    work: Workload, name: str, found: Solution | Short, chosen: Solution
) -> Alternative:
    if isinstance(found, Short):
        why = "cannot take the load within the goal" if found.proven else "nothing found that fits"
        return Alternative(name=name, fits=False, note=why)
    cost = money(work, found)
    joules = energy(work, found)[0]
    return Alternative(
        name=name,
        fits=True,
        chips=sum(found.chips.values()),
        cost=cost.value if cost else None,
        energy=joules.value if joules else None,
        seconds=mean_seconds(work, running(work, found)),
        gap=found.gap,
        note=_same(found, chosen) or ", ".join(f"{n} x {p}" for p, n in found.chips.items()),
    )


def _same(found: Solution, chosen: Solution) -> str:
    if found is chosen or set(found.taken) != set(chosen.taken) or found.chips != chosen.chips:
        return ""
    return SAME


def _cuts(work: Workload, chosen: Solution) -> list[Cut]:
    """What goes from chips to other chips, for one request and a second."""
    cuts = []
    encoded = {t.option.model for t in chosen.taken if t.option.does == "encode"}
    for encoder in work.encoders:
        if encoder.name in encoded:
            each = encoder.handed
            each = None if each is None else each * work.items(encoder)
            what = f"{encoder.reads} read by {encoder.name}, to who answers"
            cuts.append(Cut(what=what, bytes_each=each, bytes_s=_a_second(work.load.rate, each)))
    for taken in chosen.taken:
        if taken.option.does == "prefill":
            rate = demand(work)[taken.option.model]
            moved = taken.option.moved
            what = f"the cache of a prompt of {taken.option.model}, {taken.option.precision}"
            cuts.append(Cut(what=what, bytes_each=moved, bytes_s=moved * rate))
    return list(dict.fromkeys(cuts))


def _a_second(rate: float, each: float | None) -> float | None:
    return None if each is None else rate * each


def _notes(work: Workload, made: Candidates, chosen: Solution) -> list[str]:
    """What the plan's figures rest on, leave out or take on trust."""
    notes = [*made.notes]
    for pool in chosen.chips:
        said = _said(work, pool, chosen)
        notes += [f"{pool}: {'; '.join(said)}"] if said else []
    if any(t.option.does == "prefill" for t in chosen.taken):
        notes.append(NOTE)
    able = capacity(work, chosen)
    asked = work.load.requests_per_hour
    if able.low is not None and able.low < asked:
        notes.append(
            f"at the low end of the band this takes only {able.low:,.0f} of {asked:,.0f} requests "
            "an hour: measure a replica before relying on it, or plan with sure = true"
        )
    if any(p.network_gbs is None for p in open_pools(work)):
        notes.append(
            "reading prompts apart from answering is planned only between pools with network_gbs"
        )
    if work.load.written.variation is None:
        notes.append(
            "only the mean of the output is known: lengths are taken to vary as much again"
        )
    return list(dict.fromkeys(notes))


def _said(work: Workload, pool: str, chosen: Solution) -> list[str]:
    """What the forecasts of a pool's replicas say of themselves, each once."""
    name = next(p.chip.name for p in work.pools if p.name == pool)
    every = (n for t in chosen.taken if t.option.pool == pool for n in t.option.replica.notes)
    return list(dict.fromkeys(note.removeprefix(f"{name}, ") for note in every))
