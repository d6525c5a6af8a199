"""Route: one member answers, the best-scored that is alive."""

from __future__ import annotations

from collections.abc import Sequence

from bicameral.left.mind import Step
from bicameral.left.score import Score
from bicameral.model import Model
from bicameral.types import Answer, Feature, Request


class Route:
    """Members by falling score, in the config's order without one; the next if one fails."""

    name = "route"
    refuses: frozenset[Feature] = frozenset()

    def __init__(self, score: Score | None = None) -> None:
        self._score = score

    def next(
        self, request: Request, members: Sequence[Model], answers: Sequence[Answer]
    ) -> Step | None:
        """The best member not yet asked, final."""
        asked = {answer.model for answer in answers}
        left = [member for member in members if member.card.name not in asked]
        if not left:
            return None
        best = left[0]
        if (score := self._score) is not None:
            best = max(left, key=lambda member: score(request, member.card))
        why = f"{answers[-1].model} failed, asked {best.card.name}" if answers else ""
        return Step(models=(best,), request=request, final=True, why=why)

    def settle(self, request: Request, answers: Sequence[Answer]) -> Answer:
        """Every answer it collects is a failure, so the last one."""
        return answers[-1]
