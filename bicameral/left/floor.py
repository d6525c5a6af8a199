"""A floor under quality: what may be promised of a cheaper plan, from outcomes it never saw.

The promise holds if the outcomes were drawn as the requests to come will be, and serve nothing
else: what chose or fitted the plans must not have seen them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from msgspec import Struct

_ENOUGH = 10_000_000


class Promise(Struct, frozen=True, kw_only=True):
    """With confidence 1 - `delta`, `plan` is on average at most `eps` worse than the best member.

    `plan` is the index of the cheapest plan that passed, None: nothing can be promised. `tested`
    holds the p-value of each plan up to the first that failed. `more`: how many more outcomes that
    one would need if they went on as so far; None: it loses too much, or there is none.
    """

    eps: float
    delta: float
    outcomes: int
    plan: int | None
    tested: tuple[float, ...]
    more: int | None = None

    @property
    def why(self) -> str:
        """The same in words."""
        most, sure = f"{self.eps:.2%} worse", f"{1 - self.delta:.0%} confidence"
        needs = f"needs {self.more} more outcomes" if self.more else "loses too much"
        if self.plan is None:
            return f"no promise of at most {most} at {sure}: the first plan {needs}"
        held = f"plan {self.plan} is at most {most}, at {sure} from {self.outcomes} outcomes"
        passed = self.plan + 1 == len(self.tested)
        return held if passed else f"{held}; plan {self.plan + 1} {needs}"


def promise(losses: Sequence[Sequence[float]], *, eps: float, delta: float) -> Promise:
    """Learn then test (arXiv 2110.01052): walk from safe to cheap, keep the last that passes.

    `losses[k][i]`: how much worse plan k did on prompt i than the member it must not fall behind.
    The plans are in an order fixed beforehand, the safe one, which loses nothing, first. Counting
    only losses, max(0, best - plan), is strict; with the difference itself, gains make up for them.
    """
    if not 0 < eps < 1 or not 0 < delta < 1:
        raise ValueError("eps and delta: are between 0 and 1")
    counts = {len(plan) for plan in losses}
    if len(counts) != 1:
        raise ValueError("losses: every plan needs one for each prompt, and there is at least one")
    tested: list[float] = []
    for plan in losses:
        tested.append(p_value(plan, eps))
        if tested[-1] > delta:
            more = outcomes_needed(plan, eps, delta)
            break
    else:
        more = None
    passed = sum(p <= delta for p in tested)
    (count,) = counts
    return Promise(
        eps=eps,
        delta=delta,
        outcomes=count,
        plan=passed - 1 if passed else None,
        tested=tuple(tested),
        more=None if more is None else max(1, more - count),
    )


def p_value(losses: Sequence[float], eps: float) -> float:
    """How likely losses this small are if their mean is above `eps`.

    Exact (binomial) for losses of 0 and 1, Hoeffding-Bentkus for those between; where some are
    negative, down to -1, by betting against the hypothesis (arXiv 2010.09686).
    """
    if any(not -1 <= loss <= 1 for loss in losses):
        raise ValueError("losses: are between -1 and 1")
    count = len(losses)
    if any(loss < 0 for loss in losses):
        return _betting([(1 + loss) / 2 for loss in losses], (1 + eps) / 2)
    whole = all(loss in (0, 1) for loss in losses)
    return _bounded(sum(losses), count, eps, exact=whole)


def outcomes_needed(losses: Sequence[float], eps: float, delta: float) -> int | None:
    """How many outcomes would pass at this mean loss; None: none would, or too many to name."""
    if not losses:
        return outcomes_needed([0], eps, delta)
    mean = sum(losses) / len(losses)
    if mean >= eps:
        return None
    whole = all(loss in (0, 1) for loss in losses)
    if min(losses) < 0:
        return _needed_when_betting(losses, mean, eps, delta)

    def passes(count: int) -> bool:
        return _bounded(mean * count, count, eps, exact=whole) <= delta

    high = 1
    while not passes(high):
        high *= 2
        if high > _ENOUGH:
            return None
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if passes(middle) else (middle, high)
    return high


def accept_above(wrong: Sequence[float], alpha: float) -> float | None:
    """The score above which a verifier accepts at most `alpha` of the wrong answers.

    Conformal: `wrong` are its scores of wrong answers it was not fitted on, and the next wrong
    answer is accepted with at most that probability. None: there are fewer than `wrong_needed`.
    """
    place = math.ceil((len(wrong) + 1) * (1 - alpha) - 1e-9)
    return None if place > len(wrong) else sorted(wrong)[max(place, 1) - 1]


def wrong_needed(alpha: float) -> int:
    """How many scores of wrong answers `accept_above` needs at least."""
    return math.ceil(1 / alpha - 1e-9) - 1


def _bounded(total: float, count: int, eps: float, *, exact: bool) -> float:
    if not count:
        return 1.0
    if exact:
        return _binomial(math.ceil(total - 1e-9), count, eps)
    mean = min(total / count, eps)
    hoeffding = math.exp(-count * _divergence(mean, eps))
    return min(1.0, hoeffding, math.e * _binomial(math.ceil(total - 1e-9), count, eps))


def _binomial(most: int, count: int, p: float) -> float:
    """P(Bin(count, p) <= most)."""
    if most >= count:
        return 1.0
    whole = math.lgamma(count + 1)
    logs = (
        whole
        - math.lgamma(k + 1)
        - math.lgamma(count - k + 1)
        + k * math.log(p)
        + (count - k) * math.log1p(-p)
        for k in range(most + 1)
    )
    return min(1.0, math.fsum(math.exp(log) for log in logs))


def _divergence(a: float, b: float) -> float:
    """Of two coins, Kullback and Leibler's."""
    heads = a * math.log(a / b) if a > 0 else 0.0
    tails = (1 - a) * math.log((1 - a) / (1 - b)) if a < 1 else 0.0
    return heads + tails


def _betting(values: Sequence[float], least: float) -> float:
    """The p-value of "the mean of `values`, 0 to 1, is at least `least`".

    A gambler who bets on small values only gains if the hypothesis is false; each stake follows
    from the values before, and the most it ever held bounds the p-value (Ville's inequality).
    """
    wealth = most = 0.0  # logs
    total, squares = 0.5, 0.25
    for seen, value in enumerate(values, start=1):
        mean, spread = total / seen, squares / seen
        stake = min(max(0.0, (least - mean) / (spread + (least - mean) ** 2)), 0.5 / (1 - least))
        wealth += math.log1p(stake * (least - value))
        most = max(most, wealth)
        total += value
        squares += (value - total / (seen + 1)) ** 2
    return math.exp(-most)


def _needed_when_betting(
    losses: Sequence[float], mean: float, eps: float, delta: float
) -> int | None:
    """From the growth of the best fixed stake, about eps^2 / (2 variance) an outcome."""
    gap = (eps - mean) / 2
    spread = sum((loss - mean) ** 2 for loss in losses) / len(losses) / 4
    growth = gap * gap / (2 * (spread + gap * gap))
    needed = math.ceil(math.log(1 / delta) / growth)
    return None if needed > _ENOUGH else max(needed, len(losses) + 1)
