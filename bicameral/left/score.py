"""Estimates, never decisions: how sure an answer sounds, who is expected to be right."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from bicameral.left.policy import Estimate
from bicameral.types import Answer, Card, Request, Usage

# Without outcomes nothing is known of how long answers are; this is a usual chat answer.
_ANSWER_TOKENS = 256
_BYTES_PER_TOKEN = 4


class Priors:
    """What is expected of members without recorded outcomes: their declared quality and price.

    `declared` gives the probability that a member's answer is right, 0 to 1; 0.5 where it is
    silent.
    """

    digest = ""

    def __init__(self, declared: Mapping[str, float] | None = None) -> None:
        self._declared = declared or {}

    def estimate(self, request: Request, cards: Sequence[Card]) -> Mapping[str, Estimate]:
        """The declared quality, and the price of an answer of usual length."""
        return {
            card.name: Estimate(
                quality=self._declared.get(card.name, 0.5), cost=usual_cost(card, request)
            )
            for card in cards
        }


def usual_cost(card: Card, request: Request) -> int | None:
    """Nano-dollars of an answer of usual length to `request`; None if the price is unknown."""
    if card.price is None:
        return None
    size = sum(len(message.text) for message in request.messages)
    tokens = min(_ANSWER_TOKENS, request.sampling.max_tokens or _ANSWER_TOKENS)
    usage = Usage(prompt_tokens=size // _BYTES_PER_TOKEN + 1, completion_tokens=tokens)
    return card.price.cost(usage)


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
