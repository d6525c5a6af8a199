"""A study in words: what its table of figures cannot show."""

from __future__ import annotations

import math

import numpy as np

from bicameral.evals.baselines import single
from bicameral.evals.metrics import gap, mean_auc, quality_cost_area, within_task_gain
from bicameral.evals.replay import graded
from bicameral.evals.study import Study
from bicameral.left.calibrate import brier, ece


def findings(done: Study) -> list[str]:
    """One sentence a finding; those the table has no columns for are left out."""
    return [
        _size(done),
        _estimates(done),
        *_stated(done),
        *_tasks(done),
        *_pair(done),
        *_area(done),
    ]


def _size(done: Study) -> str:
    outcomes = done.outcomes
    missing = float(np.isnan(outcomes.score).mean())
    gaps = f"; {missing:.1%} of outcomes are missing and count as wrong" if missing else ""
    return (
        f"{len(outcomes.ids):,} prompts, {len(outcomes.models)} members, {done.folds} folds by "
        f"wording, seed {done.seed}{gaps}. Brackets are 95 % intervals over prompts."
    )


def _estimates(done: Study) -> str:
    truth, guess = graded(done.outcomes), done.estimates
    return (
        f"Estimates before asking, on held-out prompts: AUC {mean_auc(guess, truth):.3f}, "
        f"Brier score {brier(guess, truth):.3f}, calibration error {ece(guess, truth):.3f}."
    )


def _stated(done: Study) -> list[str]:
    """How far a mind's own word on its answers can be trusted."""
    found = []
    for name in done.minds:
        run = done.runs[name]
        said = ~np.isnan(run.expected)
        if said.any():
            stated, right = run.expected[said], run.quality[said]
            found.append(
                f"{name}: says how likely it is right in {said.mean():.0%} of its answers, on "
                f"average {stated.mean():.1%} where {right.mean():.1%} are; calibration error "
                f"{ece(stated, right):.3f}."
            )
    return found


def _tasks(done: Study) -> list[str]:
    tasks = done.outcomes.categories
    if len(set(tasks)) < 2:
        return []
    grades = graded(done.outcomes)
    gains = {n: within_task_gain(done.runs[n].quality, grades, tasks) for n in done.minds}
    return [
        f"{name}: within-task gain {100 * gain:+.1f} points, against the best member of each of "
        f"{len(set(tasks))} tasks."
        for name, gain in gains.items()
    ]


def _pair(done: Study) -> list[str]:
    """Two members: what sending the harder prompts to the stronger recovers (RouteLLM)."""
    if len(done.outcomes.models) != 2:
        return []
    grades = np.nan_to_num(graded(done.outcomes))
    strong, weak = np.argsort(-grades.mean(axis=0), kind="stable")
    if grades[:, strong].mean() == grades[:, weak].mean():
        return []
    score = done.estimates[:, strong] - done.estimates[:, weak]
    curve = gap(grades[:, strong], grades[:, weak], score)
    return [
        f"Of the two, {done.outcomes.models[strong]} for the prompts where it is expected to gain "
        f"most: APGR {curve.apgr:.3f}, CPT(50 %) {curve.cpt(50):.1f} %, CPT(80 %) "
        f"{curve.cpt(80):.1f} %."
    ]


def _area(done: Study) -> list[str]:
    """Several worths of one policy make a quality-cost curve."""
    members = [
        (run.cost.mean(), run.quality.mean())
        for run in (single(done.outcomes, name) for name in done.outcomes.models)
    ]
    costs = {cost for cost, _ in members}
    if len(costs) < 2 or any(math.isnan(cost) for cost in costs):
        return []
    found = []
    for policy in dict.fromkeys(policy for policy, _ in done.minds.values()):
        runs = [done.runs[name] for name, (kind, _) in done.minds.items() if kind == policy]
        if len(runs) > 1:
            curve = [(run.cost.mean(), run.quality.mean()) for run in runs]
            area = quality_cost_area(curve, members)
            found.append(f"{policy}: mean height of its quality-cost curve {100 * area:.1f} %.")
    return found
