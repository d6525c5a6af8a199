"""Samples: one member is asked several times; how often it repeats itself says how sure it is.

Self-consistency (arXiv 2203.11171), stopped as soon as the rest cannot change the outcome.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from bicameral.left.aside import Sample
from bicameral.left.brief import leaving_room
from bicameral.left.policy import Case, Step, Verdict
from bicameral.types import Feature


class Samples:
    """The answer that the first member gives most often, of `count` at most.

    Its quality is the share of samples that say it, as after one more right and one more wrong.
    A mind with this policy gives its member a confidence that an outer mind can go by.
    """

    name = "samples"
    refuses = frozenset({Feature.MANY, Feature.TOOLS})

    def __init__(self, count: int = 5) -> None:
        self._count = count

    @property
    def settings(self) -> Mapping[str, Any]:
        """How many samples there are at most."""
        return {"count": self._count}

    def next(self, case: Case) -> Step | None:
        """As many as make a majority; unless they all say the same, the rest."""
        most = self._count // 2 + 1
        first = not case.asked
        if len(case.asked) >= self._count or (not first and _leader(case)[1] >= most):
            return None
        numbers = range(most) if first else range(most, self._count)
        request = leaving_room(case.request, 2) if first else case.request
        models = tuple(Sample(case.members[0], number) for number in numbers)
        return Step(models=models, request=request)

    def settle(self, case: Case) -> Verdict:
        """The first answer of the largest group; of the first good one if none can be read."""
        key, count = _leader(case)
        index = next((i for i in case.good if case.asked[i].key == key), case.good[0])
        if key is None:
            return Verdict(index=index, why="no sample could be read")
        total = len(case.asked)
        shares = tuple((a.key == key and a.error is None) / count for a in case.asked)
        return Verdict(
            index=index,
            why=f"{count} of {total} samples say so",
            shares=shares,
            quality=(count + 1) / (total + 2),
        )


def _leader(case: Case) -> tuple[str | None, int]:
    """The key that most samples have, of equals the first; how many have it."""
    counts = Counter(case.asked[i].key for i in case.good if case.asked[i].key is not None)
    return counts.most_common(1)[0] if counts else (None, 0)
