"""Vote: members answer, the answer most likely right counts (self-consistency, arXiv 2203.11171).

Members are asked in an order, some at a time; it stops as soon as more answers cannot change the
outcome enough to be worth their price (the bars, from `left/panel.py`) or cannot change it at all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bicameral.left.ballot import PLAIN, Ballot, Posterior
from bicameral.left.policy import Case, Step, Verdict
from bicameral.model import Model
from bicameral.types import Feature


class Vote:
    """Weighed votes; of tied answers the one whose member was asked first.

    `order`: whom to ask, by name (None: every member, in the config's order). `bars[i]`: after
    the first i + 1 of the order were asked, a leader at least that likely right ends it; where
    there is no bar only a decided outcome does. `at_once`: how many to ask together, None: all.
    """

    name = "vote"
    refuses = frozenset({Feature.MANY, Feature.TOOLS})

    def __init__(
        self,
        ballot: Ballot = PLAIN,
        order: Sequence[str] | None = None,
        bars: Sequence[float] = (),
        at_once: int | None = None,
    ) -> None:
        self._ballot = ballot
        self._order = None if order is None else tuple(order)
        self._bars = tuple(bars)
        self._at_once = at_once

    @property
    def settings(self) -> Mapping[str, Any]:
        """Order, bars and how many are asked together."""
        return {
            "order": None if self._order is None else list(self._order),
            "bars": list(self._bars),
            "at_once": self._at_once,
        }

    def next(self, case: Case) -> Step | None:
        """The next of the order, unless the outcome is sure enough or decided."""
        left = self._left(case)
        if not left:
            return None
        if not case.asked:
            return self._step(case, left, "")
        posterior = self._ballot.posterior(case)
        bar = self._bar(case)
        done = self._decided(case, posterior, left) if bar is None else posterior.sure >= bar
        if done:
            return None
        why = f"{posterior.sure:.2f} sure" + ("" if bar is None else f", below {bar:.2f}")
        return self._step(case, left, f"{why}: asked on")

    def settle(self, case: Case) -> Verdict:
        """An answer of the leading group; where all abstained, the best member's."""
        posterior = self._ballot.posterior(case)
        if posterior.lead is None:
            best = max(case.good, key=lambda i: (_quality(case, i), -i))
            return Verdict(index=best, why="no answers could be compared")
        lead = posterior.lead
        votes = self._ballot.votes(case.asked, case.estimates)
        same = [i for i in votes if self._same(case, i, lead)]
        weights = {i: max(votes[i], 1e-6) for i in same}
        total = sum(weights.values())
        shares = tuple(weights.get(i, 0.0) / total for i in range(len(case.asked)))
        why = f"{len(same)} of {len(votes)} said the same, {posterior.sure:.2f} sure"
        return Verdict(index=min(same), why=why, shares=shares, quality=posterior.sure)

    def _same(self, case: Case, i: int, lead: int) -> bool:
        return i == lead or (self._ballot.exclusive and case.asked[i].key == case.asked[lead].key)

    def _left(self, case: Case) -> tuple[Model, ...]:
        if self._order is None:
            return case.left
        left = {member.card.name: member for member in case.left}
        return tuple(left[name] for name in self._order if name in left)

    def _step(self, case: Case, left: Sequence[Model], why: str) -> Step:
        return Step(models=tuple(left[: self._at_once]), request=case.request, why=why)

    def _bar(self, case: Case) -> float | None:
        """The bar at the last place of the order that was asked."""
        order = self._order or tuple(member.card.name for member in case.members)
        asked = {a.model for a in case.asked}
        places = [i for i, name in enumerate(order) if name in asked]
        place = max(places, default=-1)
        return self._bars[place] if 0 <= place < len(self._bars) else None

    def _decided(self, case: Case, posterior: Posterior, left: Sequence[Model]) -> bool:
        """Whether those left, all for the strongest rival, still could not overtake the leader."""
        if posterior.lead is None or not self._ballot.exclusive:
            return False
        votes = self._ballot.votes(case.asked, case.estimates)
        groups = self._ballot.groups(case.asked, votes, len(case.good))
        lead = groups.pop(case.asked[posterior.lead].key or "")
        names = [member.card.name for member in left]
        more = sum(max(0.0, self._ballot.weight(n, case.estimates.get(n))) for n in names)
        return lead > max(groups.values(), default=0.0) + more


def _quality(case: Case, i: int) -> float:
    estimate = case.estimates.get(case.asked[i].model)
    return 0.0 if estimate is None else estimate.quality
