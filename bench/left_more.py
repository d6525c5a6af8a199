"""ZeroEval, BFCL and SWE-bench: minds learned on four folds, replayed on the fifth, as Markdown.

    python bench/left_more.py [zeroeval] [bfcl] [swebench] [--draws 3]

The folder of the data is named by BICAMERAL_DATA. A budget is kept on the training folds: of the
values a right answer may have, the highest is taken that costs no more on a third of them, with
what was learned from the other two thirds.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

os.environ.setdefault("OMP_NUM_THREADS", "1")

import left_data
import numpy as np

from bicameral.evals.baselines import baselines
from bicameral.evals.metrics import difference, interval
from bicameral.evals.replay import Replayed, joined, replay, splits
from bicameral.evals.report import lines, markdown
from bicameral.left.learn import learn
from bicameral.left.learned import Learned
from bicameral.left.outcomes import Outcomes
from bicameral.left.worth import Worth

NANO = 10**9
CALL = 1e-3  # where no price is known a call counts as a tenth of a cent
VERIFIERS = (0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 1.0)


@dataclass(frozen=True)
class Mind:
    """A learned policy. `worths`: dollars a right answer may be worth, rising.

    `budget`: dollars a prompt, or a `share` of what the best single member costs, which the caller
    makes a budget; without one the only worth is taken, None being quality alone.
    """

    policy: str
    worths: Sequence[float | None] = (None,)
    budget: float | None = None
    share: float | None = None

    def worth(self, trial: Learned, held: Outcomes) -> Worth:
        """The highest worth that keeps the budget on prompts that `trial` has not seen.

        Costs rise with it. On prompts that were learned from they would look too low.
        """
        if self.budget is None:
            return _worth(self.worths[-1])
        low, high = 0, len(self.worths)
        while high - low > 1:
            middle = (low + high) // 2
            policy = trial.policy(self.policy, _worth(self.worths[middle]))
            dear = replay(held, policy, trial.estimator()).cost.mean() > self.budget
            low, high = (low, middle) if dear else (middle, high)
        return _worth(self.worths[low])


def _worth(dollars: float | None) -> Worth:
    return Worth(worth=None if dollars is None else round(dollars * NANO))


def crossed(outcomes: Outcomes, minds: Mapping[str, Mind], folds: int = 5) -> dict[str, Replayed]:
    """Each mind on every prompt, always learned from the other folds."""
    parts: dict[str, list[Replayed]] = {name: [] for name in minds}
    order = []
    for train, held in splits(outcomes, folds, 0):
        seen, test = outcomes.rows(train), outcomes.rows(held)
        learned = learn(seen)
        inner = seen.folds(3, 1)
        trial = learn(seen.rows(inner != 0))
        for name, mind in minds.items():
            policy = learned.policy(mind.policy, mind.worth(trial, seen.rows(inner == 0)))
            parts[name].append(replay(test, policy, learned.estimator()))
        order.append(held)
    back = np.argsort(np.concatenate(order))
    return {name: joined(part).rows(back) for name, part in parts.items()}


def show(title: str, outcomes: Outcomes, minds: Mapping[str, Mind]) -> None:
    """The minds beside the baselines, on the same prompts."""
    start = time.perf_counter()
    runs = baselines(outcomes) | crossed(outcomes, minds)
    took = time.perf_counter() - start
    print(f"\n### {title}: {len(outcomes.ids)} prompts x {len(outcomes.models)} members", end="")
    print(f" ({took:.0f} s)\n\n{markdown(lines(runs))}", flush=True)


def zeroeval() -> None:
    """Every call costs the same, so $ per 1,000 is calls a prompt."""
    rising = [CALL * factor for factor in (5, 15, 50, 150, 500, 1500)]
    minds = {
        "auto, at most 3 calls": Mind("auto", rising, budget=3 * CALL),
        "auto, at most 6 calls": Mind("auto", rising, budget=6 * CALL),
        "vote, at most 6 calls": Mind("vote", rising, budget=6 * CALL),
        "auto": Mind("auto"),
    }
    for task in ("math-l5", "crux", "gsm"):
        outcomes = left_data.zeroeval(task)
        outcomes = replace(outcomes, cost=np.where(np.isnan(outcomes.score), np.nan, CALL))
        show(f"ZeroEval {task}, no o1, a call costs {CALL}", outcomes, minds)


def bfcl() -> None:
    """Tool calls; costs at list prices. The best single member costs $2.26 per 1,000.

    Budgets are in dollars per 1,000: which member is best, and its price, differs between folds.
    """
    rising = [0.001, 0.003, 0.01, 0.03, 0.05, 0.07, 0.1, 0.15, 0.2, 0.3]
    minds = {
        "auto, at most $0.56": Mind("auto", rising, budget=0.00056),
        "auto, at most $1.13": Mind("auto", rising, budget=0.00113),
        "auto, at most $2.26": Mind("auto", rising, budget=0.00226),
        "cascade, at most $1.13": Mind("cascade", rising, budget=0.00113),
        "auto": Mind("auto"),
    }
    show("BFCL", left_data.bfcl(), minds)


def checked(outcomes: Outcomes, accuracy: float, draw: int) -> Outcomes:
    """With a simulated verifier: right about each answer with probability `accuracy`.

    Right and wrong answers are misjudged equally often, each on its own; a verdict is free.
    """
    right = np.random.default_rng(draw).random(outcomes.score.shape) < accuracy
    verdict = np.where(right, outcomes.score, 1 - outcomes.score)
    return replace(outcomes, checked=verdict)


def swebench(draws: int) -> None:
    """A cascade over agents whose answers a simulated verifier judges, by its accuracy."""
    outcomes = left_data.swebench()
    rising = [float(value) for value in (1, 2, 4, 8, 12, 16, 24, 32, 48, 64)]
    minds = {
        "cascade within $0.36": Mind("cascade", rising, budget=0.36),
        "cascade within $0.72": Mind("cascade", rising, budget=0.72),
        "auto within $0.36": Mind("auto", rising, budget=0.36),
    }
    print(f"\n### SWE-bench: {len(outcomes.ids)} issues x {len(outcomes.models)} members", end="")
    route = {"route within $0.36, no verifier": Mind("route", rising, budget=0.36)}
    runs = baselines(outcomes) | crossed(outcomes, route)
    print(f"\n\n{markdown(lines(runs))}", flush=True)
    print(
        f"Verifier right with probability s, mean of {draws} draws; the interval is over issues:\n"
    )
    print(
        "| s | mind | quality % | against best single | $ per issue | calls |\n" + "|---" * 6 + "|"
    )
    best = next(iter(runs.values()))
    for accuracy in VERIFIERS:
        found = [crossed(checked(outcomes, accuracy, draw), minds) for draw in range(draws)]
        for name in minds:
            print(_sweep(accuracy, name, [run[name] for run in found], best), flush=True)


def _sweep(accuracy: float, name: str, runs: Sequence[Replayed], best: Replayed) -> str:
    quality = np.mean([run.quality for run in runs], axis=0)
    reached, gain = interval(quality), difference(quality, best.quality)
    cost = np.mean([run.cost.mean() for run in runs])
    calls = np.mean([run.calls.mean() for run in runs])
    return (
        f"| {accuracy:.2f} | {name} "
        f"| {100 * reached.mean:.1f} [{100 * reached.low:.1f}, {100 * reached.high:.1f}] "
        f"| {100 * gain.mean:+.1f} [{100 * gain.low:+.1f}, {100 * gain.high:+.1f}] "
        f"| {cost:.3f} | {calls:.2f} |"
    )


def main() -> None:
    """Everything, or the parts that were named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", help="zeroeval, bfcl, swebench; all if none is named")
    parser.add_argument("--draws", type=int, default=1, help="of the simulated verifier")
    asked = parser.parse_args()
    parts: dict[str, Callable[[], None]] = {
        "zeroeval": zeroeval,
        "bfcl": bfcl,
        "swebench": lambda: swebench(asked.draws),
    }
    unknown = set(asked.parts) - set(parts)
    if unknown:
        parser.error(f"no part {', '.join(sorted(unknown))}: there are {', '.join(parts)}")
    for name in asked.parts or parts:
        try:
            parts[name]()
        except left_data.Missing as error:
            print(f"{name}: {error}")


if __name__ == "__main__":
    main()
