"""How sure an answer sounds, read in several ways from the log probabilities of its tokens.

    python bench/left_sure.py [--resamples 2000]

Reads what bench/live.py has recorded in .bench/live so far and prints, for each local member, how
well each way tells right from wrong answers: the area under the ROC curve, on the questions to
learn from, where the way that the product takes was chosen, and on the test questions. Pairs are
compared within a kind of question, so that telling the kinds apart does not count. Intervals are
95 %, bootstrap over questions.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence

import live_record
import numpy as np
from live_members import request
from live_record import Row

from bicameral.left import answers, evidence
from bicameral.types import Answer, TokenLogprob

Ways = dict[str, Callable[[np.ndarray, np.ndarray], float]]

# From the log probabilities of all tokens, and of those that state the result.
WAYS: Ways = {
    "mean": lambda whole, stated: whole.mean(),
    "mean of the result": lambda whole, stated: stated.mean(),
    "sum of the result": lambda whole, stated: stated.sum(),
    "least of the result": lambda whole, stated: stated.min(),
    "mean of both means": lambda whole, stated: (whole.mean() + stated.mean()) / 2,
}


def signs(row: Row) -> list[float]:
    """One number for each way; all the same where the answer cannot be read."""
    answer = Answer(
        model=row.model,
        text=row.text,
        logprobs=tuple(TokenLogprob(*token) for token in row.tokens),
        reason="stop",
    )
    asked = request(row.prompt)
    said = answers.read(answers.kind(asked), asked.question, row.text)
    whole = np.array([t.logprob for t in answer.logprobs])
    tokens = evidence.stating(answer, said) if said else ()
    stated = np.array([t.logprob for t in tokens]) if tokens else whole
    return [float(way(whole, stated)) for way in WAYS.values()]


def area(sign: np.ndarray, right: np.ndarray, kinds: np.ndarray, times: np.ndarray) -> float:
    """The share of pairs of one kind, one right and one wrong, that `sign` puts in order.

    `times`: how often each row counts.
    """
    good, bad = np.flatnonzero(right), np.flatnonzero(~right)
    weight = times[good, None] * times[None, bad] * (kinds[good, None] == kinds[None, bad])
    gap = sign[good, None] - sign[None, bad]
    total = weight.sum()
    return float((weight * ((gap > 0) + 0.5 * (gap == 0))).sum() / total) if total else np.nan


def areas(rows: Sequence[Row], resamples: int) -> list[str]:
    """A cell for each way; then the last way less the first and the second, paired."""
    sign = np.array([signs(row) for row in rows])
    right = np.array([row.score > 0.5 for row in rows])
    kinds = np.array([row.category for row in rows])
    rng = np.random.default_rng(0)
    drawn = rng.multinomial(len(rows), np.full(len(rows), 1 / len(rows)), size=resamples)
    ones = np.ones(len(rows))
    found = np.array([area(s, right, kinds, ones) for s in sign.T])
    spread = np.array([[area(s, right, kinds, times) for s in sign.T] for times in drawn])
    cells = [_cell(mean, draws, "") for mean, draws in zip(found, spread.T, strict=True)]
    gains = [_cell(found[-1] - found[i], spread[:, -1] - spread[:, i], "+") for i in (0, 1)]
    return [*cells, *gains]


def _cell(mean: float, draws: np.ndarray, sign: str) -> str:
    low, high = np.nanpercentile(draws, [2.5, 97.5])
    return f"{mean:{sign}.2f} [{low:{sign}.2f}, {high:{sign}.2f}]"


def main() -> None:
    """A table of every member and split."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--resamples", type=int, default=2000)
    asked = parser.parse_args()
    rows = [row for row in live_record.rows() if row.tokens]
    if not rows:
        print(f"skipped: no answers in {live_record.path()}; `make bench-live` records them")
        return
    print("\n### How sure an answer sounds, read in five ways\n")
    columns = ("member, questions", "right %", *WAYS, "both less mean", "both less result")
    print(f"| {' | '.join(columns)} |\n" + "|---" * len(columns) + "|")
    for split in ("fit", "test"):
        for model in dict.fromkeys(row.model for row in rows):
            some = [row for row in rows if row.model == model and row.split == split]
            right = 100 * np.mean([row.score > 0.5 for row in some])
            cells = areas(some, asked.resamples)
            print(f"| {model}, {split}: {len(some)} | {right:.0f} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
