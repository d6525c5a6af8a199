"""Ridge regression of many members at once, its strength found by cross-validation.

Members fail together, so outcomes are first turned into their principal directions (how hard a
prompt is, then what sets members apart), each with strengths of its own: what is mostly noise is
shrunk hard (after Breiman and Friedman, "Predicting multivariate responses", 1997). One
eigendecomposition serves all strengths; settings are averaged, the better ones counting more, as
picking one would be decided by noise.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Folds = NDArray[np.intp]

STRENGTHS = np.geomspace(0.3, 10_000, 12)
# How much more a prompt's topic is believed than the rest of what is seen of it.
TRUST = (0.0, 0.5, 2.0, 8.0)
# Of the weight a likelihood would give the better setting; folds share most of their rows.
_TEMPER = 0.3
# A member with more than this share of gaps is fitted on its own prompts alone.
_GAPS = 0.2


@dataclass(frozen=True)
class Fit:
    """`constant + a @ weights + topics @ table` predicts M columns."""

    constant: Floats  # M
    weights: Floats  # R x M
    table: Floats  # T x M
    mean: Floats  # M: of what was recorded
    held: Floats  # P x M: predicted by a fit that had not seen the row's fold


@dataclass(frozen=True)
class _Half:
    """Moments of some rows in their own axes: what any strength needs."""

    values: Floats
    vectors: Floats
    cross: Floats

    @classmethod
    def of(cls, gram: Floats, cross: Floats) -> _Half:
        values, vectors = np.linalg.eigh(gram)
        return cls(np.maximum(values, 0), vectors, vectors.T @ cross)

    def shrunk(self, share: Floats) -> Floats:
        """Weights in these axes; `share`: how much each strength counts, per column."""
        return self.cross * (1 / (self.values[:, None] + STRENGTHS) @ share)


def ridge(
    a: Floats, y: Floats, folds: Folds, topics: Floats | None = None, *, turn: bool = True
) -> Fit:
    """Fits every column of `y` (NaN: not recorded) on `a` and, if given, `topics` beside it.

    `turn`: along principal directions. `topics` of a row must not have been learned from it.
    """
    rows, members = y.shape
    beside = np.zeros((rows, 0)) if topics is None else topics
    mean, constant, held = np.zeros(members), np.zeros(members), np.zeros((rows, members))
    weights = np.zeros((a.shape[1] + beside.shape[1], members))
    for columns, seen in _groups(y):
        part = y[np.ix_(seen, columns)]
        mean[columns] = constant[columns] = np.nanmean(part, axis=0)
        held[:, columns] = mean[columns]
        if len(np.unique(folds[seen])) < 2:
            continue
        rest = _filled(part - mean[columns])
        side = _directions(rest) if turn else np.eye(len(columns))
        whole = np.hstack([a, beside])
        middle = whole[seen].mean(axis=0)
        trust = TRUST if beside.shape[1] else TRUST[:1]
        weight, out = _Search(whole - middle, rest @ side, seen, folds, a.shape[1], trust).fit()
        weights[:, columns] = weight @ side.T
        held[:, columns] += out @ side.T
        constant[columns] -= middle @ weights[:, columns]
    return Fit(constant, weights[: a.shape[1]], weights[a.shape[1] :], mean, held)


def _groups(y: Floats) -> Iterator[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    """Columns that can be fitted together, with the rows to fit them on."""
    known = ~np.isnan(y)
    some = known.any(axis=1)
    share = known.sum(axis=0) / max(1, some.sum())
    full = np.flatnonzero(share >= 1 - _GAPS)
    if len(full):
        yield full, np.flatnonzero(known[:, full].any(axis=1))
    alike: dict[bytes, list[int]] = {}
    for column in np.flatnonzero((share < 1 - _GAPS) & known.any(axis=0)):
        alike.setdefault(known[:, column].tobytes(), []).append(int(column))
    for columns in alike.values():
        yield np.array(columns), np.flatnonzero(known[:, columns[0]])


def _filled(rest: Floats) -> Floats:
    """Gaps filled with what the other members' outcomes on the same prompt suggest."""
    gaps = np.isnan(rest)
    if not gaps.any():
        return rest
    row = np.nan_to_num(np.nanmean(np.where(gaps.all(axis=1, keepdims=True), 0, rest), axis=1))
    own = np.where(gaps, 0, rest)
    slope = (own * row[:, None]).sum(axis=0) / np.maximum(
        1e-9, (~gaps * row[:, None] ** 2).sum(axis=0)
    )
    return np.where(gaps, row[:, None] * slope, rest)


