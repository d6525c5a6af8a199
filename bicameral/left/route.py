"""Route: one member answers, the most useful that is alive."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from bicameral.left.policy import Case, Step, Verdict
from bicameral.types import Feature


class Route:
    """Members by falling quality, in the config's order among equals; the next if one fails."""

    name = "route"
    refuses: frozenset[Feature] = frozenset()
    settings: Mapping[str, Any] = MappingProxyType({})

    def next(self, case: Case) -> Step | None:
        """The best member not yet asked, final."""
        if not case.left:
            return None
        best = max(case.left, key=lambda member: case.estimates[member.card.name].quality)
        why = f"{case.asked[-1].model} failed, asked {best.card.name}" if case.asked else ""
        return Step(models=(best,), request=case.request, final=True, why=why)

    def settle(self, case: Case) -> Verdict:
        """Every answer it collects is a failure, so the last one."""
        return Verdict(index=len(case.answers) - 1)
