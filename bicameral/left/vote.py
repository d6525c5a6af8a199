"""Vote: members answer, the answer with the most weight counts (arXiv 2203.11171)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from bicameral.left.policy import Case, Step, Verdict
from bicameral.types import Feature


class Vote:
    """A plurality of equal votes; of tied answers the one whose member is named first."""

    name = "vote"
    refuses = frozenset({Feature.MANY, Feature.TOOLS})
    settings: Mapping[str, Any] = MappingProxyType({})

    def next(self, case: Case) -> Step | None:
        """All members at once."""
        return None if case.asked else Step(models=case.members, request=case.request)

    def settle(self, case: Case) -> Verdict:
        """The first answer of the largest group of equals."""
        counts = Counter(case.asked[i].key for i in case.good)
        best = max(case.good, key=lambda i: counts[case.asked[i].key])
        return Verdict(index=best)
