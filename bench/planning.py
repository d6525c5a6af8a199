"""How long a plan takes for 1,000 nodes of 8 mixed chips, and what its queues do when played.

python bench/planning.py [--times 3] [--seed 0]; the workload is bench/workloads/mixed.toml, at its
own million requests an hour and at many times that, where whole pools run out.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from time import perf_counter, process_time

import msgspec

from bicameral.chips.plan import describe, solve
from bicameral.chips.simulate import simulate
from bicameral.chips.workload import Workload
from bicameral.chips.workload_file import load
from bicameral.errors import ChipError

_WORKLOAD = Path(__file__).with_name("workloads") / "mixed.toml"
_TIMES = (1, 20, 100, 300)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    work = load(_WORKLOAD)
    chips = sum(pool.count for pool in work.pools)
    nodes = sum(pool.count // pool.per_node for pool in work.pools)
    print(f"{nodes:,} nodes, {chips:,} chips of {len(work.pools)} kinds, {len(work.models)} models")
    for times in _TIMES:
        for line in planned(work, times, given.times, given.seed):
            print(line)


def planned(work: Workload, times: int, repeats: int, seed: int) -> Iterator[str]:
    """Seconds of planning and playing at `times` the load, the best and the worst of repeats."""
    asked = work.load.requests_per_hour * times
    more = msgspec.structs.replace(
        work, load=msgspec.structs.replace(work.load, requests_per_hour=asked)
    )
    yield f"\n{asked:,.0f} requests an hour"
    seconds: list[tuple[float, float]] = []
    for _ in range(repeats):
        start, own = perf_counter(), process_time()
        try:
            solved = solve(more)
        except ChipError as error:
            yield f"  refused after {perf_counter() - start:.2f} s: {error}"
            return
        found = describe(more, solved)
        middle = perf_counter()
        played = simulate(more, solved.chosen, seed=seed)
        seconds.append((middle - start, perf_counter() - middle))
        busy = process_time() - own
    for name, place in (("plan", 0), ("simulation", 1)):
        took = [each[place] for each in seconds]
        yield f"  {name}: {min(took):.2f} to {max(took):.2f} s"
    yield f"  of one processor, both: {busy:.2f} s"
    used = ", ".join(f"{n:,} x {pool}" for pool, n in solved.chosen.chips.items())
    yield f"  {found.chosen}: {used}; gap {found.gap:.2%}"
    off = [abs(g.first.at / g.planned_first - 1) for g in played]
    at = f"p{work.goal.percentile:g} of the first token"
    yield f"  {at}, played against plan: off by {max(off):.0%}"
    for group in played:
        for line in group.fails:
            yield f"  {group.model} on {group.pool}: {line}"


if __name__ == "__main__":
    main()
