"""Route: one member answers, the most useful that is alive."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bicameral.left.policy import Case, Step, Verdict
from bicameral.left.worth import Worth
from bicameral.types import Feature


class Route:
    """The member that `worth` prefers; the next best if one fails.

    Among equals the one that holds the conversation in its cache, then the config's order.
    """

    name = "route"
    refuses: frozenset[Feature] = frozenset()

    def __init__(self, worth: Worth | None = None) -> None:
        self._worth = worth or Worth()

    @property
    def settings(self) -> Mapping[str, Any]:
        """What a right answer is worth, or the bound."""
        return self._worth.settings

    def next(self, case: Case) -> Step | None:
        """The best member not yet asked, final."""
        if not case.left:
            return None
        left = {member.card.name: member for member in case.left}
        pick = self._worth.pick({name: case.estimates[name] for name in left}, case.warm)
        why = [f"{case.asked[-1].model} failed, asked {pick.name}"] if case.asked else []
        why += [pick.why] if pick.why else []
        return Step(models=(left[pick.name],), request=case.request, final=True, why="; ".join(why))

    def settle(self, case: Case) -> Verdict:
        """Every answer it collects is a failure, so the last one."""
        return Verdict(index=len(case.answers) - 1)
