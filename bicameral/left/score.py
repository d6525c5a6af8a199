"""Estimates, never decisions: how sure an answer sounds."""

from __future__ import annotations

import math
from collections.abc import Callable

from bicameral.types import Answer, Card, Request

# How well a member is expected to do on a request; higher is better.
Score = Callable[[Request, Card], float]


def confidence(answer: Answer) -> float | None:
    """The geometric mean of the token probabilities, 0 to 1; None if the model gave none.

    Length-normalised sequence likelihood (Malinin and Gales, arXiv 2002.07650). It is not
    calibrated: compare it with a threshold chosen for that member, not with a frequency.
    """
    if answer.error is not None or not (answer.text or answer.tool_calls):
        return 0.0
    if not answer.logprobs:
        return None
    return math.exp(sum(t.logprob for t in answer.logprobs) / len(answer.logprobs))
