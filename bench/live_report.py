"""Tables of the live benchmark: accuracy and seconds per question, with 95 % intervals.

Intervals are bootstraps over questions, paired: what is compared is resampled together.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from msgspec import Struct

from bicameral.evals.metrics import interval
from bicameral.left.outcomes import Outcomes

_DRAWS = 4000


class Line(Struct, frozen=True):
    """What one way of answering got on each question, and how long it took, in one order."""

    name: str
    scores: Any
    seconds: Any


def members(outcomes: Outcomes) -> list[Line]:
    """A line for each member."""
    cells = zip(outcomes.models, outcomes.score.T, outcomes.seconds.T, strict=True)
    return [Line(*cell) for cell in cells]


def bounds(outcomes: Outcomes) -> list[Line]:
    """What anyone who picks from the members lies between."""
    score, seconds = outcomes.score, outcomes.seconds
    fastest = np.argmin(seconds + 1e9 * (score < score.max(1, keepdims=True)), axis=1)
    picked = seconds[np.arange(len(fastest)), fastest]
    return [
        Line("random member", score.mean(1), seconds.mean(1)),
        Line("oracle: the fastest right member", score.max(1), picked),
        Line("oracle, asking all", score.max(1), seconds.sum(1)),
    ]


def best(lines: Sequence[Line]) -> Line:
    """The line with the highest accuracy; of equals the faster."""
    return max(lines, key=lambda line: (line.scores.mean(), -line.seconds.mean()))


def overall(lines: Sequence[Line], against: Line) -> Iterator[str]:
    """A Markdown table; `against` is whom the last two columns compare with."""
    yield f"| | right | seconds | right, against {against.name} | seconds, against it |"
    yield "|---|---|---|---|---|"
    for line in lines:
        cells = [
            line.name,
            _mean(100 * line.scores, ".1f", " %"),
            _mean(line.seconds, ".2f"),
            "" if line is against else _mean(100 * (line.scores - against.scores), "+.1f"),
            "" if line is against else _ratio(line.seconds, against.seconds),
        ]
        yield f"| {' | '.join(cells)} |"


def by_kind(lines: Sequence[Line], kinds: Sequence[Any]) -> Iterator[str]:
    """A Markdown table: a row a kind of question, a column a line: right, and seconds."""
    yield f"| kind, questions | {' | '.join(line.name for line in lines)} |"
    yield "|---|" + "---|" * len(lines)
    for kind in dict.fromkeys(kinds):
        at = np.array([each == kind for each in kinds])
        cells = (
            f"{_mean(100 * line.scores[at], '.0f', ' %')} {line.seconds[at].mean():.1f} s"
            for line in lines
        )
        yield f"| {kind}, {at.sum()} | {' | '.join(cells)} |"


def _mean(values: Any, form: str, unit: str = "") -> str:
    found = interval(values, _DRAWS)
    return f"{found.mean:{form}}{unit} [{found.low:{form}}, {found.high:{form}}]"


def _ratio(ours: Any, theirs: Any) -> str:
    draws = np.random.default_rng(0).integers(len(ours), size=(_DRAWS, len(ours)))
    low, high = np.quantile(ours[draws].mean(1) / theirs[draws].mean(1), [0.025, 0.975])
    return f"{ours.mean() / theirs.mean():.0%} [{low:.0%}, {high:.0%}]"
