"""What answers show together: the probability of each being right, given who gave it.

A conditional logit (McFadden 1974) over the distinct answers: each member adds the weight of its
vote to the answer it gave, and "none of them is right" has a score of its own, which grows with
the number of answers. Errors of members go together, so weights are fitted jointly, which a
log-odds vote (independent errors) is not. One answer alone makes it a logistic regression: the
same weights tell how far a single answer can be trusted.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from bicameral.decision import Asked
from bicameral.left.policy import Case, Estimate

# Without outcomes: wrong answers spread evenly over four others, so one vote is as sure as its
# member is good.
_SPREAD = math.log(4)
_CLIP = 3.0

Level = TypeVar("Level")


@dataclass(frozen=True)
class Heard:
    """What a member's way of answering tells: slopes on standardised logs of tokens, confidence.

    `passed` and `failed` are added for what a checker said.
    """

    tokens: float = 0.0
    tokens_mean: float = 0.0
    tokens_scale: float = 1.0
    confidence: float = 0.0
    confidence_mean: float = 0.0
    confidence_scale: float = 1.0
    passed: float = 2.0
    failed: float = -2.0

    def weight(self, asked: Asked) -> float:
        """Log-odds that these signs add to the member's vote."""
        total = 0.0
        if asked.tokens is not None and self.tokens:
            total += self.tokens * _standard(
                math.log1p(asked.tokens), self.tokens_mean, self.tokens_scale
            )
        if asked.confidence is not None and self.confidence:
            total += self.confidence * _standard(
                logit(asked.confidence), self.confidence_mean, self.confidence_scale
            )
        if asked.checked is not None:
            total += self.passed if asked.checked else self.failed
        return total


@dataclass(frozen=True)
class Posterior:
    """`of` gives each answer's probability of being right, 0 for failures and abstentions.

    `lead` is the index of an answer of the leading group, None if nobody said anything; `sure`
    its probability.
    """

    of: tuple[float, ...]
    lead: int | None
    sure: float


@dataclass(frozen=True)
class Ballot:
    """Weighs answers. `exclusive`: different answers cannot both be right.

    `none` is the score of "none is right" by the number of answers, abstentions included, its
    last entry for more; `agree[n - 1][k - 1]` is added for an answer that k of n gave.
    """

    heard: Mapping[str, Heard]
    none: tuple[float, ...] = (_SPREAD,)
    agree: tuple[tuple[float, ...], ...] = ((0.0,),)
    exclusive: bool = True

    def posterior(self, case: Case) -> Posterior:
        """What the answers so far show. An answer the policy cut short abstains."""
        votes = self.votes(case.asked, case.estimates)
        if not votes:
            return Posterior(tuple(0.0 for _ in case.asked), None, 0.0)
        count = len(case.good)
        if self.exclusive:
            groups = self.groups(case.asked, votes, count)
            share = _softmax(groups, self._none(count))
            of = tuple(share[a.key or ""] if i in votes else 0.0 for i, a in enumerate(case.asked))
        else:
            of = tuple(
                _sigmoid(votes[i] - self._none(1)) if i in votes else 0.0
                for i in range(len(case.asked))
            )
        lead = max(votes, key=lambda i: (of[i], votes[i], -i))
        return Posterior(of, lead, of[lead])

    def groups(
        self, asked: Sequence[Asked], votes: Mapping[int, float], count: int
    ) -> dict[str, float]:
        """The score of each distinct answer among `count` answers."""
        score: dict[str, float] = {}
        size: dict[str, int] = {}
        for i, weight in votes.items():
            key = asked[i].key or ""
            score[key] = score.get(key, 0.0) + weight
            size[key] = size.get(key, 0) + 1
        level = _at(self.agree, count)
        return {key: total + _at(level, size[key]) for key, total in score.items()}

    def votes(self, asked: Sequence[Asked], estimates: Mapping[str, Estimate]) -> dict[int, float]:
        """The weight of each answer that says something, by its index."""
        return {
            i: self.weight(a.model, estimates.get(a.model)) + self._signs(a)
            for i, a in enumerate(asked)
            if a.error is None and a.key is not None and not a.cut
        }

    def weight(self, model: str, estimate: Estimate | None) -> float:
        """What the vote of `model` counts for before it is heard."""
        if estimate is None:
            return self._none(1)
        if estimate.weight is not None:
            return estimate.weight
        return logit(estimate.quality) + self._none(1)

    def _signs(self, asked: Asked) -> float:
        return self.heard.get(asked.model, _UNHEARD).weight(asked)

    def _none(self, count: int) -> float:
        return _at(self.none, count)


_UNHEARD = Heard()
PLAIN = Ballot(heard={})


def _at(levels: Sequence[Level], count: int) -> Level:
    """The entry for `count`, counted from one; the last for more."""
    return levels[min(count, len(levels)) - 1]


def logit(p: float) -> float:
    """Log-odds, bounded to those of 0.001 and 0.999."""
    p = min(max(p, 0.001), 0.999)
    return math.log(p / (1 - p))


def _standard(value: float, mean: float, scale: float) -> float:
    return min(max((value - mean) / scale, -_CLIP), _CLIP)


def _sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x)) if x >= 0 else math.exp(x) / (1 + math.exp(x))


def _softmax(groups: Mapping[str, float], none: float) -> dict[str, float]:
    top = max(none, *groups.values())
    mass = {key: math.exp(score - top) for key, score in groups.items()}
    total = sum(mass.values()) + math.exp(none - top)
    return {key: value / total for key, value in mass.items()}
