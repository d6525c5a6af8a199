"""A new member beside known ones, from a few hundred probes: nothing is refitted.

The known members' heads span how prompts differ; the new head lies among them (the idea of
UniRoute, arXiv 2502.08773, and of item response theory): the mean head, moved towards single
members only as far as the probes carry it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from bicameral.errors import ConfigError
from bicameral.left.calibrate import platt
from bicameral.left.features import Array
from bicameral.left.learned import Learned, Member
from bicameral.left.outcomes import Outcomes, fold
from bicameral.left.scores import Scores

Floats = NDArray[np.float64]

_STRENGTHS = np.geomspace(0.1, 1000, 16)
_LEAST = 20
# Outcomes that "the estimates are calibrated" is worth: probes are few.
_PRIOR = 50.0


def probes(outcomes: Outcomes, count: int = 200) -> tuple[str, ...]:
    """The ids of `count` prompts that show what a new member can do: as many from each category.

    The order of the table does not matter.
    """
    kinds: dict[str, list[tuple[int, str]]] = {}
    for id, prompt, kind in zip(outcomes.ids, outcomes.prompts, outcomes.categories, strict=True):
        kinds.setdefault(kind or "", []).append((fold(prompt, 1 << 62), id))
    turns = [
        (turn, rank, id)
        for members in kinds.values()
        for turn, (rank, id) in enumerate(sorted(members))
    ]
    return tuple(id for _, _, id in sorted(turns)[:count])


def placed(learned: Learned, outcomes: Outcomes) -> Learned:
    """`learned` with the one member that `outcomes` are of; all else stays as it is.

    It has no part in the panels, which were found without it. Raises ConfigError if there is more
    than one member, if it is known already, or if there are fewer than 20 probes.
    """
    if len(outcomes.models) != 1:
        names = ", ".join(outcomes.models)
        raise ConfigError(f"a new member is added by a table of it alone, not of {names}")
    (name,) = outcomes.models
    amounts = [_amounts(grid[:, 0]) for grid in (outcomes.cost, outcomes.seconds)]
    scores = place(learned.scores, name, outcomes.prompts, outcomes.score[:, 0].tolist(), *amounts)
    cost, seconds = (None if part is None else float(np.mean(part)) for part in amounts)
    member = Member(
        name=name,
        quality=float(scores.base[-1]),
        cost=cost,
        seconds=seconds,
        outcomes=len(outcomes.ids),
    )
    return replace(learned, scores=scores, members=(*learned.members, member))


def _amounts(column: Floats) -> list[float] | None:
    """What is recorded, gaps filled with its mean; None if nothing is."""
    known = column[~np.isnan(column)]
    return np.nan_to_num(column, nan=float(known.mean())).tolist() if len(known) else None


def place(
    scores: Scores,
    name: str,
    prompts: Sequence[str],
    score: Sequence[float],
    cost: Sequence[float] | None = None,
    seconds: Sequence[float] | None = None,
) -> Scores:
    """`scores` with the member `name`, which reached `score` (0 to 1) on the probes `prompts`.

    `cost` is in dollars. Raises ConfigError if there are fewer than 20 probes.
    """
    if name in scores.models:
        raise ConfigError(f"'{name}' has outcomes already: leave it out or learn again")
    if len(prompts) < _LEAST:
        raise ConfigError(f"{len(prompts)} probes place no member: give at least {_LEAST}")
    raw, *amounts = scores.raw(scores.look(prompts))
    y = np.asarray(score, dtype=np.float64)
    mix, base, held = _mix(raw - scores.base, y)
    given = [_given(part) for part in (cost, seconds)]
    shifts = [_shift(logs, part) for logs, part in zip(amounts, given, strict=True)]
    ways = [(base - float(scores.base @ mix), mix), *shifts]
    free = np.array([[np.nan if part is None else part.mean()] for part in given])
    return replace(
        scores,
        models=(*scores.models, name),
        base=np.append(scores.base, base),
        platt=np.hstack([scores.platt, np.array([platt(held, y, _PRIOR)]).T]),
        heads=_widened(scores, ways),
        table=np.hstack([scores.table, (scores.table @ mix)[:, None]]),
        free=np.hstack([scores.free, free]),
    )


def _widened(scores: Scores, ways: Sequence[tuple[float, Floats]]) -> Array:
    """The heads with a column more for quality, cost and seconds each: a mixture, and moved."""
    m, blocks = len(scores.models), list[Array]()
    for i, (shift, mix) in enumerate(ways):
        block = scores.heads[:, i * m : (i + 1) * m]
        column = (np.nan_to_num(block) @ mix).astype(np.float32)
        column[0] += shift
        blocks.extend([block, column[:, None]])
    return np.hstack(blocks)


def _given(amounts: Sequence[float] | None) -> Floats | None:
    return None if amounts is None else np.asarray(amounts, dtype=np.float64)


def _mix(others: Floats, y: Floats) -> tuple[Floats, float, Floats]:
    """How much of each known head the new one has, its base rate, and left-one-out predictions.

    `others`: the known members' estimates less their base rates.
    """
    rows, m = others.shape
    usual = others.mean(axis=1)
    rest = y - usual
    centre, mean = others.mean(axis=0), float(rest.mean())
    z = others - centre
    values, vectors = np.linalg.eigh(z.T @ z)
    inner, look = vectors.T @ (z.T @ (rest - mean)), z @ vectors
    tries = []
    for strength in _STRENGTHS:
        way = inner / (np.maximum(values, 0) + strength)
        lever = 1 / rows + (look**2 / (np.maximum(values, 0) + strength)).sum(axis=1)
        tries.append((way, (rest - mean - look @ way) / (1 - lever)))
    errors = np.array([(miss**2).mean() for _, miss in tries])
    # The strongest that is not clearly worse than the best: a few probes choose by chance.
    slack = 0.5 * float((tries[int(errors.argmin())][1] ** 2).std()) / np.sqrt(rows)
    way, miss = tries[int(np.flatnonzero(errors <= errors.min() + slack).max())]
    mix = vectors @ way
    return mix + 1 / m, mean - float(centre @ mix), y - miss


def _shift(logs: Floats, given: Floats | None) -> tuple[float, Floats]:
    """The mean of the others' logarithms, moved so that its mean over the probes is right."""
    known = ~np.isnan(logs).any(axis=0)
    share = np.where(known, 1 / max(1, int(known.sum())), 0.0)
    if given is None:
        return np.nan, share
    guess = np.exp(np.nan_to_num(logs) @ share)
    return float(np.log(max(given.mean(), 1e-9)) - np.log(guess.mean())), share
