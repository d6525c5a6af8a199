"""Fits a ballot to outcomes: a conditional logit over the distinct answers to each prompt.

Every prompt is seen with all its answers and with random parts of them, so that the weights hold,
and stay calibrated, for whichever members happen to be asked.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bicameral.left.ballot import Ballot, Heard
from bicameral.left.outcomes import Outcomes

Floats = NDArray[np.float64]
Ints = NDArray[np.intp]

_SPREAD = float(np.log(4))
_COUNTS = 8
_PARTS = 3
# Prior precisions: the slope on a member's estimate, its topics, its signs, what a checker
# says, none being right, agreement.
_SLOPE, _TOPIC, _SIGN, _CHECK, _NONE, _AGREE = 3.0, 30.0, 10.0, 1.0, 0.1, 30.0
# A member's own weight stays near the log-odds of its accuracy where there are few prompts.
_OWN = 12_000


@dataclass(frozen=True)
class Given:
    """Answers as groups. `group[i, m]`: which distinct answer, -1: none; `value[i, g]`: its score.

    `here[i, m]`: the member was recorded, if only to abstain. `exclusive`: there were answers to
    compare; otherwise every member is a group of its own.
    """

    group: Ints  # P x M
    value: Floats  # P x M (at most M groups)
    here: NDArray[np.bool_]  # P x M
    exclusive: bool


def given(outcomes: Outcomes) -> Given:
    """Group equal answers. With `gold` a group is worth 1 or 0, else its members' mean score."""
    prompts, members = outcomes.score.shape
    here = ~np.isnan(outcomes.score)
    said = np.array([[a is not None for a in row] for row in outcomes.answer], dtype=bool)
    said = said.reshape(prompts, members)
    if not said.any():
        group = np.where(here, np.arange(members), -1)
        return Given(group, np.nan_to_num(outcomes.score), here, exclusive=False)
    group = np.full((prompts, members), -1, dtype=np.intp)
    value = np.zeros((prompts, members))
    for i in range(prompts):
        known: dict[str, int] = {}
        scores: list[list[float]] = []
        for m in np.flatnonzero(said[i] & here[i]):
            g = known.setdefault(outcomes.answer[i, m], len(known))
            group[i, m] = g
            if g == len(scores):
                scores.append([])
            scores[g].append(outcomes.score[i, m])
        gold = outcomes.gold[i]
        for answer, g in known.items():
            value[i, g] = float(np.mean(scores[g])) if gold is None else float(answer == gold)
    return Given(group, value, here, exclusive=True)


@dataclass(frozen=True)
class Weights:
    """Vote weights: `own` + slope * (logit of quality - logit of base) + topics."""

    members: tuple[str, ...]
    base: Floats  # M, accuracy
    own: Floats  # M
    slope: Floats  # M
    topic: Floats  # M x T

    def __call__(self, quality: Floats, topics: Floats) -> Floats:
        """N x M log-odds, from N x M estimates and N x T topic probabilities."""
        return self.own + self.slope * (_logit(quality) - _logit(self.base)) + topics @ self.topic.T

    def pack(self) -> dict[str, Any]:
        """As arrays and JSON values."""
        return {
            "members": list(self.members),
            "base": self.base,
            "own": self.own,
            "slope": self.slope,
            "topic": self.topic,
        }

    @classmethod
    def unpack(cls, packed: Mapping[str, Any]) -> Weights:
        """The inverse of `pack`."""
        grids = {k: np.asarray(packed[k]) for k in ("base", "own", "slope", "topic")}
        return cls(members=tuple(packed["members"]), **grids)


def fit_ballot(
    outcomes: Outcomes, quality: Floats, topics: Floats, seed: int = 0
) -> tuple[Ballot, Weights]:
    """The weights that make the recorded answers most likely, with priors (MAP, L-BFGS).

    `quality` (P x M) must come from models that have not seen the prompt they judge.
    """
    from scipy.optimize import minimize

    seen = given(outcomes)
    base = np.clip(np.nanmean(outcomes.score, axis=0), 0.02, 0.98)
    signs = _Signs.of(outcomes)
    features = _features(quality, base, topics, signs(outcomes))
    subsets = _subsets(seen, np.random.default_rng(seed))
    problem = _Problem(features, seen, subsets, _logit(base) + _SPREAD)
    found = minimize(problem, problem.start, jac=True, method="L-BFGS-B", options={"maxiter": 150})
    theta, none, agree = problem.split(found.x)
    width = topics.shape[1]
    weights = Weights(
        outcomes.models,
        base,
        theta[:, 0],
        theta[:, 1],
        np.ascontiguousarray(theta[:, 2 : 2 + width]),
    )
    heard = signs.heard(outcomes.models, theta[:, 2 + width :])
    levels = tuple(tuple(map(float, row)) for row in agree)
    return Ballot(heard, tuple(map(float, none)), levels, seen.exclusive), weights


