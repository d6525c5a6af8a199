"""Replays a mind over recorded outcomes: the real loop and policies, only the members are tape."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bicameral.errors import ConfigError, ModelError
from bicameral.evals.clock import Virtual
from bicameral.evals.recorded import NotRecorded, Playback, Tape
from bicameral.left.mind import Mind
from bicameral.left.outcomes import Outcomes
from bicameral.left.policy import Estimate, Estimator, Policy
from bicameral.types import Call, Card, Done, Request, total_cost

Floats = NDArray[np.float64]
Indices = NDArray[np.intp]
Learn = Callable[[Outcomes], tuple[Policy, Estimator]]


@dataclass(frozen=True)
class Replayed:
    """What became of each prompt: arrays over prompts, NaN where the table does not say.

    `cost` is in dollars and covers every call; `seconds` is how long the user waited, members
    asked together counting as the slowest; `by` names the member whose answer counted, "" where
    none answered.
    """

    quality: Floats
    cost: Floats
    seconds: Floats
    calls: Floats
    expected: Floats
    by: NDArray[np.object_]

    def rows(self, keep: NDArray[Any]) -> Replayed:
        """Only these prompts: indices or a mask."""
        return Replayed(**{name: getattr(self, name)[keep] for name in _FIELDS})


_FIELDS = ("quality", "cost", "seconds", "calls", "expected", "by")


def graded(outcomes: Outcomes) -> Floats:
    """P x M: whether each answer is right, by gold where that and the answer are recorded.

    Else the recorded score; NaN where there is no outcome.
    """
    grades = outcomes.score.copy()
    for row, gold in enumerate(outcomes.gold):
        if gold is None:
            continue
        for column, answer in enumerate(outcomes.answer[row]):
            if answer is not None and not math.isnan(grades[row, column]):
                grades[row, column] = float(answer == gold)
    return grades


def replay(
    outcomes: Outcomes,
    policy: Policy,
    estimator: Estimator,
    members: Sequence[str] | None = None,
) -> Replayed:
    """What `policy` over `members` (by default all) would have answered, prompt by prompt.

    A prompt that no asked member has an outcome for counts as wrong and free.
    """
    if members is not None:
        outcomes = outcomes.only(members)
    tape = Tape(outcomes)
    mind = Mind("replay", policy, tape.members(), estimator=estimator, reader=Playback(tape))
    with asyncio.Runner(loop_factory=Virtual) as runner:
        try:
            rows = runner.run(_all(mind, tape))
        except* NotRecorded as errors:
            raise ConfigError(f"{policy.name} cannot be replayed: {_first(errors)}") from errors
    return _joined(rows, tape)


def splits(outcomes: Outcomes, folds: int, seed: int) -> list[tuple[Indices, Indices]]:
    """Training and held-out prompts of each fold; equal wording is on one side only."""
    fold = outcomes.folds(folds, seed)
    parts = [(np.flatnonzero(fold != k), np.flatnonzero(fold == k)) for k in range(folds)]
    if any(not len(train) or not len(test) for train, test in parts):
        raise ConfigError(f"{len(fold)} prompts are too few for {folds} folds: add some")
    return parts


def crossval(outcomes: Outcomes, learn: Learn, folds: int = 5, seed: int = 0) -> Replayed:
    """Each prompt replayed with what was learned from the other folds, in the table's order."""

    def fitted(train: Outcomes, test: Outcomes) -> Replayed:
        policy, estimator = learn(train)
        return replay(test, policy, estimator)

    return crossed(outcomes, fitted, folds, seed)


def crossed(
    outcomes: Outcomes, fitted: Callable[[Outcomes, Outcomes], Replayed], folds: int, seed: int
) -> Replayed:
    """`fitted(training, held out)` of each fold, in the table's order."""
    parts = splits(outcomes, folds, seed)
    found = [fitted(outcomes.rows(train), outcomes.rows(test)) for train, test in parts]
    return joined(found).rows(np.argsort(np.concatenate([test for _, test in parts])))


class Remembered:
    """An Estimator that works out a prompt's estimates once, for all policies replayed with it.

    For one table and one set of members: prompts are told apart by their ids alone.
    """

    def __init__(self, estimator: Estimator) -> None:
        self._estimator = estimator
        self._by_id: dict[str, Mapping[str, Estimate]] = {}
        self.digest = estimator.digest

    def estimate(self, request: Request, cards: Sequence[Card]) -> Mapping[str, Estimate]:
        """What the estimator within said of this prompt."""
        if request.id not in self._by_id:
            self._by_id[request.id] = self._estimator.estimate(request, cards)
        return self._by_id[request.id]


def estimated(outcomes: Outcomes, estimator: Estimator) -> Floats:
    """P x M: the probability of being right that the estimator gives each member beforehand."""
    tape = Tape(outcomes)
    cards = [member.card for member in tape.members()]
    rows = []
    for row in range(len(outcomes.ids)):
        expected = estimator.estimate(tape.request(row), cards)
        rows.append([expected[name].quality for name in outcomes.models])
    return np.array(rows)


def joined(parts: Sequence[Replayed]) -> Replayed:
    """One after the other."""
    whole = {name: np.concatenate([getattr(part, name) for part in parts]) for name in _FIELDS}
    return Replayed(**whole)


def _first(error: BaseException) -> BaseException:
    return _first(error.exceptions[0]) if isinstance(error, BaseExceptionGroup) else error


async def _all(mind: Mind, tape: Tape) -> list[tuple[Done | ModelError, float]]:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, Virtual)
    rows = []
    for row in range(len(tape.outcomes.ids)):
        loop.restart()
        rows.append((await _one(mind, tape, row), loop.time()))
    return rows


async def _one(mind: Mind, tape: Tape, row: int) -> Done | ModelError:
    try:
        async with aclosing(mind.run(tape.request(row))) as events:
            async for event in events:
                if isinstance(event, Done):
                    return event
    except ModelError as error:
        return error
    raise AssertionError("a mind ends with Done")


def _joined(rows: Sequence[tuple[Done | ModelError, float]], tape: Tape) -> Replayed:
    grades = graded(tape.outcomes)
    quality, cost, seconds, calls, expected, by = [], [], [], [], [], []
    for row, (end, took) in enumerate(rows):
        name = end.by if isinstance(end, Done) else ""
        quality.append(grades[row, tape.columns[name]] if name else 0.0)
        total = total_cost(end.calls)
        cost.append(math.nan if total is None else total / 1e9)
        seconds.append(math.nan if any(c.seconds is None for c in end.calls) else took)
        calls.append(float(sum(_answered(call) for call in end.calls)))
        stated = end.decisions[0].quality if isinstance(end, Done) else None
        expected.append(math.nan if stated is None else stated)
        by.append(name)
    return Replayed(
        quality=np.array(quality),
        cost=np.array(cost),
        seconds=np.array(seconds),
        calls=np.array(calls),
        expected=np.array(expected),
        by=np.array(by, dtype=object),
    )


def _answered(call: Call) -> bool:
    return call.error is None
