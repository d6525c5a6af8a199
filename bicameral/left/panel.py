"""Whom to ask in which order, and when to stop: optimal stopping, learned from outcomes.

Cheap members come first. After each answer the leader's probability of being right is held
against a bar, above which going on does not pay; who is in, and the bars, are what made the most
of the recorded answers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bicameral.left.tally import Given

Floats = NDArray[np.float64]

_ALIKE = 1.5
_RESCUES = (0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.45, 0.7, 1.0)


@dataclass(frozen=True)
class Field:
    """What a search plays on: answers, their full vote weights, what each call costs.

    `cost` is in the unit of the utility: dollars, where none are recorded seconds. `none`: the
    score of "none is right" by number of answers, `agree` what agreement adds (see Ballot).
    """

    seen: Given
    weights: Floats  # P x M
    none: Floats  # counts
    cost: Floats  # P x M
    agree: Floats  # counts x counts

    def rows(self, index: NDArray[np.intp]) -> Field:
        """Only these prompts."""
        seen = self.seen
        grids = (seen.group[index], seen.value[index], seen.here[index])
        seen = Given(*grids, seen.exclusive)
        return Field(seen, self.weights[index], self.none, self.cost[index], self.agree)


@dataclass(frozen=True)
class Panel:
    """Members by column, asked in this order; `bars` as `Vote` takes them.

    `quality`, `cost` and `calls` per prompt are what it reached on the field it was fitted on.
    """

    order: tuple[int, ...]
    bars: tuple[float, ...]
    quality: Floats
    cost: Floats
    calls: Floats

    def value(self, worth: float) -> float:
        """Mean utility at `worth` a right answer."""
        return float(np.mean(worth * self.quality - self.cost))


def play(field: Field, order: Sequence[int]) -> tuple[Floats, Floats]:
    """After each member of `order`: how sure the leader is, what it is worth. Both P x len."""
    prompts, members = field.weights.shape
    rows = np.arange(prompts)
    score = np.full((prompts, members), -40.0)
    votes = np.zeros((prompts, members), dtype=np.intp)
    count = np.zeros(prompts, dtype=np.intp)
    sure = np.zeros((prompts, len(order)))
    worth = np.zeros((prompts, len(order)))
    for j, m in enumerate(order):
        heard = np.flatnonzero(field.seen.group[:, m] >= 0)
        groups = field.seen.group[heard, m]
        old = score[heard, groups]
        score[heard, groups] = np.where(old < -30, 0.0, old) + field.weights[heard, m]
        votes[heard, groups] += 1
        count += field.seen.here[:, m]
        level = np.minimum(np.maximum(count, 1), len(field.none)) - 1
        height = np.minimum(np.maximum(votes, 1), field.agree.shape[1]) - 1
        total = score + field.agree[level[:, None], height]
        lead = total.argmax(axis=1)
        said = score[rows, lead] > -30
        sure[:, j] = np.where(said, _sure(field, total, level), 0.0)
        worth[:, j] = np.where(said, field.seen.value[rows, lead], 0.0)
    return sure, worth


def _sure(field: Field, score: Floats, level: NDArray[np.intp]) -> Floats:
    """The leader's probability: among all groups, or on its own where several can be right."""
    if not field.seen.exclusive:
        return np.asarray(1 / (1 + np.exp(field.none[0] - score.max(axis=1))))
    none = field.none[level]
    top = np.maximum(score.max(axis=1), none)
    lead = np.exp(score.max(axis=1) - top)
    total = np.exp(score - top[:, None]).sum(axis=1) + np.exp(none - top)
    return np.asarray(lead / total)


def fit_bars(field: Field, order: Sequence[int], worth: float) -> Panel:
    """The bars that make the most of `order` when a right answer is worth `worth`.

    Going on pays while (1 - sure) x rescue x worth exceeds the next price, where rescue is how
    often going on turns a wrong leader right. That one number is fitted; a bar for each place of
    its own (backward induction on regressed values, Longstaff and Schwartz 2001) fits the noise.
    """
    sure, value = play(field, order)
    prices = np.stack([_price(field, m) for m in order], axis=1)
    means = prices[:, 1:].mean(axis=0)
    tries = (1 - means / (worth * rescue) for rescue in _RESCUES)
    panels = (_played(order, bars, sure, value, prices) for bars in tries)
    return max(panels, key=lambda panel: panel.value(worth))