def heard_weights(ballot: Ballot, weights: Floats, outcomes: Outcomes) -> Floats:
    """The full weight of each answer once heard: `weights` and its signs. P x M."""
    extra = np.zeros_like(weights)
    for m, model in enumerate(outcomes.models):
        heard = ballot.heard.get(model, Heard())
        if heard.tokens:
            z = _clipped(np.log1p(outcomes.tokens_out[:, m]), heard.tokens_mean, heard.tokens_scale)
            extra[:, m] += heard.tokens * z
        if heard.confidence:
            sure = _logit(outcomes.confidence[:, m])
            extra[:, m] += heard.confidence * _clipped(
                sure, heard.confidence_mean, heard.confidence_scale
            )
        checked = outcomes.checked[:, m]
        extra[:, m] += np.where(checked == 1, heard.passed, 0) + np.where(
            checked == 0, heard.failed, 0
        )
    return weights + extra


@dataclass(frozen=True)
class _Signs:
    """Standardisation of what answers show besides what they say. M each."""

    tokens: tuple[Floats, Floats]
    confidence: tuple[Floats, Floats]

    @classmethod
    def of(cls, outcomes: Outcomes) -> _Signs:
        return cls(_moments(np.log1p(outcomes.tokens_out)), _moments(_logit(outcomes.confidence)))

    def __call__(self, outcomes: Outcomes) -> Floats:
        """P x M x 4: tokens, confidence, passed, failed."""
        return np.stack(
            [
                _clipped(np.log1p(outcomes.tokens_out), *self.tokens),
                _clipped(_logit(outcomes.confidence), *self.confidence),
                (outcomes.checked == 1).astype(float),
                (outcomes.checked == 0).astype(float),
            ],
            axis=2,
        )

    def heard(self, models: tuple[str, ...], theta: Floats) -> dict[str, Heard]:
        """The fitted slopes of each member."""
        return {
            model: Heard(
                tokens=float(theta[m, 0]),
                tokens_mean=float(self.tokens[0][m]),
                tokens_scale=float(self.tokens[1][m]),
                confidence=float(theta[m, 1]),
                confidence_mean=float(self.confidence[0][m]),
                confidence_scale=float(self.confidence[1][m]),
                passed=float(theta[m, 2]),
                failed=float(theta[m, 3]),
            )
            for m, model in enumerate(models)
        }


class _Problem:
    """Negative log posterior of the weights and its gradient, for L-BFGS."""

    def __init__(self, features: Floats, seen: Given, subsets: list[Any], offset: Floats) -> None:
        from scipy import sparse

        prompts, members, width = features.shape
        self._shape = (members, width)
        self._stride = members + 1
        rows = len(subsets) * prompts
        voted = np.vstack([np.where(mask, seen.group, -1) for mask in subsets])
        which, m = np.nonzero(voted >= 0)
        cells = which * self._stride + voted[which, m]
        columns = m[:, None] * width + np.arange(width)
        entries = features[which % prompts, m]
        matrix = sparse.csr_matrix(
            (entries.ravel(), (np.repeat(cells, width), columns.ravel())),
            shape=(rows * self._stride, members * width),
        )
        count = np.vstack([mask & seen.here for mask in subsets]).sum(axis=1)
        keep = (voted >= 0).any(axis=1)
        nones = np.arange(rows) * self._stride + members
        levels = np.minimum(np.maximum(count, 1), _COUNTS) - 1
        none = sparse.csr_matrix(
            (np.ones(rows), (nones, levels)), shape=(rows * self._stride, _COUNTS)
        )
        agreed, places = _agreements(voted, levels)
        agree = sparse.csr_matrix(
            (np.ones(len(agreed)), (agreed, places)),
            shape=(rows * self._stride, _COUNTS * _COUNTS),
        )
        self._matrix = sparse.hstack([matrix, none, agree]).tocsr()
        self._transposed = self._matrix.T.tocsr()
        self._floor = np.full(rows * self._stride, -40.0)
        self._floor[cells] = 0.0
        self._floor[nones] = 0.0
        self._right = _right(voted, np.vstack([seen.value] * len(subsets)))
        self._each = np.where(keep, 1.0 / len(subsets), 0.0)
        own = np.zeros((members, width))
        own[:, 0] = offset
        own[:, -2], own[:, -1] = Heard.passed, Heard.failed
        spread, equal = np.full(_COUNTS, _SPREAD), np.zeros(_COUNTS * _COUNTS)
        self.start = np.concatenate([own.ravel(), spread, equal])
        self._centre = self.start.copy()
        topics = width - 6
        own_prior = max(1.0, _OWN / prompts)
        each = [own_prior, _SLOPE, *[_TOPIC] * topics, _SIGN, _SIGN, _CHECK, _CHECK]
        levels_prior = [np.full(_COUNTS, _NONE), np.full(_COUNTS * _COUNTS, _AGREE)]
        self._prior = np.concatenate([np.tile(each, members), *levels_prior])

    def __call__(self, theta: Floats) -> tuple[float, Floats]:
        """-log P(one of the right answers), of which there may be several."""
        scores = (self._matrix @ theta + self._floor).reshape(-1, self._stride)
        scores -= scores.max(axis=1, keepdims=True)
        mass = np.exp(scores)
        total = mass.sum(axis=1, keepdims=True)
        hit = np.where(self._right, mass, 0.0)
        hits = np.maximum(hit.sum(axis=1, keepdims=True), 1e-300)
        loss = self._each * (np.log(total[:, 0]) - np.log(hits[:, 0]))
        slope = (mass / total - hit / hits) * self._each[:, None]
        away = theta - self._centre
        value = loss.sum() + 0.5 * float(self._prior @ away**2)
        return float(value), self._transposed @ slope.ravel() + self._prior * away

    def split(self, theta: Floats) -> tuple[Floats, Floats, Floats]:
        """Weights (M x D), the scores of "none is right", what agreement adds."""
        members, width = self._shape
        end = members * width
        none, agree = theta[end : end + _COUNTS], theta[end + _COUNTS :]
        return theta[:end].reshape(members, width), none, agree.reshape(_COUNTS, _COUNTS)


