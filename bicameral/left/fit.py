"""Fits Scores from recorded outcomes; the only part that needs scikit-learn."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from bicameral.left import calibrate, features, scores
from bicameral.left.features import Array, Features
from bicameral.left.outcomes import Outcomes, fold
from bicameral.left.ridge import Fit, Floats, ridge
from bicameral.left.scores import Scores

_DIMS = 256
_LANDMARKS = 600
_GAMMA = 0.5
_TOPICS = 32
_CATEGORIES = 100
_SOFT, _STEPS = 0.1, 60  # of the topics' regression
_FOLDS = 5
_NOTHING = 0.5  # the quality of a member without outcomes
# Half: all the counts together weigh as much as half a unit vector.
_COUNTS = 0.5
# Nine prompts of ten are known; one this much less familiar than they are is unknown.
_FAR = 0.6
_CENT = 1e-9  # dollars: what is cheaper is as good as free


class Calibration(msgspec.Struct, frozen=True, kw_only=True):
    """How good a member's estimates are on prompts of folds they were not fitted on."""

    model: str
    brier: float
    plain: float  # Brier score of always saying the base rate
    ece: float
    auc: float


@dataclass(frozen=True)
class _Seen:
    """Prompts as the heads see them; nothing in it comes from outcomes."""

    features: Features
    x: Array
    landmarks: Array
    near: Array
    white: Floats  # K x R: makes nearness to landmarks a plain vector space
    a: Floats  # P x (R + C): what heads are fitted on
    familiar: Floats
    bars: tuple[float, float]

    def heads(self, fits: Sequence[Fit]) -> Array:
        """Constants and weights on nearness and counts themselves."""
        weights = np.hstack([fit.weights for fit in fits])
        rank = self.white.shape[1]
        constant = np.concatenate([fit.constant for fit in fits])
        return np.vstack([constant, self.white @ weights[:rank], weights[rank:]]).astype(np.float32)


@dataclass(frozen=True)
class _Topics:
    """What prompts are about, learned from categories, or from likeness where there are none."""

    names: tuple[str, ...]
    merged: tuple[int, ...]  # per topic learned, its name
    kinds: Array  # (1 + D) x T: log-odds of topics
    held: Floats  # P x T: probabilities by a fit that had not seen the prompt

    @property
    def shown(self) -> Floats:
        """The same under the names."""
        return scores.named(self.held, self.merged, len(self.names))


def fit_scores(outcomes: Outcomes, seed: int = 0) -> Scores:
    """Estimates learned from all of `outcomes`; the same outcomes and seed give the same."""
    seen = _see(outcomes.prompts, seed)
    folds = outcomes.folds(_FOLDS, seed)
    topics = _topics(outcomes.prompts, outcomes.categories, _FOLDS, seed)
    quality = _quality(seen, outcomes, folds, topics)
    amounts = [_amount(seen.a, grid, folds) for grid in (outcomes.cost, outcomes.seconds)]
    return Scores(
        models=outcomes.models,
        names=topics.names,
        features=seen.features,
        landmarks=seen.landmarks,
        gamma=_GAMMA,
        bars=seen.bars,
        base=_rates(outcomes.score),
        platt=_platts(quality.held, outcomes.score),
        heads=seen.heads([quality, *amounts]),
        table=quality.table,
        free=np.stack([_mean(outcomes.cost), _mean(outcomes.seconds)]),
        kinds=topics.kinds,
        merged=topics.merged,
    )


def out_of_fold(outcomes: Outcomes, folds: int = 5, seed: int = 0) -> tuple[Floats, Floats, Floats]:
    """Quality P x M, topics P x T and known P of each prompt, by heads that had not seen its fold.

    What is learned without outcomes (features, landmarks) is learned once, from all prompts; the
    strength of the ridge is chosen over all folds.
    """
    seen = _see(outcomes.prompts, seed)
    parts = outcomes.folds(folds, seed)
    topics = _topics(outcomes.prompts, outcomes.categories, folds, seed)
    fit = _quality(seen, outcomes, parts, topics)
    known = scores.known(seen.familiar, seen.bars)
    quality = np.zeros_like(outcomes.score)
    for k in np.unique(parts):
        out = parts == k
        rest = outcomes.score[~out]
        slopes = _platts(fit.held[~out], rest)
        quality[out] = scores.judged(fit.held[out], known[out], _rates(rest), slopes)
    return quality, topics.shown, known


def calibration(outcomes: Outcomes, folds: int = 5, seed: int = 0) -> tuple[Calibration, ...]:
    """Brier score, calibration error and AUC per member, on held-out folds."""
    quality = out_of_fold(outcomes, folds, seed)[0]
    return tuple(
        Calibration(
            model=model,
            brier=calibrate.brier(q, y),
            plain=calibrate.brier(np.full_like(q, base), y),
            ece=calibrate.ece(q, y),
            auc=calibrate.auc(q, y),
        )
        for model, base, q, y in zip(
            outcomes.models, _rates(outcomes.score), quality.T, outcomes.score.T, strict=True
        )
    )


