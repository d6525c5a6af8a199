"""What is wanted of an answer: what a right one is worth in money and time, or a bound instead.

Whatever chooses between members, or between ways to combine them, chooses by this.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from msgspec import Struct, to_builtins

from bicameral.left.policy import Estimate


class Pick(Struct, frozen=True):
    """Whom to take, and why, in words; "" if there was nothing to weigh."""

    name: str
    why: str = ""


class Worth(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Utility is quality x `worth` - cost - seconds x `second`, money in nano-dollars.

    `worth` None: quality alone counts. `least`: the cheapest that reaches that quality is wanted
    instead, the best where none does. `most`: only what is expected to cost at most that many
    nano-dollars a request, the cheapest where nothing is.
    """

    worth: int | None = None
    second: int = 0
    least: float | None = None
    most: int | None = None

    def __post_init__(self) -> None:
        if self.worth is not None and self.least is not None:
            raise ValueError("worth and least exclude each other: least asks for the cheapest")
        if self.second and self.worth is None and self.least is None:
            raise ValueError("second: say too what a right answer is worth")
        if self.least is not None and not 0 <= self.least <= 1:
            raise ValueError("least: is a probability, 0 to 1")
        if min(self.worth or 0, self.second, self.most or 0) < 0:
            raise ValueError("worth, second and most: cannot be negative")

    @property
    def settings(self) -> dict[str, Any]:
        """What was set, as JSON values."""
        settings: dict[str, Any] = to_builtins(self)
        return settings

    def prices(self, estimates: Mapping[str, Estimate]) -> dict[str, float]:
        """Cost and time of each, as nano-dollars; what is unknown counts as the worst known."""
        cost = max((e.cost for e in estimates.values() if e.cost is not None), default=0)
        wait = max((e.seconds for e in estimates.values() if e.seconds is not None), default=0.0)
        return {
            name: (cost if e.cost is None else e.cost)
            + self.second * (wait if e.seconds is None else e.seconds)
            for name, e in estimates.items()
        }

    def affordable(self, estimates: Mapping[str, Estimate], spent: int = 0) -> list[str]:
        """Those within `most`, `spent` included; an unknown cost is not."""
        if self.most is None:
            return list(estimates)
        left = self.most - spent
        return [n for n, e in estimates.items() if e.cost is not None and e.cost <= left]

    def pick(self, estimates: Mapping[str, Estimate], warm: str = "") -> Pick:
        """The best of `estimates`; among equals `warm`, then the first."""
        prices = self.prices(estimates)
        names = self.affordable(estimates)
        if not names:
            name = min(estimates, key=lambda n: (estimates[n].cost is None, prices[n], n != warm))
            return Pick(name, f"none is known to cost at most {dollars(self.most)}; the cheapest")
        reach = [n for n in names if self.least is not None and estimates[n].quality >= self.least]
        if reach:
            name = min(reach, key=lambda n: (prices[n], -estimates[n].quality, n != warm))
        else:
            name = max(names, key=lambda n: (self._utility(estimates[n], prices[n]), n == warm))
        short = self.least is not None and not reach
        return Pick(name, "; ".join(self._reasons(name, names, estimates, warm, short)))

    def _utility(self, estimate: Estimate, price: float) -> float:
        return estimate.quality if self.worth is None else self.worth * estimate.quality - price

    def _reasons(
        self,
        name: str,
        names: list[str],
        estimates: Mapping[str, Estimate],
        warm: str,
        short: bool,
    ) -> list[str]:
        if len(names) == 1 == len(estimates):
            return []
        reasons = []
        if self.settings or len({e.quality for e in estimates.values()}) > 1:
            reasons.append(expected(name, estimates[name]))
        if short:
            reasons.append(f"none reaches {self.least:g}")
        unknown = [n for n, e in estimates.items() if e.cost is None]
        if self.settings and unknown:
            counts = "left out" if self.most is not None else "taken for the highest known"
            reasons.append(f"cost of {', '.join(unknown)} unknown, {counts}")
        if warm in estimates:
            kept = "kept, it holds" if warm == name else f"left {warm}, which holds"
            reasons.append(f"{kept} this conversation")
        return reasons


def expected(name: str, estimate: Estimate) -> str:
    """What is expected of a member, in words."""
    cost = "" if estimate.cost is None else f" at {dollars(estimate.cost)}"
    return f"{name} is expected right at {estimate.quality:.2f}{cost}"


def dollars(nano: float | None) -> str:
    """Nano-dollars for a person."""
    if nano is None:
        return "an unknown price"
    return "$" + (f"{nano / 1e9:.6f}".rstrip("0").rstrip("."))
