"""The baseline of every plan: nodes that all serve everything alike, as many as are needed.

The chips of a node are divided among the models so that the node takes the most of the mix; nodes
of another kind may divide theirs otherwise. Encoders run beside the models that they serve.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise

import msgspec

from bicameral.chips.layouts import Option
from bicameral.chips.workload import Pool


class Node(msgspec.Struct, frozen=True):
    """What one node of a pool runs: options and how often; `part` of the whole load it takes."""

    pool: str
    chips: int
    holds: tuple[tuple[Option, int], ...]
    part: float


def node(
    pool: Pool, options: Mapping[str, Sequence[Option]], demand: Mapping[str, float]
) -> Node | None:
    """The node that takes the largest part of `demand` (a second, by model); None: it cannot."""
    chips = min(pool.per_node, pool.count)
    if not chips or not all(options.get(name) for name in demand):
        return None
    ways = {name: _fill(options[name], chips) for name in demand}
    best: Node | None = None
    for given in _divisions(chips, len(demand)):
        made = _node(pool, chips, ways, demand, given)
        if made.part > (best.part if best else 0.0):
            best = made
    return best


_Holds = tuple[float, tuple[tuple[Option, int], ...]]


def _node(
    pool: Pool,
    chips: int,
    ways: Mapping[str, Sequence[_Holds]],
    demand: Mapping[str, float],
    given: Sequence[int],
) -> Node:
    taken = [ways[name][n] for name, n in zip(demand, given, strict=True)]
    part = min(rate / d for (rate, _), d in zip(taken, demand.values(), strict=True))
    return Node(pool.name, chips, tuple(held for _, holds in taken for held in holds), part)


def _divisions(chips: int, parts: int) -> Iterator[tuple[int, ...]]:
    """Every way to give all chips to `parts` models, at least one each."""
    from itertools import combinations

    for cuts in combinations(range(1, chips), parts - 1):
        yield tuple(b - a for a, b in pairwise((0, *cuts, chips)))


def _fill(options: Sequence[Option], chips: int) -> list[_Holds]:
    """The most that 0, 1, ... `chips` chips take, and of what."""
    best: list[tuple[float, dict[int, int]]] = [(0.0, {})]
    for n in range(1, chips + 1):
        top = best[n - 1]
        for i, option in enumerate(options):
            if option.chips <= n:
                rate, held = best[n - option.chips]
                if rate + option.planned() > top[0]:
                    top = (rate + option.planned(), {**held, i: held.get(i, 0) + 1})
        best.append(top)
    return [(rate, tuple((options[i], k) for i, k in held.items())) for rate, held in best]
