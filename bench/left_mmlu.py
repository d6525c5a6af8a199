"""MMLU-Pro: minds learned on four folds, replayed on the fifth, as Markdown.

    python bench/left_mmlu.py [A] [B] [C] [D] [A-cascade] [--again]

Pools: A everybody but gemini-3.1-pro, B everybody (one dominates), C five Chinese open models,
D without GPT-4o too, against which it is measured; A-cascade has cascades over A. `--again`:
answers as the product reads them from the recorded texts, for the 12 members that have texts. Folds
go by the wording of the question, without its options. The folder of the data is named by
BICAMERAL_DATA.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Mapping
from dataclasses import replace

os.environ.setdefault("OMP_NUM_THREADS", "1")

import left_data
import numpy as np
from left_more import Mind

from bicameral.evals.baselines import baselines
from bicameral.evals.metrics import difference
from bicameral.evals.replay import Remembered, Replayed, graded, joined, replay
from bicameral.evals.report import lines, markdown
from bicameral.left.learn import learn
from bicameral.left.outcomes import Outcomes, fold

# What a right answer may be worth, in dollars, from thrift to quality alone.
WORTHS = (0.002, 0.005, 0.01, 0.02, 0.035, 0.06, 0.1, 0.2, 0.35, 0.7, 1.5, 5.0)
POOLS: Mapping[str, tuple[str, Mapping[str, Mind]]] = {
    "A": (
        "without gemini-3.1-pro",
        {
            "vote": Mind("vote"),
            "auto": Mind("auto"),
            "vote, at most the best's cost": Mind("vote", WORTHS, share=1.0),
            "auto, half the best's cost": Mind("auto", WORTHS, share=0.5),
            "auto, 15 % of the best's cost": Mind("auto", WORTHS, share=0.15),
            "route": Mind("route"),
        },
    ),
    "A-cascade": (
        "without gemini-3.1-pro, by cascades",
        {
            "cascade, 15 % of the best's cost": Mind("cascade", WORTHS, share=0.15),
            "cascade, half the best's cost": Mind("cascade", WORTHS, share=0.5),
        },
    ),
    "B": (
        "with gemini-3.1-pro, which dominates",
        {
            "auto": Mind("auto"),
            "vote": Mind("vote"),
            "vote, 98 % of the best's cost": Mind("vote", WORTHS, share=0.98),
        },
    ),
    "C": (
        "five Chinese open models",
        {"vote": Mind("vote"), "auto": Mind("auto"), "route": Mind("route")},
    ),
    "D": (
        "without gemini-3.1-pro and GPT-4o",
        {
            "vote": Mind("vote"),
            "auto": Mind("auto"),
            "auto, at most $1.40": Mind("auto", WORTHS, budget=0.0014),
        },
    ),
}


def crossed(outcomes: Outcomes, minds: Mapping[str, Mind]) -> dict[str, Replayed]:
    """Each mind on every prompt, learned from the other folds.

    Budgets are tried on prompts that were learned from, as there are thousands.
    """
    folds = np.array([fold(left_data.question(prompt)) for prompt in outcomes.prompts])
    parts: dict[str, list[Replayed]] = {name: [] for name in minds}
    for k in range(5):
        train, test = outcomes.rows(folds != k), outcomes.rows(folds == k)
        learned = learn(train)
        estimator = Remembered(learned.estimator())
        some = train.rows(np.arange(0, len(train.ids), 12))
        best = float(np.nanmean(train.cost[:, np.nanmean(train.score, axis=0).argmax()]))
        for name, mind in minds.items():
            if mind.share is not None:
                mind = replace(mind, share=None, budget=mind.share * best)
            policy = learned.policy(mind.policy, mind.worth(learned, some))
            parts[name].append(replay(test, policy, estimator))
    back = np.argsort(np.concatenate([np.flatnonzero(folds == k) for k in range(5)]))
    return {name: joined(part).rows(back) for name, part in parts.items()}


def outsider(outcomes: Outcomes, again: bool) -> Replayed:
    """GPT-4o on the same prompts."""
    whole = left_data.mmlupro("A", again=again).only([left_data.GPT4O])
    place = {name: i for i, name in enumerate(whole.ids)}
    rows = [place[name] for name in outcomes.ids if name in place]
    ones = np.ones(len(rows))
    return Replayed(
        quality=graded(whole)[rows, 0],
        cost=whole.cost[rows, 0],
        seconds=np.full(len(rows), np.nan),
        calls=ones,
        expected=np.full(len(rows), np.nan),
        by=np.full(len(rows), left_data.GPT4O, dtype=object),
    )


def show(pool: str, again: bool) -> None:
    """The minds of a pool beside the baselines, on the same prompts."""
    title, minds = POOLS[pool]
    outcomes = left_data.mmlupro(pool[0], again=again)
    if pool == "D":
        known = set(left_data.mmlupro("A", again=again).ids)
        outcomes = outcomes.rows(np.array([name in known for name in outcomes.ids]))
    began = time.perf_counter()
    runs = baselines(outcomes)
    if pool == "D":
        runs |= {"GPT-4o (outsider)": outsider(outcomes, again)}
    found = crossed(outcomes, minds)
    took = time.perf_counter() - began
    read = ", answers read again" if again else ""
    print(f"\n### MMLU-Pro {title}{read}: {len(outcomes.ids)} prompts", end="")
    print(f" x {len(outcomes.models)} members ({took:.0f} s)\n\n{markdown(lines(runs | found))}")
    if pool == "D":
        for name, run in found.items():
            gain = difference(run.quality, runs["GPT-4o (outsider)"].quality)
            share = run.cost.mean() / runs["GPT-4o (outsider)"].cost.mean()
            print(
                f"- {name} against GPT-4o: {100 * gain.mean:+.2f} points "
                f"[{100 * gain.low:+.2f}, {100 * gain.high:+.2f}], {100 * share:.1f} % of its cost"
            )
    print(flush=True)


def main() -> None:
    """All pools, or those that were named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pools", nargs="*", choices=[[], *POOLS], help="all if none is named")
    parser.add_argument("--again", action="store_true", help="read the answers again")
    asked = parser.parse_args()
    try:
        for pool in asked.pools or POOLS:
            show(pool, asked.again)
    except left_data.Missing as error:
        print(f"MMLU-Pro: {error}")


if __name__ == "__main__":
    main()
