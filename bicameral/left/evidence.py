"""Reads an answer as evidence: what it says, as a digest, and how sure it sounds."""

from __future__ import annotations

from hashlib import blake2b

from bicameral.decision import Asked
from bicameral.left.answers import normalised
from bicameral.left.score import confidence
from bicameral.types import Answer, Request


class Evidence:
    """The Reader of live answers."""

    def read(self, request: Request, answer: Answer) -> Asked:
        """`key` is None for a failure and for an answer that says nothing."""
        said = None if answer.error is not None else normalised(answer.text)
        return Asked(
            model=answer.model,
            key=digest(said, request.id) if said else None,
            confidence=confidence(answer),
            tokens=answer.usage.completion_tokens,
            error=None if answer.error is None else str(answer.error),
            cost=answer.cost,
            seconds=answer.seconds,
        )


def digest(text: str, salt: str) -> str:
    """Equal for equal texts of one request, and for nothing else; 16 hex digits."""
    return blake2b(text.encode(), key=salt.encode()[:64], digest_size=8).hexdigest()