def apply_bars(field: Field, order: Sequence[int], bars: Sequence[float]) -> Panel:
    """What given bars reach on a field they were not fitted on."""
    sure, value = play(field, order)
    prices = np.stack([_price(field, m) for m in order], axis=1)
    return _played(order, np.asarray(bars), sure, value, prices)


def _played(
    order: Sequence[int], bars: Floats, sure: Floats, value: Floats, prices: Floats
) -> Panel:
    stops = np.ones(sure.shape, dtype=bool)
    stops[:, :-1] = sure[:, :-1] >= bars
    last = stops.argmax(axis=1)
    rows = np.arange(len(sure))
    cost = prices.cumsum(axis=1)[rows, last]
    return Panel(tuple(order), tuple(map(float, bars)), value[rows, last], cost, last + 1.0)


def frontier(field: Field, worths: Sequence[float], seed: int = 0) -> list[Panel]:
    """A good panel for each of `worths`, rising.

    Cheap members are asked first; which of them is found twice, leaving out from all and adding
    to one, on one half of the prompts, and the better is kept by what it reaches on the other.
    The bars are then fitted on all. (An order free of price fits the noise: it wins where it was
    found and loses elsewhere.) Where all cost about the same, the best come first and only their
    number is chosen.
    """
    shuffled = np.random.default_rng(seed).permutation(len(field.cost))
    half = len(shuffled) // 2
    play_on, judge_on = field.rows(shuffled[:half]), field.rows(shuffled[half:])
    prices = play_on.cost.mean(axis=0)
    if prices.max() <= _ALIKE * prices.min():
        ways = [_best_first(play_on, worths)]
    else:
        ways = [_leaving_out(play_on, worths), _adding(play_on, worths)]
    panels = []
    for worth, *orders in zip(worths, *ways, strict=True):
        fitted = [fit_bars(play_on, order, worth) for order in orders]
        best = max(fitted, key=lambda p: apply_bars(judge_on, p.order, p.bars).value(worth))
        panels.append(fit_bars(field, best.order, worth))
    return panels


def _leaving_out(field: Field, worths: Sequence[float]) -> list[Sequence[int]]:
    """From the highest worth down: members that do not pay are dropped one by one."""
    order: Sequence[int] = _by_price(field)
    found: list[Sequence[int]] = []
    for worth in reversed(worths):
        value = fit_bars(field, order, worth).value(worth)
        while len(order) > 1:
            tries = [[m for m in order if m != out] for out in order]
            less = max(tries, key=lambda o: fit_bars(field, o, worth).value(worth))
            reached = fit_bars(field, less, worth).value(worth)
            if reached < value:
                break
            order, value = less, reached
        found.append(order)
    return found[::-1]


def _adding(field: Field, worths: Sequence[float]) -> list[Sequence[int]]:
    """From the lowest worth up: members that pay are added one by one."""
    ranked = _by_price(field)
    order: Sequence[int] = []
    found: list[Sequence[int]] = []
    for worth in worths:
        value = fit_bars(field, order, worth).value(worth) if order else -np.inf
        while len(order) < len(ranked):
            tries = [[m for m in ranked if m in order or m == new] for new in ranked]
            more = max(tries, key=lambda o: fit_bars(field, o, worth).value(worth))
            reached = fit_bars(field, more, worth).value(worth)
            if reached <= value:
                break
            order, value = more, reached
        found.append(order)
    return found


def _best_first(field: Field, worths: Sequence[float]) -> list[Sequence[int]]:
    """For each worth, so many of the members as pay, by how often each is right alone."""
    members = range(field.cost.shape[1])
    ranked = sorted(members, key=lambda m: -float(play(field, [m])[1].mean()))
    firsts = [ranked[: n + 1] for n in members]
    return [max(firsts, key=lambda o: fit_bars(field, o, w).value(w)) for w in worths]


def _by_price(field: Field) -> list[int]:
    """Cheapest first, the surer first among equals."""
    members = range(field.cost.shape[1])
    prices = [_price(field, m).mean() for m in members]
    worth = [play(field, [m])[1].mean() for m in members]
    return sorted(members, key=lambda m: (prices[m], -worth[m]))


def _price(field: Field, member: int) -> Floats:
    """What asking `member` costs; a member that is not there costs nothing."""
    return np.where(field.seen.here[:, member], field.cost[:, member], 0.0)
