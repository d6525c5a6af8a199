"""A cross-validated study of one table: learned policies and baselines on the same prompts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from bicameral.evals.baselines import baselines, single
from bicameral.evals.frontier import Point
from bicameral.evals.replay import Floats, Remembered, Replayed, estimated, joined, replay, splits
from bicameral.left.outcomes import Outcomes
from bicameral.left.policy import Estimator, Policy
from bicameral.left.worth import Worth, dollars


class Taught(Protocol):
    """What was learned from one part of a table."""

    def policy(self, name: str, worth: Worth | None = None) -> Policy:
        """The policy called `name`, for what a right answer is worth."""
        ...

    def estimator(self) -> Estimator:
        """What it expects of each member."""
        ...


@dataclass(frozen=True)
class Study:
    """`runs` by name: the best single member first, the baselines, then `minds`.

    `minds` names the learned runs with their policy and worth. `estimates`, P x M, are the
    probabilities of being right that were given to each member before asking. Learned things
    always come from other folds than the prompt's.
    """

    outcomes: Outcomes
    folds: int
    seed: int
    runs: Mapping[str, Replayed]
    minds: Mapping[str, tuple[str, Worth]]
    estimates: Floats


def study(
    outcomes: Outcomes,
    learn: Callable[[Outcomes], Taught],
    policies: Sequence[str] = ("auto",),
    worths: Sequence[int | None] = (None,),
    *,
    folds: int = 5,
    seed: int = 0,
    said: Callable[[str], None] = lambda text: None,
) -> Study:
    """Learn on each training part, replay every policy at every worth (nano-dollars) on the rest.

    `said` hears what is being done.
    """
    wanted = [Worth(worth=worth) for worth in worths]
    minds = {_name(policy, worth): (policy, worth) for policy in policies for worth in wanted}
    parts: dict[str, list[Replayed]] = {name: [] for name in minds}
    guesses, order = [], []
    for k, (train, held) in enumerate(splits(outcomes, folds, seed), start=1):
        said(f"fold {k} of {folds}: learning")
        taught, test = learn(outcomes.rows(train)), outcomes.rows(held)
        estimator = Remembered(taught.estimator())
        guesses.append(estimated(test, estimator))
        order.append(held)
        for name, (policy, worth) in minds.items():
            said(f"fold {k} of {folds}: {name}")
            parts[name].append(replay(test, taught.policy(policy, worth), estimator))
    back = np.argsort(np.concatenate(order))
    runs = baselines(outcomes, folds, seed)
    runs |= {name: joined(part).rows(back) for name, part in parts.items()}
    return Study(outcomes, folds, seed, runs, minds, np.concatenate(guesses)[back])


def points(done: Study) -> list[Point]:
    """Every member, what is chosen between them, and each mind by its policy; not the oracle."""
    found = [_point(m, single(done.outcomes, m), "member") for m in done.outcomes.models]
    for name, run in done.runs.items():
        if name in done.minds:
            found.append(_point(name, run, done.minds[name][0]))
        elif name in ("category table", "majority of the best"):
            found.append(_point(name, run, "baseline"))
    return found


def _point(name: str, run: Replayed, kind: str) -> Point:
    return Point(name, float(run.cost.mean()) * 1000, float(run.quality.mean()), kind)


def _name(policy: str, worth: Worth) -> str:
    return policy if worth.worth is None else f"{policy}, right is worth {dollars(worth.worth)}"
