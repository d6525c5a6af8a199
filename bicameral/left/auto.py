"""Auto: per request, one of the members or one of the ways to combine them, or none of the latter.

A combination is an arm like any member: what it would have answered on the recorded prompts was
worked out when it was learned, so it has estimates of its own. Where one member dominates no
combination is worth it, and none is an arm.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from msgspec.structs import replace

from bicameral.left.policy import Case, Estimate, Policy, Step, Verdict
from bicameral.left.route import Route
from bicameral.left.worth import Worth
from bicameral.types import Feature


class Auto:
    """What `worth` prefers among members and `arms`: policies by name, with who is in them.

    An arm counts only where every member of it can take the request and the estimates know it.
    Whatever fails altogether is followed by the best member that is left. `means` are qualities
    over all prompts: only `lean` of what an estimate differs from them is believed, as the best of
    many noisy estimates is mostly noise.
    """

    name = "auto"
    refuses: frozenset[Feature] = frozenset({Feature.MANY})

    def __init__(
        self,
        arms: Mapping[str, tuple[Policy, frozenset[str]]] | None = None,
        worth: Worth | None = None,
        means: Mapping[str, float] | None = None,
        lean: float = 1.0,
    ) -> None:
        self._arms = dict(arms or {})
        self._worth = worth or Worth()
        self._means = dict(means or {})
        self._lean = lean
        self._route = Route(self._worth)

    @property
    def settings(self) -> Mapping[str, Any]:
        """What a right answer is worth, and the arms with their own settings."""
        arms = {name: dict(policy.settings) for name, (policy, _) in self._arms.items()}
        return {**self._worth.settings, "lean": self._lean, "means": self._means, "arms": arms}

    def next(self, case: Case) -> Step | None:
        """The next step of the arm that was chosen; a member, if that is what was chosen."""
        arm, why = self._chosen(case)
        if arm is None:
            return self._route.next(self._leant(case))
        step = self._arms[arm][0].next(self._within(case, arm))
        if step is not None:
            return step if case.asked else replace(step, why=_joined(why, step.why))
        return None if case.good else self._route.next(self._leant(case))

    def settle(self, case: Case) -> Verdict:
        """What the arm makes of the answers."""
        arm, _ = self._chosen(case)
        if arm is None or not case.good:
            return self._route.settle(case)
        return self._arms[arm][0].settle(self._within(case, arm))

    def _within(self, case: Case, arm: str) -> Case:
        """The case with the members of the arm only."""
        members = self._arms[arm][1]
        return replace(case, members=tuple(m for m in case.members if m.card.name in members))

    def _chosen(self, case: Case) -> tuple[str | None, str]:
        """The arm, None for a plain member; and why. The same at every step of a request."""
        here = {member.card.name for member in case.members}
        open_to = {
            name
            for name, (policy, members) in self._arms.items()
            if members <= here and name in case.estimates and not asks(case, policy.refuses)
        }
        leant = self._leant(case).estimates
        offered = {n: e for n, e in leant.items() if n in here or n in open_to}
        pick = self._worth.pick(offered, case.warm)
        return (pick.name if pick.name in open_to else None), pick.why

    def _leant(self, case: Case) -> Case:
        """The case with estimates as far as they are believed."""
        if self._lean == 1.0:
            return case
        believed = {name: self._believed(name, e) for name, e in case.estimates.items()}
        return replace(case, estimates=believed)

    def _believed(self, name: str, estimate: Estimate) -> Estimate:
        mean = self._means.get(name)
        if mean is None:
            return estimate
        return replace(estimate, quality=mean + self._lean * (estimate.quality - mean))


def asks(case: Case, features: frozenset[Feature]) -> bool:
    """Whether the request asks for one of `features` that a combination cannot carry."""
    return Feature.TOOLS in features and bool(case.request.tools)


def _joined(*whys: str) -> str:
    return "; ".join(why for why in whys if why)
