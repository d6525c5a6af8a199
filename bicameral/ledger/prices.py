"""The price table that comes with Bicameral: what providers said their models cost, and when.

A row in another currency is turned into dollars exactly and rounded half to even once, to the
nano-dollar.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from datetime import date
from fractions import Fraction
from functools import cache
from importlib.resources import files
from typing import Annotated, Any

from msgspec import Meta, Struct

from bicameral.config import Closed, convert, nano, nearest
from bicameral.errors import ConfigError
from bicameral.usage import half_even

# Engines that run here and cost nothing unless their table says otherwise.
FREE = frozenset(
    {"llama_cpp", "embed", "ocr", "tags", "faces", "whisper", "vad", "spiking"},
)
DOLLARS = "USD"
Amount = Annotated[str, Meta(pattern=r"^[0-9]{1,6}(\.[0-9]{1,12})?$")]
Page = Annotated[str, Meta(pattern=r"^https://\S+$")]
_NANO = 10**9


class Tier(Closed, frozen=True, kw_only=True):
    """What holds instead from `from_tokens` prompt tokens on."""

    from_tokens: Annotated[int, Meta(ge=1)]
    input: Amount
    output: Amount
    cached_input: Amount | None = None
    reasoning: Amount | None = None


class Dated(Closed, frozen=True, kw_only=True):
    """Something that the page `source` said on `date`; `undated`: it was read then, and is older.

    A page that bears no date is undated.
    """

    source: Page
    date: date
    undated: bool = False
    note: str = ""


class Exchange(Dated, frozen=True, kw_only=True):
    """How much of a currency is a dollar."""

    per_dollar: Amount


class Row(Dated, frozen=True, kw_only=True):
    """What a model costs: per million tokens, per picture, per second of sound or film."""

    input: Amount | None = None
    output: Amount | None = None
    cached_input: Amount | None = None
    reasoning: Amount | None = None
    image: Amount | None = None
    second: Amount | None = None
    tiers: tuple[Tier, ...] = ()
    currency: str = DOLLARS


_RATES = ("input", "output", "cached_input", "reasoning", "image", "second")
_TIER = ("input", "output", "cached_input", "reasoning")


class Table(Struct, frozen=True, kw_only=True):
    """A checked price table."""

    prices: Mapping[str, Row]
    rates: Mapping[str, Exchange] = {}

    def row(self, name: str) -> Row:
        """The row of that name; ConfigError with the nearest one if there is none."""
        found = self.prices.get(name)
        if found is None:
            close = nearest(name, tuple(self.prices))
            raise ConfigError(f"the price table has no row '{name}'; {close}")
        return found

    def options(self, name: str) -> dict[str, Any]:
        """What the row `name` means as keys of a [models.NAME] table, in dollars."""
        row = self.row(name)
        per_dollar = self._per_dollar(row)
        rates = _dollars(row, _RATES, per_dollar)
        given: dict[str, Any] = {f"price_{key}": text for key, text in rates}
        if row.tiers:
            given["price_tiers"] = [
                {"from_tokens": tier.from_tokens, **dict(_dollars(tier, _TIER, per_dollar))}
                for tier in row.tiers
            ]
        return given

    def dated(self, row: Row) -> date:
        """The older of the dates of `row` and of the exchange rate that it needs."""
        rate = self.rates.get(row.currency)
        return row.date if rate is None else min(row.date, rate.date)

    def _per_dollar(self, row: Row) -> Fraction:
        return Fraction(1 if row.currency == DOLLARS else self.rates[row.currency].per_dollar)


@cache
def table() -> Table:
    """The table that comes with Bicameral."""
    file = files(__package__).joinpath("prices.toml")
    return parse(file.read_text(encoding="utf-8"), "prices.toml")


def row(name: str) -> Row:
    """The row of that name of the table that comes with Bicameral; ConfigError if it has none."""
    return table().row(name)


def parse(text: str, source: str) -> Table:
    """Check the text of a price table; ConfigError, which names `source`, if it is wrong."""
    try:
        raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{source}: is not valid TOML: {error}") from error
    for key, group in raw.items():
        if key not in ("prices", "rates") or not isinstance(group, dict):
            raise ConfigError(f"{source}: [{key}] is no table of it; known: [prices.X], [rates.X]")
    rates = {
        name: convert(fields, Exchange, source, f"rates.{name}")
        for name, fields in raw.get("rates", {}).items()
    }
    prices = {
        name: convert(fields, Row, source, f'prices."{name}"')
        for name, fields in raw.get("prices", {}).items()
    }
    checked = Table(prices=prices, rates=rates)
    for name, rate in rates.items():
        if not Fraction(rate.per_dollar):
            raise ConfigError(f"{source}: [rates.{name}] per_dollar: must be more than 0")
    for name in prices:
        _check(checked, name, f'{source}: [prices."{name}"]')
    return checked


def filled(given: Mapping[str, Any], where: str, source: str) -> dict[str, Any]:
    """A [models.NAME] table, called `where`, with what it leaves to its `price_of`.

    What it gives itself wins, key by key. ConfigError if there is no such row.
    """
    name = given.get("price_of")
    if not isinstance(name, str):
        return dict(given)
    try:
        return {**table().options(name), **given}
    except ConfigError as error:
        raise ConfigError(f"{source}: [{where}] price_of: {error}") from error


def in_dollars(amount: str, per_dollar: Fraction = Fraction(1)) -> str:
    """A decimal amount of a currency as dollars, to the nano-dollar."""
    exact = Fraction(amount) / per_dollar * _NANO
    return decimal(half_even(exact.numerator, exact.denominator))


def decimal(nanos: int) -> str:
    """Nano-dollars as a decimal number of dollars: "0.25"."""
    whole, rest = divmod(abs(nanos), _NANO)
    sign = "-" if nanos < 0 else ""
    return f"{sign}{whole}.{rest:09d}".rstrip("0").rstrip(".")


def _dollars(
    row: Row | Tier, keys: Iterable[str], per_dollar: Fraction
) -> Iterable[tuple[str, str]]:
    for key in keys:
        amount = getattr(row, key)
        if amount is not None:
            yield key, in_dollars(amount, per_dollar)


def _check(checked: Table, name: str, where: str) -> None:
    row = checked.prices[name]
    if row.currency != DOLLARS and row.currency not in checked.rates:
        raise ConfigError(f"{where} currency: there is no [rates.{row.currency}]")
    if (row.input is None) != (row.output is None):
        raise ConfigError(f"{where} input and output go together: give both or neither")
    if all(getattr(row, key) is None for key in _RATES):
        raise ConfigError(f"{where} says no price")
    if row.input is None and (row.cached_input or row.reasoning or row.tiers):
        raise ConfigError(f"{where} input and output: give both, if any price of tokens")
    steps = [tier.from_tokens for tier in row.tiers]
    if steps != sorted(set(steps)):
        raise ConfigError(f"{where} tiers: from_tokens must grow from one tier to the next")
    _check_amounts(checked, name, where)


def _check_amounts(checked: Table, name: str, where: str) -> None:
    """Each amount is a price in dollars, too, and none that is asked has become 0."""
    row, per_dollar = checked.prices[name], checked._per_dollar(checked.prices[name])
    parts: tuple[Row | Tier, ...] = (row, *row.tiers)
    for part in parts:
        for key, dollars in _dollars(part, _RATES if part is row else _TIER, per_dollar):
            try:
                lost = nano(dollars) == 0 and Fraction(getattr(part, key)) > 0
            except ValueError as error:
                raise ConfigError(f"{where} {key}: {error}") from error
            if lost:
                raise ConfigError(f"{where} {key}: is less than a nano-dollar")