def _agreements(voted: Ints, levels: Ints) -> tuple[Ints, Ints]:
    """Cells of groups with two votes or more, and the place of what that adds."""
    rows, members = voted.shape
    votes = np.zeros((rows, members + 1), dtype=np.intp)
    which, m = np.nonzero(voted >= 0)
    np.add.at(votes, (which, voted[which, m]), 1)
    which, group = np.nonzero(votes >= 2)
    height = np.minimum(votes[which, group], _COUNTS) - 1
    return which * (members + 1) + group, levels[which] * _COUNTS + height


def _right(voted: Ints, value: Floats) -> NDArray[np.bool_]:
    """Which of the answers given are right; the last column: none of them."""
    rows, members = voted.shape
    present = np.zeros((rows, members), dtype=bool)
    which, m = np.nonzero(voted >= 0)
    present[which, voted[which, m]] = True
    right = np.zeros((rows, members + 1), dtype=bool)
    right[:, :-1] = present & (value >= 0.5)
    right[:, -1] = ~right.any(axis=1)
    return right


def _subsets(seen: Given, rng: np.random.Generator) -> list[Any]:
    """Masks of which answers are heard: all, then random parts, small ones as often as large.

    One at a time if not exclusive.
    """
    prompts, members = seen.group.shape
    if not seen.exclusive:
        return [np.arange(members) == m for m in range(members)]
    masks: list[Any] = [np.ones((prompts, members), dtype=bool)]
    for _ in range(_PARTS):
        size = np.floor((members + 1) ** rng.random(prompts))
        place = rng.random((prompts, members)).argsort(axis=1).argsort(axis=1)
        masks.append(place < size[:, None])
    return masks


def _features(quality: Floats, base: Floats, topics: Floats, signs: Floats) -> Floats:
    """P x M x D: one, estimate against base, topics, signs."""
    prompts, members = quality.shape
    one = np.ones((prompts, members, 1))
    better = (_logit(quality) - _logit(base))[:, :, None]
    topic = np.broadcast_to(topics[:, None, :], (prompts, members, topics.shape[1]))
    return np.concatenate([one, better, topic, signs], axis=2)


def _moments(values: Floats) -> tuple[Floats, Floats]:
    """Mean and spread by member; 0 and 1 where nothing is recorded."""
    known = ~np.isnan(values)
    count = np.maximum(known.sum(axis=0), 1)
    mean = np.where(known, values, 0.0).sum(axis=0) / count
    spread = np.sqrt(np.where(known, (values - mean) ** 2, 0.0).sum(axis=0) / count)
    return mean, np.where(spread > 1e-6, spread, 1.0)


def _clipped(values: Floats, mean: Floats | float, scale: Floats | float) -> Floats:
    """Standardised and bounded; 0 where nothing is recorded."""
    return np.nan_to_num(np.clip((values - mean) / scale, -3.0, 3.0), nan=0.0)


def _logit(p: Floats) -> Floats:
    bounded = np.clip(p, 0.001, 0.999)
    return np.asarray(np.log(bounded / (1 - bounded)))
