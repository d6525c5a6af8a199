"""Cascade: one member after another, deciding anew after each answer whether to go on, and to whom.

Without a worth it is the plain cascade (FrugalGPT, arXiv 2305.05176): members in order, until one
sounds sure enough. With one it is cascade routing (arXiv 2410.10347): whether to stop and whom to
ask next follow from what is expected of the members left and from what the answers so far have
shown. Instead of searching all sets of members, which cannot see that a dear member may not be
needed, it uses the reserve of each: the quality at hand up to which asking it pays. Asking the
highest reserve first, and stopping when none is above the quality at hand, is optimal if answers
are independent (Weitzman, Econometrica 1979). If answers tell nothing about themselves (`tells` 0)
this is routing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from msgspec.structs import replace

from bicameral.decision import Asked
from bicameral.left.brief import leaving_time
from bicameral.left.policy import Case, Step, Verdict
from bicameral.left.worth import Worth, expected
from bicameral.model import Model
from bicameral.types import Feature, Request

Posthoc = Callable[[Case], Sequence[float]]
"""The probability that each answer of a case is right, now that it is there; 0 for failures."""

Ahead = Callable[[Case], Mapping[str, float]]
"""How likely each member not asked yet is right where the best answer so far is wrong."""

# The last answer streams, rather than being compared with those before it, if comparing would add
# less than this to the probability of being right.
_SLIGHT = 0.02


class Cascade:
    """Stops when the answer at hand is good enough; the last member streams.

    Plain: good enough is a confidence of `threshold`, or that probability if `posthoc` tells it.
    With a `worth`, `least` or `most`: as that says; `tells` is how far an answer shows, once it is
    there, whether it is right, from 0 (not at all) to 1 (entirely): the share of the variance
    of being right that `posthoc` explains. `ahead` is what the answers so far tell of the members
    left, by default nothing: that a question was hard for some makes it harder for all. With it, a
    member is not asked if another is expected to be better and cheaper: errors go together, so it
    would rarely be right where the other is wrong, and the best of many weak answers is mostly
    luck. A member that may not be the last to be asked may say at most `try_tokens`; an answer cut
    there counts as wrong.
    """

    name = "cascade"
    refuses = frozenset({Feature.MANY})

    def __init__(
        self,
        threshold: float = 0.8,
        try_tokens: int | None = None,
        *,
        worth: Worth | None = None,
        posthoc: Posthoc | None = None,
        ahead: Ahead | None = None,
        tells: float = 0.5,
    ) -> None:
        self._threshold = threshold
        self._try_tokens = try_tokens
        self._worth = worth or Worth()
        self._posthoc = posthoc
        self._ahead = ahead
        self._tells = tells

    @property
    def settings(self) -> Mapping[str, Any]:
        """The threshold, or what a right answer is worth; and the tokens of a trial."""
        wanted = self._worth.settings
        told = {**wanted, "tells": self._tells} if wanted else {"threshold": self._threshold}
        return {**told, "try_tokens": self._try_tokens}

    def next(self, case: Case) -> Step | None:
        """Whom to ask now; None if what is at hand is good enough, or nobody is left."""
        if not case.left:
            return None
        return self._routed(case) if self._worth.settings else self._in_order(case)

    def settle(self, case: Case) -> Verdict:
        """The answer that is most likely right; the latest among equals."""
        after = self.after(case)
        best = max(reversed(case.good), key=lambda i: after[i])
        if self._posthoc is None and not self._worth.settings:
            return Verdict(index=best, why=f"{case.asked[best].model} was {after[best]:.2f} sure")
        why = f"{case.asked[best].model} is {after[best]:.2f} likely right"
        return Verdict(index=best, why=why, quality=after[best])

    def after(self, case: Case) -> Sequence[float]:
        """How likely each answer is right, as far as this cascade can tell."""
        if self._posthoc is not None:
            return self._posthoc(case)
        if self._worth.settings:
            return sounding(case)
        return [0.0 if a.error else a.confidence or 0.0 for a in case.asked]

    # --- plain ---------------------------------------------------------------------------------

    def _in_order(self, case: Case) -> Step | None:
        member, *more = case.left
        why = ""
        if case.asked:
            last, after = case.asked[-1], self.after(case)[-1]
            if not last.cut and after >= self._threshold:
                return None
            why = self._doubt(last, after)
        return self._step(case, member, final=not more, why=why)

    def _doubt(self, last: Asked, after: float) -> str:
        if last.error is not None:
            return f"{last.model} failed"
        if last.cut:
            return f"{last.model} was cut at {self._try_tokens} tokens"
        if self._posthoc is not None:
            return f"{last.model} is {after:.2f} likely right, below {self._threshold:g}"
        if last.confidence is None:
            return f"{last.model} gave no logprobs"
        return f"{last.model} was {last.confidence:.2f} sure, below {self._threshold:g}"

    # --- routed --------------------------------------------------------------------------------

    def _routed(self, case: Case) -> Step | None:
        after = self.after(case)
        held = max((after[i] for i in case.good), default=None)
        names = [member.card.name for member in case.members]
        prices = self._worth.prices({name: case.estimates[name] for name in names})
        spent = sum(self._spent(asked, case) for asked in case.asked)
        left = self._candidates(case, prices)
        name = self._choose(case, prices, left, held, spent)
        if name is None:
            return None
        estimate = case.estimates[name]
        others = [other for other in left if other != name]
        worst = max(held or 0.0, 0.0 if self._tells else estimate.quality)
        more = self._choose(case, prices, others, worst, spent + (estimate.cost or 0))
        lost = (held or 0.0) - estimate.quality + self._gain(estimate.quality, held or 0.0)
        why = expected(name, estimate)
        if held is not None:
            why = f"the best so far is {held:.2f} likely right; {why}"
        elif case.asked:
            why = f"{case.asked[-1].model} failed; {why}"
        member = next(member for member in case.left if member.card.name == name)
        return self._step(case, member, final=more is None and lost <= _SLIGHT, why=why)

    def _candidates(self, case: Case, prices: Mapping[str, float]) -> list[str]:
        """Those left that nobody who is alive beats in both quality and price."""
        left = [member.card.name for member in case.left]
        if self._ahead is None:
            return left
        failed = {asked.model for asked in case.asked if asked.error is not None}
        alive = {m.card.name for m in case.members} - failed
        known = [(case.estimates[name].quality, prices[name]) for name in alive]

        def beaten(name: str) -> bool:
            quality, price = case.estimates[name].quality, prices[name]
            return any(q > quality and p < price for q, p in known)

        return [name for name in left if not beaten(name)]

    def _choose(
        self,
        case: Case,
        prices: Mapping[str, float],
        left: Sequence[str],
        held: float | None,
        spent: int,
    ) -> str | None:
        """Whom of `left` to ask with an answer of quality `held` at hand; None: nobody."""
        estimates = {name: case.estimates[name] for name in left}
        names = self._worth.affordable(estimates, spent)
        if held is None and left and not names:
            return self._worth.pick(estimates, case.warm).name
        if not names:
            return None
        quality = {name: estimates[name].quality for name in names}
        if self._ahead is not None and held is not None and case.good:
            quality |= {n: q for n, q in self._ahead(case).items() if n in quality}
        if self._worth.least is not None:
            return self._cheapest(prices, quality, held, self._worth.least)
        if self._worth.worth is None:
            name = max(names, key=lambda n: (quality[n], n == case.warm))
            much = held is None or self._gain(quality[name], held) > _SLIGHT
            return name if much else None
        worth = max(1, self._worth.worth)
        reserves = {n: reserve(quality[n], prices[n] / worth, self._tells) for n in names}
        name = max(names, key=lambda n: (reserves[n], n == case.warm))
        return name if held is None or reserves[name] > held else None

    def _spent(self, asked: Asked, case: Case) -> int:
        """What an answer cost; if nobody knows, all that may be spent."""
        if asked.cost is not None:
            return asked.cost
        usual = case.estimates[asked.model].cost
        return (self._worth.most or 0) if usual is None else usual

    def _cheapest(
        self,
        prices: Mapping[str, float],
        quality: Mapping[str, float],
        held: float | None,
        least: float,
    ) -> str | None:
        """The one that reaches `least` at the smallest price a chance, if anyone can."""
        if held is not None and held >= least:
            return None
        chance = {n: self._chance(q, least) for n, q in quality.items()}
        able = [n for n in quality if chance[n] > 0]
        if able:
            return min(able, key=lambda n: (prices[n] / chance[n], -chance[n]))
        best = max(quality, key=lambda n: quality[n])
        return best if held is None or quality[best] > held else None

    def _gain(self, quality: float, held: float) -> float:
        """What the better of this answer and one of quality `held` is expected to add to `held`."""
        told = self._tells * quality * (1 - held)
        return told + (1 - self._tells) * max(0.0, quality - held)

    def _chance(self, quality: float, least: float) -> float:
        return self._tells * quality + (1 - self._tells) * (quality >= least)

    # --- both ----------------------------------------------------------------------------------

    def _step(self, case: Case, member: Model, *, final: bool, why: str) -> Step:
        """Unless it is `final`, one that is slow leaves time for another."""
        request = case.request
        if not final:
            request = leaving_time(self._trial(request, member), min(2, len(case.left)))
        return Step(models=(member,), request=request, final=final, why=why)

    def _trial(self, request: Request, model: Model) -> Request:
        sampling = request.sampling
        if Feature.LOGPROBS in model.card.features:
            sampling = replace(sampling, logprobs=True)
        most = sampling.max_tokens
        if self._try_tokens is not None and (most is None or most > self._try_tokens):
            sampling = replace(sampling, max_tokens=self._try_tokens)
        return request if sampling is request.sampling else request.but(sampling=sampling)


def reserve(quality: float, price: float, tells: float) -> float:
    """The quality at hand at which asking stops to pay; negative: not even with nothing at hand.

    `price` is in the unit of quality. The answer is taken to show itself right or wrong with
    probability `tells`, else to stay as likely right as it was. The reserve z solves
    price = E[max(shown quality - z, 0)].
    """
    net = quality - price
    if net <= 0 or tells <= 0:
        return net
    below = net / (1 - tells + tells * quality)
    return below if below <= quality else 1 - price / (tells * quality)


def sounding(case: Case) -> list[float]:
    """How likely each answer is right by what it shows itself, nothing learned.

    A checker's word counts most, then the confidence, then what was expected of the member. An
    answer that failed, was cut, abstains or cannot be read is wrong.
    """
    return [_sounding(asked, case) for asked in case.asked]


def _sounding(asked: Asked, case: Case) -> float:
    if asked.error is not None or asked.cut or asked.key is None:
        return 0.0
    if asked.checked is not None:
        return float(asked.checked)
    if asked.confidence is not None:
        return asked.confidence
    estimate = case.estimates.get(asked.model)
    return estimate.quality if estimate else 0.0
