"""Learns from outcomes who is good at what, how to weigh votes, and which combinations pay.

Estimates, vote weights and panels are made anew for each fold of the outcomes, so that what they
reach is judged on prompts they were not fitted on, then once more from all of them. Two things are
shared by all folds, being a few numbers for all members together: the ballot's score of "none is
right" and what agreement adds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bicameral.left.ahead import fit_ahead
from bicameral.left.fit import fit_scores, out_of_fold
from bicameral.left.learned import Arm, Learned, Member
from bicameral.left.outcomes import Outcomes
from bicameral.left.panel import Field, Panel, apply_bars, frontier, play
from bicameral.left.table import check_learnable
from bicameral.left.tally import fit_ballot, given, heard_weights

Floats = NDArray[np.float64]

LEAST = 50
_VOTERS = 12
_FOLDS = 3
# What a right answer is worth, in calls of the dearest member: from thrift to quality alone.
_WORTHS = (0.5, 1.5, 5.0, 15.0, 50.0, 150.0, 500.0)
_LEANS = (0.0, 0.25, 0.5, 0.75, 1.0)


def learn(outcomes: Outcomes, seed: int = 0) -> Learned:
    """Scores, ballot and arms from `outcomes`; the same table and seed give the same.

    Raises ConfigError if there are too few prompts, or nothing to tell apart.
    """
    from threadpoolctl import threadpool_limits

    check_learnable(outcomes, LEAST)
    # One thread: sums in another order would teach something else, and threads that wait for one
    # another on a busy machine take tenfold.
    with threadpool_limits(1):
        return _learned(outcomes, seed)


def _learned(outcomes: Outcomes, seed: int) -> Learned:
    quality, topics, _ = out_of_fold(outcomes, seed=seed)
    voters = _voters(outcomes)
    columns = [outcomes.models.index(name) for name in voters]
    table = outcomes.only(voters)
    ballot, weights = fit_ballot(table, quality[:, columns], topics, seed)
    field = _field(table, quality[:, columns], topics, seed)
    field = replace(field, none=np.array(ballot.none), agree=np.array(ballot.agree))
    arms, tried = _arms(table, field, seed)
    whole = _with(outcomes, arms, tried)
    return Learned(
        scores=fit_scores(whole, seed),
        ballot=ballot,
        weights=weights,
        members=tuple(_member(outcomes, m) for m in range(len(outcomes.models))),
        arms=arms,
        tells=_tells(field),
        ahead=fit_ahead(field, quality[:, columns], seed),
        lean=_lean(whole, arms, seed),
        prompts=len(outcomes.ids),
    )


def _voters(outcomes: Outcomes) -> list[str]:
    """Who may vote: members that no cheaper one beats, then the best, in the table's order."""
    mean = _means(outcomes.score)
    price = _unit(outcomes)
    order = np.lexsort((-mean, price))
    best, chosen = -1.0, set()
    for m in order:
        if mean[m] > best:
            best = mean[m]
            chosen.add(int(m))
    front = sorted(chosen, key=lambda m: -mean[m])[: _VOTERS // 2]
    rest = [int(m) for m in np.argsort(-mean, kind="stable") if m not in front]
    kept = {*front, *rest[: _VOTERS - len(front)]}
    return [name for m, name in enumerate(outcomes.models) if m in kept]


def _field(table: Outcomes, quality: Floats, topics: Floats, seed: int) -> Field:
    """The answers with weights from ballots that had not seen their prompt."""
    folds = table.folds(_FOLDS, seed + 1)
    weights = np.zeros(table.score.shape)
    for k in np.unique(folds):
        out, rest = np.flatnonzero(folds == k), np.flatnonzero(folds != k)
        ballot, vote = fit_ballot(table.rows(rest), quality[rest], topics[rest], seed)
        weights[out] = heard_weights(ballot, vote(quality[out], topics[out]), table.rows(out))
    return Field(given(table), weights, np.zeros(1), _costs(table), np.zeros((1, 1)))


def _arms(table: Outcomes, field: Field, seed: int) -> tuple[tuple[Arm, ...], list[Panel]]:
    """A panel for each trade-off, with what the way it was found reaches on other prompts."""
    if len(table.models) < 2:
        return (), []
    top = float(_means(field.cost).max())
    worths = [w * top for w in _WORTHS]
    folds = table.folds(_FOLDS, seed + 1)
    held: list[list[tuple[NDArray[np.intp], Panel]]] = [[] for _ in worths]
    for k in np.unique(folds):
        out, rest = np.flatnonzero(folds == k), np.flatnonzero(folds != k)
        for i, panel in enumerate(frontier(field.rows(rest), worths, seed)):
            held[i].append((out, apply_bars(field.rows(out), panel.order, panel.bars)))
    arms: list[Arm] = []
    tried: list[Panel] = []
    known: set[tuple[tuple[int, ...], tuple[float, ...]]] = set()
    for i, panel in enumerate(frontier(field, worths, seed)):
        if len(panel.order) == 1 or (panel.order, panel.bars) in known:
            continue
        known.add((panel.order, panel.bars))
        tried.append(_joined(panel, held[i], len(table.ids)))
        arms.append(_arm(table, tried[-1], f"vote#{len(arms) + 1}"))
    return tuple(arms), tried


def _joined(panel: Panel, held: Sequence[tuple[NDArray[np.intp], Panel]], prompts: int) -> Panel:
    """The panel as fitted on everything, with outcomes from the held-out folds."""
    quality, cost, calls = np.zeros(prompts), np.zeros(prompts), np.zeros(prompts)
    for out, reached in held:
        quality[out], cost[out], calls[out] = reached.quality, reached.cost, reached.calls
    return replace(panel, quality=quality, cost=cost, calls=calls)


def _arm(table: Outcomes, panel: Panel, name: str) -> Arm:
    mean, price = _means(table.score), _means(_costs(table))
    best = int(mean.argmax())
    gain, low, high = _difference(panel.quality, table.score[:, best])
    able = [m for m in range(len(mean)) if price[m] <= panel.cost.mean()]
    rival = max(able, key=lambda m: mean[m], default=None)
    doubt = -1.0 if rival is None else _difference(panel.quality, table.score[:, rival])[1]
    dollars, seconds = _kinds(table)
    return Arm(
        name=name,
        order=tuple(table.models[m] for m in panel.order),
        bars=panel.bars,
        quality=float(panel.quality.mean()),
        cost=float(panel.cost.mean()) if dollars else None,
        seconds=float(panel.cost.mean()) if seconds and not dollars else None,
        calls=float(panel.calls.mean()),
        gain=gain,
        low=low,
        high=high,
        admitted=doubt > 0,
    )


def _difference(ours: Floats, theirs: Floats) -> tuple[float, float, float]:
    """The mean paired difference and its 95 % interval (normal approximation)."""
    both = ours - theirs
    both = both[~np.isnan(both)]
    mean = float(both.mean())
    half = 1.96 * float(both.std()) / max(len(both), 1) ** 0.5
    return mean, mean - half, mean + half


def _with(outcomes: Outcomes, arms: Sequence[Arm], tried: Sequence[Panel]) -> Outcomes:
    """The table with the arms as members, so that they get estimates of their own."""
    if not arms:
        return outcomes
    dollars, _ = _kinds(outcomes)
    quality = np.stack([panel.quality for panel in tried], axis=1)
    cost = np.stack([panel.cost for panel in tried], axis=1)
    nan = np.full_like(cost, np.nan)
    seconds = _waits(outcomes, tried) if dollars else cost
    more: dict[str, Any] = {
        "score": quality,
        "cost": cost if dollars else nan,
        "seconds": seconds,
        "tokens_in": nan,
        "tokens_out": nan,
        "confidence": nan,
        "checked": nan,
        "answer": np.full(cost.shape, None, dtype=object),
    }
    joined: dict[str, Any] = {
        k: np.concatenate([getattr(outcomes, k), v], axis=1) for k, v in more.items()
    }
    return replace(outcomes, models=(*outcomes.models, *(arm.name for arm in arms)), **joined)


def _waits(outcomes: Outcomes, tried: Sequence[Panel]) -> Floats:
    """How long an arm takes: its mean number of calls, at the mean speed of its members."""
    mean = _means(outcomes.seconds)
    return np.stack([p.calls * np.mean(mean[list(p.order)]) for p in tried], axis=1)


def _member(outcomes: Outcomes, m: int) -> Member:
    dollars, seconds = _means(outcomes.cost)[m], _means(outcomes.seconds)[m]
    return Member(
        name=outcomes.models[m],
        quality=float(_means(outcomes.score)[m]),
        cost=None if np.isnan(dollars) else float(dollars),
        seconds=None if np.isnan(seconds) else float(seconds),
        outcomes=int((~np.isnan(outcomes.score[:, m])).sum()),
    )


def _tells(field: Field) -> float:
    """The share of the variance of being right that one answer alone explains, 0 to 1."""
    left = spread = 0.0
    for m in range(field.weights.shape[1]):
        rows = np.flatnonzero(field.seen.here[:, m])
        sure, value = play(field.rows(rows), [m])
        left += float(((sure[:, 0] - value[:, 0]) ** 2).sum())
        spread += float(((value[:, 0] - value[:, 0].mean()) ** 2).sum())
    return float(np.clip(1 - left / spread, 0.0, 1.0)) if spread else 0.0


def _lean(whole: Outcomes, arms: Sequence[Arm], seed: int) -> float:
    """How far to believe estimates of single prompts: what pays best on held-out prompts."""
    barred = {arm.name for arm in arms if not arm.admitted}
    whole = whole.only([name for name in whole.models if name not in barred])
    quality, _, _ = out_of_fold(whole, seed=seed)
    mean, cost = _means(whole.score), _costs(whole)
    score = np.where(np.isnan(whole.score), mean, whole.score)
    rows = np.arange(len(score))
    reached = dict.fromkeys(_LEANS, 0.0)
    for lean in _LEANS:
        believed = mean + lean * (quality - mean)
        for worth in np.array(_WORTHS) * _means(cost).max():
            price = cost / worth
            chosen = (believed - price).argmax(axis=1)
            reached[lean] += float((score[rows, chosen] - price[rows, chosen]).mean())
    return max(reached, key=lambda lean: reached[lean])


def _kinds(outcomes: Outcomes) -> tuple[bool, bool]:
    """Whether any cost, any seconds are recorded."""
    return not np.isnan(outcomes.cost).all(), not np.isnan(outcomes.seconds).all()


def _costs(table: Outcomes) -> Floats:
    """What a call costs: dollars, else seconds, else one; the member's mean where unrecorded."""
    dollars, seconds = _kinds(table)
    grid = table.cost if dollars else table.seconds
    if not (dollars or seconds):
        return np.ones(table.score.shape)
    mean = _means(grid)
    mean = np.where(np.isnan(mean), np.nanmax(mean), mean)
    return np.where(np.isnan(grid), mean, grid)


def _unit(outcomes: Outcomes) -> Floats:
    return _means(_costs(outcomes))


def _means(grid: Floats) -> Floats:
    """By member; NaN where nothing is recorded."""
    known = ~np.isnan(grid)
    count = known.sum(axis=0)
    total = np.where(known, grid, 0.0).sum(axis=0)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)
