"""What a call costs: exact, never negative, never cheaper for more, unknown where it is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from bicameral.engines.remote.openai_wire import usage as read_usage
from bicameral.types import Usage
from bicameral.usage import NO_USAGE, Price, Rates, half_even

MILLION = 10**6
COUNTS = ("prompt_tokens", "completion_tokens", "cached_tokens", "reasoning_tokens")
ALL = (*COUNTS, "images", "media_ms")
count = st.integers(0, 10**12)
rate = st.integers(0, 10**15)


@st.composite
def rates(draw, least=0):
    """What a provider may ask, where a longer prompt is never cheaper: at least `least`."""
    dear = st.integers(least, 10**15)
    asked, said = draw(dear), draw(dear)
    return {
        "input": asked,
        "output": said,
        "cached_input": draw(st.none() | st.integers(0, asked)),
        "reasoning": draw(st.none() | st.integers(said, 10**16)),
    }


@st.composite
def prices(draw):
    tiers, step = [], 0
    for _ in range(draw(st.integers(0, 2))):
        step += draw(st.integers(1, 10**6))
        tiers.append((step, Rates(**draw(rates()))))
    media = {"image": draw(st.none() | rate), "second": draw(st.none() | rate)}
    return Price(**draw(rates()), **media, tiers=tuple(tiers))


@st.composite
def usages(draw):
    prompt, said = draw(count), draw(count)
    return Usage(
        prompt_tokens=prompt,
        completion_tokens=said,
        cached_tokens=draw(st.none() | st.integers(0, prompt)),
        reasoning_tokens=draw(st.none() | st.integers(0, said)),
        images=draw(count),
        media_ms=draw(count),
    )


@given(prices(), usages())
def test_a_cost_is_never_negative(price, usage):
    assert price.cost(usage) >= 0


@given(prices(), usages(), st.sampled_from(ALL), count)
def test_no_more_of_anything_costs_less_at_a_price(price, usage, field, more):
    """But for a cached token, which is what an uncached one would have been."""
    flat = replace(price, tiers=())
    larger = replace(usage, **{field: (getattr(usage, field) or 0) + more})
    if field == "cached_tokens":
        larger = replace(larger, prompt_tokens=usage.prompt_tokens + more)
    elif field == "reasoning_tokens":
        larger = replace(larger, completion_tokens=usage.completion_tokens + more)
    assert flat.cost(larger) >= flat.cost(usage)


@given(prices(), usages(), st.data())
def test_the_most_bounds_all_that_is_within(price, bound, data):
    def within(field, most):
        return data.draw(st.integers(0, most), label=field)

    prompt = within("prompt", bound.prompt_tokens)
    said = within("said", bound.completion_tokens)
    usage = Usage(
        prompt_tokens=prompt,
        completion_tokens=said,
        cached_tokens=within("cached", prompt),
        reasoning_tokens=within("thought", said),
        images=within("images", bound.images),
        media_ms=within("media", bound.media_ms),
    )
    assert price.most(bound) >= price.cost(usage)


@given(st.integers(0, 10**30), st.integers(1, 10**12))
def test_half_even_is_what_python_rounds_to(amount, unit):
    from fractions import Fraction

    assert half_even(amount, unit) == round(Fraction(amount, unit))


@pytest.mark.parametrize(("tokens", "nanos"), [(1, 0), (3, 2), (5, 2), (7, 4)])
def test_halves_go_to_the_even_side(tokens, nanos):
    price = Price(input=MILLION // 2, output=0)
    assert price.cost(Usage(prompt_tokens=tokens)) == nanos


def test_it_is_rounded_once_for_all_parts_together():
    price = Price(input=MILLION // 2, output=MILLION // 2, image=0)
    assert price.cost(Usage(prompt_tokens=1, completion_tokens=1)) == 1  # 0.5 + 0.5, not 0 + 0


def test_a_tier_holds_from_its_first_token_on():
    dear = Rates(input=2 * MILLION, output=20 * MILLION, cached_input=MILLION)
    price = Price(input=MILLION, output=10 * MILLION, tiers=((100, dear),))
    below = Usage(prompt_tokens=99, completion_tokens=1, cached_tokens=9)
    assert price.cost(below) == 99 + 10
    assert price.cost(replace(below, prompt_tokens=100)) == 91 * 2 + 9 + 20
    assert price.most(replace(below, prompt_tokens=1)) == 2 + 20  # whatever it really asks


def test_a_reported_zero_stays_zero():
    price = Price(input=10**9, output=10**9, image=10**9, second=10**9)
    assert price.cost(NO_USAGE) == 0
    assert price.cost(replace(NO_USAGE, prompt_tokens=1)) == 1000
    assert (Usage(prompt_tokens=0) + Usage(prompt_tokens=0)).prompt_tokens == 0


@pytest.mark.parametrize(
    ("field", "key"),
    [
        ("prompt_tokens", "input"),
        ("completion_tokens", "output"),
        ("images", "image"),
        ("media_ms", "second"),
    ],
)
def test_what_is_unknown_makes_the_cost_unknown_unless_it_is_free(field, key):
    usage = replace(NO_USAGE, **{field: None})
    asked = {"input": 1, "output": 1, "image": 1, "second": 1}
    assert Price(**asked).cost(usage) is None
    assert Price(**asked).most(usage) is None
    assert Price(**{**asked, key: 0}).cost(usage) == 0
    assert Price(input=0, output=0).cost(Usage()) == 0


def test_the_time_of_a_chip_costs_and_nothing_bounds_it():
    price = Price(input=0, output=0, chip_second=10**9)
    assert price.cost(Usage(), 1.5) == 1_500_000_000
    assert price.cost(Usage()) is None
    assert price.most(NO_USAGE) is None


def test_more_cached_than_asked_is_not_believed():
    raw = {
        "prompt_tokens": 10,
        "completion_tokens": 1,
        "prompt_tokens_details": {"cached_tokens": 11},
    }
    usage = read_usage(raw, "m")
    assert usage.prompt_tokens == 10
    assert usage.cached_tokens is None or usage.cached_tokens <= 10


@pytest.mark.parametrize("cached", [11, 10**12])
def test_more_cached_than_asked_never_earns_money(cached):
    price = Price(input=10**9, output=10**9, cached_input=0)
    usage = Usage(prompt_tokens=10, completion_tokens=0, cached_tokens=cached)
    assert price.cost(usage) == 0
