"""Small tables of outcomes for the tests."""

from __future__ import annotations

from collections.abc import Mapping

from bicameral.left.outcomes import Outcomes
from bicameral.left.policy import Estimate
from bicameral.left.table import tabulate


def table(*rows: str, gold: bool = True, **columns: object) -> Outcomes:
    """A row a prompt, "gold: answer answer …" of members a, b, …; - is no answer, ? no outcome.

    `columns` adds constant ones. Costs are $0.001, 0.002, … and seconds 1, 2, … by member.
    """
    import polars as pl

    cells = []
    for number, row in enumerate(rows):
        right, _, answers = row.partition(": ")
        for place, answer in enumerate(answers.split()):
            if answer == "?":
                continue
            cell = {
                "prompt_id": f"p{number}",
                "prompt": f"question {number}",
                "model": chr(ord("a") + place),
                "score": float(answer == right),
                "cost": 0.001 * (place + 1),
                "seconds": float(place + 1),
                "tokens_in": 10,
                "tokens_out": 5,
                "answer": None if answer == "-" else answer,
                "gold": right,
            }
            cells.append(cell | columns)
    frame = pl.DataFrame(cells)
    return tabulate(frame if gold else frame.drop("gold"))


class Fixed:
    """An Estimator that expects the same of its members whatever is asked."""

    digest = "fixed"

    def __init__(self, quality: Mapping[str, float]) -> None:
        self._quality = quality

    def estimate(self, request, cards):
        return {card.name: Estimate(quality=self._quality[card.name]) for card in cards}
