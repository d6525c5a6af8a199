"""What a mind has to beat, computed on the very prompts it is measured on.

Best single member and oracle know these prompts' outcomes, which flatters them; the category table
and the majority are chosen on the other folds, as a mind is. Without an outcome a member is wrong
and free, as in replay.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bicameral.evals.replay import Floats, Indices, Replayed, crossed, graded
from bicameral.left.outcomes import Outcomes

# How many members a plain majority may have; and all of them.
_SIZES = (3, 5, 7, 9, 11)


def baselines(outcomes: Outcomes, folds: int = 5, seed: int = 0) -> dict[str, Replayed]:
    """By name, in the order of a report; those the table has no columns for are left out."""
    best = outcomes.models[best_member(outcomes)]
    found = {f"best single ({best})": single(outcomes, best), "random": random(outcomes)}
    if any(category is not None for category in outcomes.categories):
        found["category table"] = crossed(outcomes, category_table, folds, seed)
    answered = any(answer is not None for answer in outcomes.answer.flat)
    if answered and len(outcomes.models) >= min(_SIZES):
        found["majority of the best"] = crossed(outcomes, majority_of_best, folds, seed)
    found["oracle"] = oracle(outcomes)
    return found


def best_member(outcomes: Outcomes) -> int:
    """The column of the member with the highest mean."""
    return int(_means(outcomes).argmax())


def single(outcomes: Outcomes, model: str) -> Replayed:
    """One member answers everything."""
    return _picked(outcomes, np.full(len(outcomes.ids), outcomes.models.index(model)))


def random(outcomes: Outcomes) -> Replayed:
    """The expectation of asking a recorded member at random."""
    there = ~np.isnan(outcomes.score)
    count = np.maximum(there.sum(axis=1), 1)

    def mean(values: Floats) -> Floats:
        averaged: Floats = np.where(there, values, 0.0).sum(axis=1) / count
        return averaged

    return _replayed(
        quality=mean(graded(outcomes)),
        cost=mean(outcomes.cost),
        seconds=mean(outcomes.seconds),
        calls=there.any(axis=1).astype(float),
        by=np.full(len(outcomes.ids), "", dtype=object),
    )


def oracle(outcomes: Outcomes) -> Replayed:
    """The cheapest of the best members of each prompt: nobody who picks one member does better."""
    grades = np.where(np.isnan(outcomes.score), -1.0, graded(outcomes))
    best = grades == grades.max(axis=1, keepdims=True)
    cost = np.where(best, np.nan_to_num(outcomes.cost, nan=np.inf), np.inf)
    cheapest = best & (cost == cost.min(axis=1, keepdims=True))
    return _picked(outcomes, cheapest.argmax(axis=1))


def category_table(train: Outcomes, test: Outcomes) -> Replayed:
    """The best member of each category; of all, where training knows no such category."""
    names = np.array(train.categories, dtype=object)
    table = {
        name: best_member(train.rows(names == name)) for name in dict.fromkeys(train.categories)
    }
    overall = best_member(train)
    return _picked(test, np.array([table.get(name, overall) for name in test.categories]))


def majority_of_best(train: Outcomes, test: Outcomes) -> Replayed:
    """A plain majority of the best members, as many as did best in training."""
    order = np.argsort(-_means(train), kind="stable")
    sizes = sorted({size for size in (*_SIZES, len(order)) if min(_SIZES) <= size <= len(order)})
    best = max(sizes, key=lambda size: majority(train, order[:size]).quality.mean())
    return majority(test, order[:best])


def majority(outcomes: Outcomes, columns: Indices) -> Replayed:
    """One member one vote; of tied answers that of the member named first."""
    some = outcomes.only([outcomes.models[column] for column in columns])
    codes = _codes(some.answer)
    votes = (codes[:, :, None] == codes[:, None, :]).sum(axis=2)
    there = ~np.isnan(some.score)
    votes = np.where(there, np.where(codes < 0, 0, votes), -1)
    chosen = _picked(some, votes.argmax(axis=1))
    return _replayed(
        quality=chosen.quality,
        cost=np.where(there, some.cost, 0.0).sum(axis=1),
        seconds=np.where(there, some.seconds, 0.0).max(axis=1),
        calls=there.sum(axis=1).astype(float),
        by=chosen.by,
    )


def _codes(answers: NDArray[np.object_]) -> NDArray[np.intp]:
    """Equal numbers for equal answers; no answer equals nothing else, and is negative."""
    known: dict[Any, int] = {}
    flat = [
        -1 - place if answer is None else known.setdefault(answer, len(known))
        for place, answer in enumerate(answers.flat)
    ]
    return np.array(flat, dtype=np.intp).reshape(answers.shape)


def _means(outcomes: Outcomes) -> Floats:
    means: Floats = np.nan_to_num(graded(outcomes)).mean(axis=0)
    return means


def _picked(outcomes: Outcomes, columns: Indices) -> Replayed:
    """One member a prompt; nothing where it has no outcome."""
    cells = np.arange(len(columns)), columns
    there = ~np.isnan(outcomes.score[cells])
    names = np.array(outcomes.models, dtype=object)[columns]
    return _replayed(
        quality=np.where(there, graded(outcomes)[cells], 0.0),
        cost=np.where(there, outcomes.cost[cells], 0.0),
        seconds=np.where(there, outcomes.seconds[cells], 0.0),
        calls=there.astype(float),
        by=np.where(there, names, ""),
    )


def _replayed(**arrays: Any) -> Replayed:
    return Replayed(expected=np.full(len(arrays["quality"]), math.nan), **arrays)
