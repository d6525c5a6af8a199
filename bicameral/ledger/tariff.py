"""What callers pay for an answer of a mind: its cost, with a markup, or a price of its own."""

from __future__ import annotations

from fractions import Fraction

from msgspec import Struct

from bicameral.config import MindOptions, nano
from bicameral.usage import Ended, Price, Usage, half_even


class Tariff(Struct, frozen=True, kw_only=True):
    """`price` None: callers pay the cost and `markup` of it, else `price` whatever it cost."""

    markup: Fraction = Fraction(0)
    price: Price | None = None

    def charge(self, cost: int, said: Usage | None, ended: Ended) -> int:
        """Nano-dollars for an answer that cost `cost`; `said` is what its last speaker consumed.

        A request that failed costs what was spent on it, no more.
        """
        if ended == "failed":
            return cost
        if self.price is not None:
            priced = None if said is None else self.price.cost(said)
            return cost if priced is None else priced
        if not self.markup:
            return cost
        total = cost * (1 + self.markup)
        return half_even(total.numerator, total.denominator)

    def most(self, cost: int, said: Usage | None) -> int | None:
        """No less than the charge for any cost up to `cost` and anything said within `said`."""
        if self.price is not None:
            return None if said is None else max(cost, self.price.most(said) or 0)
        total = cost * (1 + self.markup)
        return -(-total.numerator // total.denominator)

    def budget(self, money: int) -> int:
        """What may be spent on members for `money` from the caller."""
        return money if self.price is not None else int(money / (1 + self.markup))


AT_COST = Tariff()


def tariff(options: MindOptions | None) -> Tariff:
    """The tariff of a mind; a member asked directly is at cost."""
    if options is None:
        return AT_COST
    if options.price_input is not None and options.price_output is not None:
        return Tariff(
            price=Price(input=nano(options.price_input), output=nano(options.price_output))
        )
    return Tariff(markup=Fraction(options.markup or 0))
