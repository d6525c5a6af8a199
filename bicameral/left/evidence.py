"""Reads an answer as evidence: what it says, as a digest, how sure it is, what a checker says."""

from __future__ import annotations

import math
from collections.abc import Sequence
from hashlib import blake2b
from typing import Protocol

from bicameral.decision import Asked
from bicameral.left import answers, score, values
from bicameral.left.answers import Kind, Said
from bicameral.left.check import Checker
from bicameral.types import Answer, Request, TokenLogprob


class Shows(Protocol):
    """Runs an answer and tells what it does."""

    async def shows(self, request: Request, answer: Answer) -> str | None:
        """Equal for answers that behave alike; None: it does not run, or cannot be told."""
        ...


class Evidence:
    """The Reader of live answers.

    `kind` None: guessed from each request. `checker` gives `checked`. `probe` runs code, so that
    programs count as equal if they do the same, not if they are written the same.
    """

    def __init__(
        self,
        kind: Kind | None = None,
        *,
        checker: Checker | None = None,
        probe: Shows | None = None,
    ) -> None:
        self._kind = kind
        self._checker = checker
        self._probe = probe

    async def read(self, request: Request, answer: Answer) -> Asked:
        """`key` is None for a failure and for an answer that abstains or cannot be read."""
        if answer.error is not None:
            return _asked(answer, confidence=0.0, error=str(answer.error))
        kind = self._kind or answers.kind(request)
        said = _said(kind, request, answer)
        key = said.key if said else None
        if key is not None and kind == "code" and self._probe:
            key = await self._probe.shows(request, answer)
        return _asked(
            answer,
            key=None if key is None else digest(f"{kind}:{key}", request.id),
            confidence=sureness(answer, said),
            checked=await self._checker.check(request, answer) if self._checker else None,
        )


def digest(text: str, salt: str) -> str:
    """Equal for equal texts of one request, and for nothing else; 16 hex digits."""
    return blake2b(text.encode(), key=salt.encode()[:64], digest_size=8).hexdigest()


def sureness(answer: Answer, said: Said | None) -> float | None:
    """How sure an answer is, 0 to 1; None if nothing tells.

    What a mind estimated of its own answer; else the probability of its tokens
    (`score.confidence`) and that of the tokens that state the result, the geometric mean of the
    two: of an answer that reasons first, both tell something (docs/measurements.md). Not
    calibrated, and a member's own claim: what it is worth is learned from outcomes, for each
    member.
    """
    if answer.decisions and answer.decisions[0].quality is not None:
        return answer.decisions[0].quality
    whole = score.confidence(answer)
    if whole is None or not said or not (tokens := stating(answer, said)):
        return whole
    result = math.exp(sum(min(0.0, t.logprob) for t in tokens) / len(tokens))
    return math.sqrt(whole * result)


def _said(kind: Kind, request: Request, answer: Answer) -> Said | None:
    if answer.tool_calls:
        return Said(values.called(answer.tool_calls), 0, 0)
    return answers.read(kind, request.question, answer.text)


def stating(answer: Answer, said: Said) -> Sequence[TokenLogprob]:
    """The tokens that spell the stretch that states the result; empty if they cannot be told."""
    begins = "".join(t.token for t in answer.logprobs).find(answer.text)
    if begins < 0:
        return ()
    found, at = [], -begins
    for token in answer.logprobs:
        if at < said.end and at + len(token.token) > said.start:
            found.append(token)
        at += len(token.token)
    return found


def _asked(
    answer: Answer,
    *,
    key: str | None = None,
    confidence: float | None,
    checked: bool | None = None,
    error: str | None = None,
) -> Asked:
    return Asked(
        model=answer.model,
        key=key,
        confidence=confidence,
        tokens=answer.usage.completion_tokens,
        checked=checked,
        error=error,
        cost=answer.cost,
        seconds=answer.seconds,
    )
