"""Whole plans: how many replicas of which options, for each of the ways to serve the load."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from bicameral.chips.alike import Node, node
from bicameral.chips.candidates import Candidates, columns, open_pools, price, rooms
from bicameral.chips.layouts import Option
from bicameral.chips.whole import TRIED, Column, Cover, Room, Short, cover
from bicameral.chips.workload import Workload

# Alternatives are only compared with: less is tried for them.
_TRIED = TRIED // 10


class Taken(msgspec.Struct, frozen=True):
    """An option, and how many replicas of it."""

    option: Option
    replicas: int


class Solution(msgspec.Struct, frozen=True, kw_only=True):
    """One way to serve the load. `chips`: those paid for, by pool; `nodes` of the baseline.

    `cost` is what is to be least; no other of this kind is below it by more than `gap` of it.
    """

    name: str
    taken: tuple[Taken, ...]
    chips: Mapping[str, int]
    cost: int
    gap: float
    nodes: tuple[tuple[Node, int], ...] = ()


def demand(work: Workload) -> dict[str, float]:
    """Requests a second for each model; encoders read for all of them."""
    found = {m.name: work.load.rate * m.share for m in work.answering}
    return found | {e.name: work.load.rate for e in work.encoders}


def beside(work: Workload, options: Sequence[Option], name: str, tried: int = TRIED) -> Solution:
    """The cheapest replicas, each of which encodes for itself; raises Short if they cannot."""
    encoders = {e.name for e in work.encoders}
    own = [o for o in options if o.does == "all" and encoders <= set(o.covers)]
    wanted = {m.name: demand(work)[m.name] for m in work.answering}
    return _covered(work, own, wanted, {}, name, tried)


def apart(work: Workload, options: Sequence[Option], name: str, tried: int = TRIED) -> Solution:
    """The cheapest replicas and encoders, each on chips of its own; raises Short likewise."""
    return _covered(work, _single(options), demand(work), {}, name, tried)


def halved(work: Workload, options: Sequence[Option], name: str) -> Solution:
    """As `apart`, where prompts may be read by others than who answers as well."""
    parts = {m.name: (f"{m.name} prefill", f"{m.name} decode") for m in work.answering}
    wanted = {
        row: rate for model, rate in demand(work).items() for row in parts.get(model, (model,))
    }
    return _covered(work, _single(options), wanted, parts, name, _TRIED)


def one_kind(work: Workload, options: Sequence[Option], pool: str) -> Solution:
    """The better of `beside` and `apart` on the chips of one pool only."""
    own, name = [o for o in options if o.pool == pool], f"only {pool}"
    ways: list[Solution | Short] = []
    for way in (beside, apart) if work.encoders else (beside,):
        try:
            ways.append(way(work, own, name, _TRIED))
        except Short as short:
            ways.append(short)
    found = [way for way in ways if isinstance(way, Solution)]
    if not found:
        raise Short(proven=all(isinstance(w, Short) and w.proven for w in ways))
    return min(found, key=lambda way: way.cost)


def _single(options: Sequence[Option]) -> list[Option]:
    return [o for o in options if len(o.covers) == 1]


def _covered(
    work: Workload,
    options: Sequence[Option],
    wanted: Mapping[str, float],
    parts: Mapping[str, Sequence[str]],
    name: str,
    tried: int,
) -> Solution:
    made = columns(work, options, list(wanted), parts)
    found = cover(made, list(wanted.values()), rooms(work), tried=tried)
    return _solution(name, options, found)


def replicas(work: Workload, made: Candidates) -> Solution:
    """The baseline: as many nodes as are needed, that all serve everything alike."""
    encoders = {e.name for e in work.encoders}
    wanted = {m.name: demand(work)[m.name] for m in work.answering}
    nodes = [
        one
        for pool in open_pools(work)
        if (one := node(pool, _whole(made.options, pool.name, encoders, wanted), wanted))
    ]
    pools = {pool.name: pool for pool in work.pools}
    found = cover(
        [Column(i, 1, _node_price(work, n), (n.part,)) for i, n in enumerate(nodes)],
        [1.0],
        [Room(((1, pools[n.pool].count // n.chips),)) for n in nodes],
        tried=_TRIED,
    )
    return _alike(found, nodes)


def _whole(
    options: Sequence[Option], pool: str, encoders: set[str], models: Mapping[str, float]
) -> dict[str, list[Option]]:
    """The options of a pool that leave nothing to others, by model."""
    found: dict[str, list[Option]] = {name: [] for name in models}
    for option in options:
        if option.pool == pool and option.does == "all" and encoders <= set(option.covers):
            found[option.model].append(option)
    return found


def _node_price(work: Workload, found: Node) -> int:
    pool = next(p for p in work.pools if p.name == found.pool)
    if work.goal.minimise == "latency":
        return sum(n * price(work, o.chips, o, pool) for o, n in found.holds)
    return price(work, found.chips, None, pool)


def _alike(found: Cover, nodes: Sequence[Node]) -> Solution:
    used = tuple((n, count) for n, count in zip(nodes, found.counts, strict=True) if count)
    return Solution(
        name="replicas",
        taken=tuple(Taken(o, k * count) for n, count in used for o, k in n.holds),
        chips={n.pool: n.chips * count for n, count in used},
        cost=found.cost,
        gap=found.gap,
        nodes=used,
    )


def _solution(name: str, options: Sequence[Option], found: Cover) -> Solution:
    taken = tuple(Taken(o, n) for o, n in zip(options, found.counts, strict=True) if n)
    chips: dict[str, int] = {}
    for each in taken:
        pool = each.option.pool
        chips[pool] = chips.get(pool, 0) + each.replicas * each.option.chips
    return Solution(name=name, taken=taken, chips=chips, cost=found.cost, gap=found.gap)
