"""Cascade: members in order until one sounds sure enough (FrugalGPT, arXiv 2305.05176)."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from bicameral.left.mind import Step
from bicameral.left.score import confidence
from bicameral.model import Model
from bicameral.types import Answer, Feature, Request


class Cascade:
    """Stops at the first answer whose confidence reaches `threshold`; the last member streams.

    An answer that comes without logprobs has no confidence and is passed over.
    """

    name = "cascade"
    refuses = frozenset({Feature.MANY})

    def __init__(self, threshold: float) -> None:
        self._threshold = threshold

    def next(
        self, request: Request, members: Sequence[Model], answers: Sequence[Answer]
    ) -> Step | None:
        """The next member in order, unless the last answer is good enough."""
        if answers and (confidence(answers[-1]) or 0.0) >= self._threshold:
            return None
        asked = {answer.model for answer in answers}
        left = [member for member in members if member.card.name not in asked]
        if not left:
            return None
        if len(left) == 1:
            return Step(models=(left[0],), request=request, final=True, why=self._why(answers))
        probing = _with_logprobs(request, left[0])
        return Step(models=(left[0],), request=probing, why=self._why(answers))

    def settle(self, request: Request, answers: Sequence[Answer]) -> Answer:
        """The surest answer; the latest among equals."""
        good = [answer for answer in answers if answer.error is None]
        return max(reversed(good), key=lambda answer: confidence(answer) or 0.0)

    def _why(self, answers: Sequence[Answer]) -> str:
        if not answers:
            return ""
        last = answers[-1]
        if last.error is not None:
            return f"{last.model} failed"
        sure = confidence(last)
        if sure is None:
            return f"{last.model} gave no logprobs"
        return f"{last.model} was {sure:.2f} sure, below {self._threshold:g}"


def _with_logprobs(request: Request, model: Model) -> Request:
    if Feature.LOGPROBS not in model.card.features:
        return request
    return request.but(sampling=replace(request.sampling, logprobs=True))
