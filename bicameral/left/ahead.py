"""What the answers so far tell of the members left: a question hard for some is hard for all."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from bicameral.left.ballot import Ballot, logit
from bicameral.left.panel import Field, play
from bicameral.left.policy import Case

Floats = NDArray[np.float64]

_LEAST = 30


class Ahead(Struct, frozen=True):
    """Log-odds that a member is right where the leader is wrong, a logistic regression.

    On: one, the log-odds of its estimate, those of the leader, the log of the answers so far.
    The default believes the estimate as it is.
    """

    weights: tuple[float, float, float, float] = (0.0, 1.0, 0.0, 0.0)

    def __call__(self, ballot: Ballot, case: Case) -> Mapping[str, float]:
        """By name, of each member not asked yet."""
        sure = ballot.posterior(case).sure
        one, own, lead, count = self.weights
        rest = one + lead * logit(sure) + count * math.log(max(len(case.good), 1))
        left = [member.card.name for member in case.left]
        odds = {name: rest + own * logit(case.estimates[name].quality) for name in left}
        return {name: 1 / (1 + math.exp(-z)) for name, z in odds.items()}


def fit_ahead(field: Field, quality: Floats, seed: int = 0) -> Ahead:
    """From random members after random others; the default where there is too little to see."""
    from sklearn.linear_model import LogisticRegression

    rng = np.random.default_rng(seed)
    prompts, members = quality.shape
    if members < 2:
        return Ahead()
    x, y = [], []
    for _ in range(2 * members):
        order = rng.permutation(members)[: rng.integers(2, min(members, 6) + 1)]
        *before, then = order.tolist()
        sure, value = play(field, before)
        right = field.seen.value[np.arange(prompts), np.maximum(field.seen.group[:, then], 0)]
        here = field.seen.here[:, then] & (field.seen.group[:, then] >= 0)
        rows = np.flatnonzero((value[:, -1] < 0.5) & here)
        rows = rng.permutation(rows)[:1000]
        odds = [_logit(quality[rows, then]), _logit(sure[rows, -1])]
        x.append(np.stack([*odds, np.full(len(rows), math.log(len(before)))], axis=1))
        y.append(right[rows] >= 0.5)
    told, hit = np.concatenate(x), np.concatenate(y)
    if min(hit.sum(), len(hit) - hit.sum()) < _LEAST:
        return Ahead()
    fitted = LogisticRegression(C=1.0).fit(told, hit)
    own, lead, count = fitted.coef_[0].tolist()
    return Ahead((float(fitted.intercept_[0]), own, lead, count))


def _logit(p: Floats) -> Floats:
    bounded = np.clip(p, 0.001, 0.999)
    return np.asarray(np.log(bounded / (1 - bounded)))