def _directions(rest: Floats) -> Floats:
    """The mean member, and at right angles to it the main ways in which members differ.

    Plain principal directions would mix how hard a prompt is into who is better at it.
    """
    count = rest.shape[1]
    mean = np.full((count, 1), count**-0.5)
    apart = rest - rest @ mean @ mean.T
    ways = np.linalg.eigh(apart.T @ apart)[1][:, ::-1]
    out: Floats = np.linalg.qr(np.hstack([mean, ways]))[0]
    return out


class _Search:
    """All settings on all folds; `first`: columns of `whole` before the topics."""

    def __init__(
        self,
        whole: Floats,
        y: Floats,
        seen: NDArray[np.intp],
        folds: Folds,
        first: int,
        trust: Sequence[float],
    ) -> None:
        self._whole, self._y, self._seen, self._folds = whole, y, seen, folds
        self._scales = [np.where(np.arange(whole.shape[1]) < first, 1.0, t) for t in trust]
        self._parts = np.unique(folds)

    def fit(self) -> tuple[Floats, Floats]:
        """Weights from all seen rows, and for every row the prediction without its fold."""
        halves = [self._halves(scale) for scale in self._scales]
        share = self._shares(
            [self._errors(s, h) for s, h in zip(self._scales, halves, strict=True)]
        )
        weights = np.zeros((self._whole.shape[1], self._y.shape[1]))
        held = np.zeros((len(self._whole), self._y.shape[1]))
        for scale, half, part in zip(self._scales, halves, share, strict=True):
            everything = half[-1]
            weights += scale[:, None] * (everything.vectors @ everything.shrunk(part))
            for k, without in zip(self._parts, half, strict=False):
                out = self._folds == k
                held[out] += self._look(scale, without, out) @ without.shrunk(part)
        return weights, held

    def _halves(self, scale: Floats) -> list[_Half]:
        """Without each fold, and at last of everything."""
        own = self._whole[self._seen] * scale
        moments = []
        for k in self._parts:
            inside = self._folds[self._seen] == k
            moments.append((own[inside].T @ own[inside], own[inside].T @ self._y[inside]))
        gram, cross = own.T @ own, own.T @ self._y
        return [*(_Half.of(gram - g, cross - c) for g, c in moments), _Half.of(gram, cross)]

    def _look(self, scale: Floats, half: _Half, rows: NDArray[np.bool_]) -> Floats:
        out: Floats = (self._whole[rows] * scale) @ half.vectors
        return out

    def _errors(self, scale: Floats, halves: Sequence[_Half]) -> Floats:
        """Mean squared error on held-out rows, per strength and column."""
        place = np.zeros(len(self._whole), dtype=np.intp)
        place[self._seen] = np.arange(len(self._seen))
        seen = np.zeros(len(self._whole), dtype=np.bool_)
        seen[self._seen] = True
        total = np.zeros((len(STRENGTHS), self._y.shape[1]))
        for k, half in zip(self._parts, halves, strict=False):
            out = (self._folds == k) & seen
            look, y = self._look(scale, half, out), self._y[place[out]]
            for i, one in enumerate(np.eye(len(STRENGTHS))):
                total[i] += ((look @ half.shrunk(one[:, None]) - y) ** 2).sum(axis=0)
        return total / len(self._seen)

    def _shares(self, errors: Sequence[Floats]) -> Floats:
        """What each setting counts per column; they sum to 1."""
        every = np.array(errors)
        least = every.min(axis=(0, 1))
        worse = (every - least) / (2 * np.maximum(least, 1e-12))
        share = np.exp(-_TEMPER * len(self._seen) * worse)
        out: Floats = share / share.sum(axis=(0, 1))
        return out
