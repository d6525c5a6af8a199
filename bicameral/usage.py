"""What a call consumed and what that costs: frozen values, exact arithmetic.

Money is integer nano-dollars, time is seconds, and what is unknown is None, never 0.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from msgspec import Struct

_MILLION = 1_000_000
_MICRO = 1_000_000


class Usage(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a call consumed. Adding an unknown to a known makes it unknown.

    Tokens, but for `images`, the pictures taken in or made, `media_ms`, the milliseconds of sound
    or film taken in or made, and `cost`, the nano-dollars that the provider itself says it charges.
    """

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cached_tokens: int | None = None
    reasoning_tokens: int | None = None
    images: int | None = None
    media_ms: int | None = None
    cost: int | None = None

    def __add__(self, other: Usage) -> Usage:
        return Usage(**{k: _plus(getattr(self, k), getattr(other, k)) for k in _USAGE})

    @property
    def total_tokens(self) -> int | None:
        """Prompt and completion together."""
        return _plus(self.prompt_tokens, self.completion_tokens)


_USAGE = Usage.__struct_fields__
NO_USAGE = Usage(**dict.fromkeys(_USAGE, 0))


class Rates(Struct, frozen=True, kw_only=True):
    """Nano-dollars: per million tokens, per picture, per second of sound or film.

    `cached_input` None: as `input`; `reasoning` None: as `output`, of which it is a part; `image`
    and `second` None: nothing is known of a price for them but that of their tokens. `chip_second`
    is for the time that a chip was busy with the call.
    """

    input: int
    output: int
    cached_input: int | None = None
    reasoning: int | None = None
    image: int | None = None
    second: int | None = None
    chip_second: int = 0


class Price(Rates, frozen=True, kw_only=True):
    """Rates, and those that hold instead from so many prompt tokens on, the lowest first."""

    tiers: tuple[tuple[int, Rates], ...] = ()

    @property
    def free(self) -> bool:
        """Whether every rate is 0, so that a call costs nothing whatever it consumes."""
        return not (
            self.input
            or self.output
            or self.tiers
            or self.cached_input
            or self.reasoning
            or self.image
            or self.second
            or self.chip_second
        )

    def cost(self, usage: Usage, chip_seconds: float | None = None) -> int | None:
        """Nano-dollars for `usage`, rounded half to even once; None if what counts is unknown."""
        if self.free:
            return 0
        total = _micro(self._at(usage.prompt_tokens), usage, chip_seconds)
        return None if total is None else half_even(total, _MICRO)

    def most(self, usage: Usage) -> int | None:
        """No less than `cost` of anything up to `usage`; its chip seconds are not bounded."""
        if self.free:
            return 0
        if self.chip_second:
            return None
        tiers = (self, *(rates for _, rates in self.tiers))
        costs = [_micro(_dearest(rates), usage, None) for rates in tiers]
        known = [cost for cost in costs if cost is not None]
        return -(-max(known) // _MICRO) if len(known) == len(costs) else None

    def _at(self, prompt: int | None) -> Rates:
        rates: Rates = self
        for least, tier in self.tiers:
            if prompt is not None and prompt >= least:
                rates = tier
        return rates


def half_even(amount: int, unit: int) -> int:
    """`amount` / `unit`, rounded half to even."""
    whole, rest = divmod(amount, unit)
    return whole + (2 * rest > unit or (2 * rest == unit and whole % 2))


def _micro(rates: Rates, usage: Usage, chip_seconds: float | None) -> int | None:
    """Millionths of a nano-dollar, exactly; None if something that has a rate is unknown."""
    cached = rates.input if rates.cached_input is None else rates.cached_input
    thought = rates.output if rates.reasoning is None else rates.reasoning
    total = 0
    for amount, rate in (
        (usage.prompt_tokens, rates.input),
        (usage.completion_tokens, rates.output),
        (usage.images, (rates.image or 0) * _MILLION),
        (usage.media_ms, (rates.second or 0) * _MILLION // 1000),
        (None if chip_seconds is None else round(chip_seconds * 1000), rates.chip_second * 1000),
    ):
        if rate == 0:
            continue
        if amount is None:
            return None
        total += amount * rate
    total += _part(usage.cached_tokens, usage.prompt_tokens) * (cached - rates.input)
    return total + _part(usage.reasoning_tokens, usage.completion_tokens) * (thought - rates.output)


def _part(part: int | None, whole: int | None) -> int:
    """No more than the whole it is a part of, or who overstates it would be paid by a discount."""
    return part or 0 if whole is None else min(part or 0, whole)


def _dearest(rates: Rates) -> Rates:
    """What nothing can cost more than: no token is cached, every one thought if that is dearer."""
    return Rates(
        input=max(rates.input, rates.cached_input or 0),
        output=max(rates.output, rates.reasoning or 0),
        image=rates.image,
        second=rates.second,
    )


def _plus(a: int | None, b: int | None) -> int | None:
    return None if a is None or b is None else a + b


Ended = Literal["finished", "failed", "abandoned"]


class Call(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One call of one leaf model, as it went. `cost` is nano-dollars.

    `usage` is what the model reported. Where it ended without a report and `estimate` is not None,
    that is what it consumed as far as what went in and came out tells, and `cost` is the cost of
    that: an estimate, never in the place of a reported 0; `most` is what it cannot have cost more
    than, None if nothing bounds it. `served` is the model that the provider
    says it ran, `mismatch` that it is another than was asked for. `chip_seconds` and `joules` are
    None where the chip is not ours or not known.
    """

    model: str
    owner: str = ""
    usage: Usage = Usage()
    estimate: Usage | None = None
    seconds: float | None = None
    first_token: float | None = None
    cost: int | None = None
    most: int | None = None
    served: str | None = None
    mismatch: bool = False
    ended: Ended = "finished"
    error: str | None = None
    chip: str = ""
    chip_seconds: float | None = None
    joules: float | None = None

    @property
    def state(self) -> Literal["reported", "estimated", "unknown"]:
        """How `cost` and what was consumed are known."""
        if self.estimate is not None:
            return "estimated"
        return "unknown" if self.usage.total_tokens is None else "reported"


def spent_at_most(calls: Iterable[Call]) -> int | None:
    """What the calls cannot have cost more than, for who must not pass a budget; None: unknown."""
    total: int | None = 0
    for call in calls:
        total = _plus(total, call.cost if call.estimate is None else call.most)
    return total


def total_cost(calls: Iterable[Call]) -> int | None:
    """The sum of the calls' costs; None if any of them is unknown."""
    total: int | None = 0
    for call in calls:
        total = _plus(total, call.cost)
    return total
