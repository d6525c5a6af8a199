"""Cascade: members in order until one sounds sure enough (FrugalGPT, arXiv 2305.05176)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from msgspec.structs import replace

from bicameral.decision import Asked
from bicameral.left.policy import Case, Step, Verdict
from bicameral.model import Model
from bicameral.types import Feature, Request


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

    @property
    def settings(self) -> Mapping[str, Any]:
        """The threshold and the tokens of a trial."""
        return {"threshold": self._threshold, "try_tokens": self._try_tokens}

    def next(self, case: Case) -> Step | None:
        """The next member in order, unless the last answer is good enough."""
        if (case.asked and self._sure(case.asked[-1])) or not case.left:
            return None
        why = self._why(case.asked[-1]) if case.asked else ""
        member, *more = case.left
        request = self._trial(case.request, member) if more else case.request
        return Step(models=(member,), request=request, final=not more, why=why)

    def settle(self, case: Case) -> Verdict:
        """The surest answer; the latest among equals."""
        best = max(reversed(case.good), key=lambda i: case.asked[i].confidence or 0.0)
        asked = case.asked[best]
        return Verdict(index=best, why=f"{asked.model} was {asked.confidence or 0.0:.2f} sure")

    def _trial(self, request: Request, model: Model) -> Request:
        sampling = request.sampling
        if Feature.LOGPROBS in model.card.features:
            sampling = replace(sampling, logprobs=True)
        most = sampling.max_tokens
        if self._try_tokens is not None and (most is None or most > self._try_tokens):
            sampling = replace(sampling, max_tokens=self._try_tokens)
        return request if sampling is request.sampling else request.but(sampling=sampling)

    def _sure(self, asked: Asked) -> bool:
        return not asked.cut and (asked.confidence or 0.0) >= self._threshold

    def _why(self, last: Asked) -> str:
        if last.error is not None:
            return f"{last.model} failed"
        if last.cut:
            return f"{last.model} was cut at {self._try_tokens} tokens"
        if last.confidence is None:
            return f"{last.model} gave no logprobs"
        return f"{last.model} was {last.confidence:.2f} sure, below {self._threshold:g}"