def fit_features(prompts: Sequence[str], seed: int = 0) -> Features:
    """Features fitted on texts alone: rarity of n-grams, their main directions, usual counts."""
    texts = [features.shortened(prompt) for prompt in prompts]
    words = [features.split(text) for text in texts]
    counts = np.array([features.counts(t, len(w)) for t, w in zip(texts, words, strict=True)])
    spread, unit = counts.std(axis=0), _COUNTS / float(np.sqrt(counts.shape[1]))
    has = features.has_static()
    centre = np.zeros(features.STATIC)
    if has:
        centre = np.mean([features.static(each) for each in words], axis=0)
    vocabulary = _vocabulary(words)
    draft = Features(
        **vocabulary,
        project=np.zeros((len(vocabulary["grams"]), 0), dtype=np.float32),
        soft=1.0,
        static=has,
        centre=centre.astype(np.float32),
        mean=counts.mean(axis=0),
        scale=np.where(spread > 1e-6, unit / np.maximum(spread, 1e-6), 0).astype(np.float32),
        bound=3 * unit,
    )
    return _projected(draft, words, seed)


def _projected(draft: Features, words: Sequence[Sequence[str]], seed: int) -> Features:
    """With the main directions of the texts' grams (latent semantic analysis)."""
    from scipy.sparse import csr_matrix
    from sklearn.decomposition import TruncatedSVD

    dims = min(_DIMS, len(words) // 4, len(draft.grams) - 1)
    if dims < 1:
        return draft
    pairs = [draft.weighted(each) for each in words]
    ends = np.cumsum([0, *(len(where) for where, _ in pairs)])
    where, weight = (np.concatenate(part) for part in zip(*pairs, strict=True))
    table = csr_matrix((weight, where, ends), shape=(len(words), len(draft.grams)))
    svd = TruncatedSVD(dims, random_state=seed, n_iter=4).fit(table)
    project = np.ascontiguousarray(svd.components_.T.astype(np.float16).astype(np.float32))
    usual = float(np.median(np.linalg.norm(table @ project, axis=1)))
    return replace(draft, project=project, soft=0.3 * usual + 1e-6)


def _vocabulary(words: Sequence[Sequence[str]]) -> dict[str, Any]:
    """The grams that occur more than once, and how rare each is; those in most texts first."""
    every = np.concatenate([features.grams(each)[0] for each in words])
    found, times = np.unique(every, return_counts=True)
    often = np.lexsort((found, -times))[: min(features.VOCABULARY, int((times > 1).sum()))]
    often.sort()
    return {
        "grams": found[often],
        "idf": (np.log((1 + len(words)) / (1 + times[often])) + 1).astype(np.float32),
        "rare": float(np.log((1 + len(words)) / 2)) + 1,
    }


@lru_cache(maxsize=1)
def _see(prompts: tuple[str, ...], seed: int) -> _Seen:
    """What is learned from wording alone; kept, as learning looks at the same prompts thrice."""
    look = fit_features(prompts, seed)
    x = look(prompts)
    # By wording, not by place in the table: the order of rows does not matter.
    order = sorted(range(len(prompts)), key=lambda i: (fold(prompts[i], 1 << 62, seed), i))
    landmarks = x[order[:_LANDMARKS]].astype(np.float16).astype(np.float32)
    near, familiar = scores.likeness(x, landmarks, look.text, _GAMMA)
    white = _whiten(scores.likeness(landmarks, landmarks, look.text, _GAMMA)[0])
    counts = x[:, look.text :]
    a = np.hstack([near @ white, counts]).astype(np.float64)
    high = float(np.quantile(familiar, 0.1))
    return _Seen(look, x, landmarks, near, white, a, familiar, (_FAR * high, high))


def _whiten(near: Array) -> Floats:
    values, vectors = np.linalg.eigh(near.astype(np.float64))
    keep = values > 1e-5 * values[-1]
    white: Floats = vectors[:, keep] / np.sqrt(values[keep])
    return white


def _rates(score: Floats) -> Floats:
    return np.nan_to_num(_mean(score), nan=_NOTHING)


def _mean(grid: Floats) -> Floats:
    """Per column; NaN where nothing is recorded."""
    seen = ~np.isnan(grid)
    total: Floats = np.where(seen, grid, 0).sum(axis=0)
    return np.where(seen.any(axis=0), total / np.maximum(seen.sum(axis=0), 1), np.nan)


def _platts(held: Floats, score: Floats) -> Floats:
    pairs = [calibrate.platt(q, y) for q, y in zip(held.T, score.T, strict=True)]
    return np.array(pairs).T


def _quality(seen: _Seen, outcomes: Outcomes, folds: NDArray[np.intp], topics: _Topics) -> Fit:
    fit = ridge(seen.a, outcomes.score, folds, topics.held)
    silent = np.isnan(outcomes.score).all(axis=0)
    return replace(
        fit,
        constant=np.where(silent, _NOTHING, fit.constant),
        held=np.where(silent, _NOTHING, fit.held),
    )


def _amount(a: Floats, grid: Floats, folds: NDArray[np.intp]) -> Fit:
    """A fit of the logarithm, moved so that its mean is right; NaN where nothing is recorded."""
    fit = ridge(a, np.log(np.maximum(grid, _CENT)), folds)
    guessed = np.where(np.isnan(grid), np.nan, np.exp(fit.held))
    shift = np.log(np.maximum(_mean(grid), _CENT)) - np.log(_mean(guessed))
    return replace(fit, constant=fit.constant + shift)


@lru_cache(maxsize=1)
def _topics(
    prompts: tuple[str, ...], categories: tuple[str | None, ...], count: int, seed: int
) -> _Topics:
    """Kept like `_see`: it does not depend on who answered."""
    seen = _see(prompts, seed)
    folds = np.array([fold(prompt, count, seed) for prompt in prompts])
    names, labels = _labels(categories, seen, seed)
    said = ~np.isnan(labels).any(axis=1)
    held = np.zeros_like(labels)
    for k in np.unique(folds):
        out = folds == k
        way = _logistic(seen.x[said & ~out], labels[said & ~out])
        held[out] = way[0] + seen.x[out] @ way[1:]
    sharp = _sharpness(held[said], labels[said])
    kinds = (sharp * _logistic(seen.x[said], labels[said])).astype(np.float32)
    held = scores.softmax(sharp * held)
    if len(names) <= _TOPICS:
        return _Topics(names, tuple(range(len(names))), kinds, held)
    from sklearn.cluster import AgglomerativeClustering

    middles = np.stack([seen.x[labels[:, i] == 1].mean(axis=0) for i in range(len(names))])
    merged = AgglomerativeClustering(_TOPICS).fit_predict(middles)
    joined = ["+".join(names[i] for i in np.flatnonzero(merged == k)) for k in range(_TOPICS)]
    return _Topics(tuple(joined), tuple(int(k) for k in merged), kinds, held)


def _logistic(x: Array, labels: Floats) -> Floats:
    """Multinomial logistic regression with a ridge; near enough, as it is sharpened afterwards."""
    from scipy.optimize import minimize

    shape = (x.shape[1] + 1, labels.shape[1])
    wide = np.hstack([np.ones((len(x), 1)), x])
    soft = np.full(shape, _SOFT)
    soft[0] = 1e-3

    def loss(flat: Floats) -> tuple[float, Floats]:
        way = flat.reshape(shape)
        p = scores.softmax(wide @ way)
        slope = wide.T @ (p - labels) + soft * way
        miss = -np.log(p[labels > 0] + 1e-12).sum()
        return float(miss + (soft * way * way).sum() / 2), slope.ravel()

    found = minimize(
        loss, np.zeros(shape).ravel(), jac=True, method="L-BFGS-B", options={"maxiter": _STEPS}
    )
    out: Floats = found.x.reshape(shape)
    return out


def _labels(
    categories: tuple[str | None, ...], seen: _Seen, seed: int
) -> tuple[tuple[str, ...], Floats]:
    """Names of topics and a row of 0 and 1 per prompt, NaN where it is not said."""
    often = Counter(c for c in categories if c)
    names = sorted(sorted(often, key=lambda name: (-often[name], name))[:_CATEGORIES])
    if len(names) > 1:
        said = np.array([c or "" for c in categories])
        one = np.stack([said == name for name in names], axis=1)
        return tuple(names), np.where(one.any(axis=1, keepdims=True), one, np.nan)
    from sklearn.cluster import KMeans

    count = max(1, min(_TOPICS // 2, len(seen.x) // 50))
    found = KMeans(count, random_state=seed, n_init=1, max_iter=30).fit_predict(seen.x)
    return tuple(f"cluster {i}" for i in range(count)), np.eye(count)[found]


def _sharpness(held: Floats, labels: Floats) -> float:
    """How much to sharpen or soften log-odds so that their softmax fits the labels best."""
    tries = np.geomspace(0.1, 3, 18)
    if not len(held):
        return 1.0
    right = labels > 0
    loss = [-np.log(scores.softmax(t * held)[right] + 1e-9).mean() for t in tries]
    return float(tries[int(np.argmin(loss))])
