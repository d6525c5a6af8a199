"""Vote: all members answer, the most common answer counts (self-consistency, arXiv 2203.11171)."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Sequence

from bicameral.left.mind import Step
from bicameral.model import Model
from bicameral.types import Answer, Feature, Request

_BOUNDARY = re.compile(r"[\s\W_]+")


class Vote:
    """A plurality of equal votes; of tied answers the one whose member is named first."""

    name = "vote"
    refuses = frozenset({Feature.MANY, Feature.TOOLS})

    def next(
        self, request: Request, members: Sequence[Model], answers: Sequence[Answer]
    ) -> Step | None:
        """All members at once."""
        return None if answers else Step(models=tuple(members), request=request)

    def settle(self, request: Request, answers: Sequence[Answer]) -> Answer:
        """The first answer of the largest group of equals."""
        good = [answer for answer in answers if answer.error is None]
        counts = Counter(normalised(answer.text) for answer in good)
        return max(good, key=lambda answer: counts[normalised(answer.text)])


def normalised(text: str) -> str:
    """Texts that say the same give the same: JSON by value, else words without case and marks."""
    try:
        return json.dumps(json.loads(text), sort_keys=True)
    except ValueError:
        return _BOUNDARY.sub(" ", text).strip().casefold()
