"""Why a plan is as it is: for every choice a line, with what the next best would have cost."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from bicameral.chips.candidates import Candidates, price, seconds
from bicameral.chips.layouts import Option
from bicameral.chips.operating import keeps
from bicameral.chips.outcome import Running
from bicameral.chips.place import WORTH
from bicameral.chips.planned import SAME, Alternative, Reason
from bicameral.chips.solving import Solution
from bicameral.chips.workload import Pool, Workload

_UNIT = {"cost": "$ for 1,000", "energy": "kJ for 1,000", "latency": "s each"}


def because(
    work: Workload,
    made: Candidates,
    chosen: Solution,
    others: Sequence[Alternative],
    runs: Sequence[Running],
) -> Iterator[Reason]:
    """The reasons, from the whole to its parts."""
    yield Reason("plan", _whole(work, chosen, others))
    if work.encoders:
        yield Reason("encoders", _encoders(work, chosen, others))
    for run in runs:
        option = run.taken.option
        name = f"{option.model} on {option.pool}"
        yield Reason(name, _chip(work, made, chosen, option))
        yield Reason(name, _layout(made, option))
        yield Reason(name, _places(option))
        yield Reason(name, _count(chosen, run))


def _whole(work: Workload, chosen: Solution, others: Sequence[Alternative]) -> str:
    """Against the other ways."""
    least = work.goal.minimise
    mine = next(a for a in others if a.name == chosen.name)
    ranked = sorted(
        (a for a in others if a.fits and a.name != chosen.name and a.note != SAME),
        key=lambda a: _figure(a, least),
    )
    if not ranked and any(a.note == SAME for a in others):
        return f"{chosen.name}: all other ways come to the same: a split gains nothing"
    if not ranked:
        return f"{chosen.name}: of all ways the only one that takes the load"
    own = _figure(mine, least)
    next_ = ranked[0]
    if chosen.name == "replicas" and _figure(next_, least) <= own:
        return (
            f"nodes that serve everything alike: a split ({next_.name}) gains "
            f"{_less(own, _figure(next_, least))}, less than the {float(WORTH):.0%} that one must"
        )
    base = next((a for a in others if a.name == "replicas"), None)
    against = ""
    if base and chosen.name != "replicas":
        against = (
            f"; nodes that all serve everything alike: {_more(own, _figure(base, least))}"
            if base.fits
            else "; nodes that all serve everything alike cannot take the load"
        )
    if chosen.name == "replicas":
        against = "; a split gains nothing"
    return (
        f"{chosen.name} has the least {least}; next best {next_.name}: "
        f"{_more(own, _figure(next_, least))}{against}"
    )


def _figure(other: Alternative, least: str) -> float:
    found = {"cost": other.cost, "energy": other.energy, "latency": other.seconds}[least]
    return float("inf") if found is None else float(found)


def _more(own: float, other: float) -> str:
    if not own:
        return "as much" if not other else "more"
    return f"{other / own - 1:+.1%}"


def _less(own: float, other: float) -> str:
    return f"{1 - other / own:.1%}" if own else "nothing"


def _encoders(work: Workload, chosen: Solution, others: Sequence[Alternative]) -> str:
    """Beside who answers or apart, and what the other would be."""
    names, least = ", ".join(e.name for e in work.encoders), work.goal.minimise
    pools = {t.option.pool for t in chosen.taken if t.option.does == "encode"}
    mine = next(_figure(a, least) for a in others if a.name == chosen.name)
    name = "encoders beside" if pools else "encoders apart"
    other = next(a for a in others if a.name == name)
    than = _more(mine, _figure(other, least)) if other.fits else other.note
    if pools:
        return f"{names}: apart, on {', '.join(sorted(pools))}; beside who answers: {than}"
    return f"{names}: beside who answers; on chips of its own: {than}"


def _each(work: Workload, option: Option) -> float:
    """What 1,000 requests cost on a full replica, in dollars, kilojoules or seconds for one."""
    if work.goal.minimise == "latency":
        return seconds(option)
    pool = _pool(work, option.pool)
    whole = price(work, option.chips, option, pool) / option.planned()
    return whole / 3600 * 1000 / 1e9 if work.goal.minimise == "cost" else whole / 1000


def _pool(work: Workload, name: str) -> Pool:
    return next(pool for pool in work.pools if pool.name == name)


def _chip(work: Workload, made: Candidates, chosen: Solution, option: Option) -> str:
    """Against the best of each other pool for the same part of the request."""
    unit = _UNIT[work.goal.minimise]
    others: dict[str, float] = {}
    for other in made.options:
        if other.covers == option.covers and other.does == option.does:
            each = _each(work, other)
            others[other.pool] = min(each, others.get(other.pool, each))
    own = _each(work, option)
    others.pop(option.pool, None)
    said = f"{own:.3g} {unit} when full"
    if not others:
        return f"chip: {said}; no other pool can do it within the goal"
    best = min(others, key=lambda name: others[name])
    line = f"chip: {said}; next best {best}: {others[best]:.3g}"
    if others[best] < own:
        line += f", which is less, but {_taken(work, chosen, best)}"
    return line


def _taken(work: Workload, chosen: Solution, pool: str) -> str:
    """Why not more of a pool that would do it for less."""
    used, count = chosen.chips.get(pool, 0), _pool(work, pool).count
    if used == count:
        return f"all its {count} chips are in use"
    if not used:
        return "its replicas are whole, and more than is needed here"
    return f"{count - used} of its {count} chips are left, and a whole replica more is too much"


def _layout(made: Candidates, option: Option) -> str:
    """Against the other layouts of the same pool."""
    own = option.planned() / option.chips
    others: dict[str, float] = {}
    for other in made.options:
        same = (other.pool, other.does, other.covers) == (option.pool, option.does, option.covers)
        if same and other.words != option.words:
            each = other.planned() / other.chips
            others[other.words] = max(each, others.get(other.words, 0.0))
    said = f"layout: {option.words} takes {own:.3g} requests/s a chip"
    if not others:
        return f"{said}; no other fits and keeps the goal"
    best = max(others, key=lambda name: others[name])
    whole = ", but only in replicas larger than is needed" if others[best] > own else ""
    return f"{said}; next best {best}: {others[best]:.3g}{whole}"


def _places(option: Option) -> str:
    """What keeps it from running more at once."""
    replica, places = option.replica, option.places
    if option.does in ("encode", "prefill"):
        return "at once: one after the other"
    if places < replica.most:
        slow = not keeps(replica.at(float(places + 1)), option.held)
        why = "more would miss the goal" if slow else "more at once take fewer a second in the goal"
    elif replica.room and int(replica.room.sequences) * option.layout.data <= places:
        why = "no more fit into memory"
    else:
        why = "no more were measured, here or by who published"
    return f"at once: {places} requests a replica; {why}"


def _count(chosen: Solution, run: Running) -> str:
    taken = run.taken
    if chosen.nodes:
        nodes = sum(n for node, n in chosen.nodes if node.pool == taken.option.pool)
        return f"count: {taken.replicas} replicas on {nodes} nodes that are all alike"
    whole = run.arrivals * taken.replicas
    return (
        f"count: {whole:.4g} requests/s over {taken.option.planned():.4g} of each: "
        f"{taken.replicas} replicas, {taken.replicas * taken.option.chips} chips"
    )
