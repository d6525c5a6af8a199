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

    A member before the last may say at most `try_tokens`: an answer cut there, or one that comes
    without logprobs, is not sure of itself, so the next member is asked.
    """

    name = "cascade"
    refuses = frozenset({Feature.MANY})

    def __init__(self, threshold: float, try_tokens: int | None = None) -> None:
        self._threshold = threshold
        self._try_tokens = try_tokens

    def next(
        self, request: Request, members: Sequence[Model], answers: Sequence[Answer]
    ) -> Step | None:
        """The next member in order, unless the last answer is good enough."""
        if answers and self._sure(answers[-1], request):
            return None
        asked = {answer.model for answer in answers}
        left = [member for member in members if member.card.name not in asked]
        if not left:
            return None
        why = self._why(answers, request)
        if len(left) == 1:
            return Step(models=(left[0],), request=request, final=True, why=why)
        return Step(models=(left[0],), request=self._trial(request, left[0]), why=why)

    def settle(self, request: Request, answers: Sequence[Answer]) -> Answer:
        """The surest answer; the latest among equals."""
        good = [answer for answer in answers if answer.error is None]
        best = max(reversed(good), key=lambda answer: confidence(answer) or 0.0)
        return replace(best, why=f"{best.model} was {confidence(best) or 0.0:.2f} sure")

    def _trial(self, request: Request, model: Model) -> Request:
        sampling = request.sampling
        if Feature.LOGPROBS in model.card.features:
            sampling = replace(sampling, logprobs=True)
        if self._caps(request):
            sampling = replace(sampling, max_tokens=self._try_tokens)
        return request if sampling is request.sampling else request.but(sampling=sampling)

    def _caps(self, request: Request) -> bool:
        most = request.sampling.max_tokens
        return self._try_tokens is not None and (most is None or most > self._try_tokens)

    def _cut(self, answer: Answer, request: Request) -> bool:
        return answer.reason == "length" and self._caps(request)

    def _sure(self, answer: Answer, request: Request) -> bool:
        return not self._cut(answer, request) and (confidence(answer) or 0.0) >= self._threshold

    def _why(self, answers: Sequence[Answer], request: Request) -> str:
        if not answers:
            return ""
        last = answers[-1]
        if last.error is not None:
            return f"{last.model} failed"
        if self._cut(last, request):
            return f"{last.model} was cut at {self._try_tokens} tokens"
        sure = confidence(last)
        if sure is None:
            return f"{last.model} gave no logprobs"
        return f"{last.model} was {sure:.2f} sure, below {self._threshold:g}"
