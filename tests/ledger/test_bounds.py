"""A hold bounds what a request costs, and is enough for all that its mind may do."""

from __future__ import annotations

import asyncio
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from bicameral.brain import Brain
from bicameral.config import Config, parse
from bicameral.errors import BudgetError
from bicameral.ledger.bounds import Bounds, bounds
from bicameral.ledger.tariff import AT_COST, Tariff, tariff
from bicameral.model import collect
from bicameral.types import Answer, Image, Message, Request, Sampling, Text

HELLO = Request.ask("hello", sampling=Sampling(max_tokens=4))
POLICIES = ("route", "cascade", "vote", "fuse", "select", "verify", "samples", "auto")


def config(members: str, minds: str = "") -> Config:
    return parse(f"{members}\n{minds}\n[journal]\nenabled = false\n", "test")


def member(name: str, price: Any = "1", **keys: Any) -> str:
    lines = [f"[models.{name}]", 'engine = "scripted"']
    if price is not None:
        lines += [f'price_input = "{price}"', f'price_output = "{price}"']
    lines += [f"{key} = {_toml(value)}" for key, value in keys.items()]
    return "\n".join(lines) + "\n"


def mind(name: str, policy: str, *members: str, **keys: Any) -> str:
    lines = [f"[minds.{name}]", f'policy = "{policy}"', f"members = {list(members)}"]
    return "\n".join([*lines, *(f"{k} = {_toml(v)}" for k, v in keys.items())]) + "\n"


def _toml(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else repr(value)


async def limits(
    config: Config, name: str, request: Request = HELLO, rates: Tariff = AT_COST, **keys: Any
) -> Bounds | None:
    async with Brain.open(config) as brain:
        return bounds(request, brain.model(name), brain.models, config, rates, **keys)


# --- what is counted -----------------------------------------------------------------------------


async def test_a_member_is_bounded_by_its_bytes_and_tokens():
    found = await limits(config(member("a")), "a")
    assert found.tokens >= len("hello") + 4
    assert found.least == found.most == found.tokens * 1000


async def test_without_max_tokens_the_context_bounds_it_or_nothing_does():
    request = Request.ask("hello")
    found = await limits(config(member("a", context=100)), "a", request)
    assert 105 <= found.tokens < 150
    found = await limits(config(member("a")), "a", request)
    assert found is None


async def test_what_is_free_costs_nothing_even_if_nothing_bounds_it():
    request = Request(messages=(Message("user", (Text("see"), Image(data=b"x", media_type="i"))),))
    free = config(member("a", "0", accepts=["text", "image"]))
    assert await limits(free, "a", request) == Bounds(least=0, most=0, tokens=None)


async def test_a_member_without_a_price_is_not_asked_within_a_budget_but_without_one():
    mixed = config(member("a") + member("b", None), mind("m", "route", "a", "b"))
    alone = await limits(mixed, "a")
    assert await limits(mixed, "m") == alone
    both = await limits(mixed, "m", priced=False)
    assert both.tokens == 2 * alone.tokens
    assert await limits(mixed, "b") is None


async def test_one_of_a_route_is_enough_and_all_of_it_may_be_needed():
    two = config(member("a", "1") + member("b", "5"), mind("m", "route", "a", "b"))
    one = await limits(two, "a")
    assert await limits(two, "m") == Bounds(
        least=one.least, most=6 * one.least, tokens=2 * one.tokens
    )


async def test_a_vote_divides_its_budget_so_the_dearest_counts_for_each():
    two = config(member("a", "1") + member("b", "5"), mind("m", "vote", "a", "b"))
    one = await limits(two, "a")
    assert await limits(two, "m") == Bounds(
        least=2 * one.least, most=10 * one.least, tokens=2 * one.tokens
    )


async def test_a_markup_and_a_price_are_counted():
    priced = config(member("a"), mind("m", "route", "a", markup="0.2"))
    cost = (await limits(priced, "a")).most
    found = await limits(priced, "m", rates=tariff(priced.minds["m"]))
    assert found.most == cost * Fraction(6, 5)
    fixed = Tariff(price=replace(tariff(priced.minds["m"]), markup=Fraction(0)).price)
    assert (await limits(priced, "m", rates=fixed)).most == cost


# --- what minds really take ----------------------------------------------------------------------

WORDS = st.sampled_from(["yes", "no", "7", "ab c", "one two three four five six"])
MEMBERS = st.lists(
    st.fixed_dictionaries(
        {
            "price": st.sampled_from(["0", "1", "3.5", "100"]),
            "reply": WORDS,
            "confidence": st.sampled_from([0.1, 0.9]),
            "fail": st.sampled_from([None, None, None, "unreachable"]),
            "context": st.sampled_from([50, 400]),
        }
    ),
    min_size=1,
    max_size=4,
)


def built(members: list[dict[str, Any]], policy: str, keys: dict[str, Any]) -> Config:
    text = ""
    for i, fields in enumerate(members):
        given = {k: v for k, v in fields.items() if v is not None}
        text += member(f"m{i}", given.pop("price"), **given)
    names = [f"m{i}" for i in range(len(members))]
    names = names[:1] if policy in ("verify", "samples") else names
    outer = mind("outer", "vote", "inner", names[0]) + mind("judged", "fuse", "inner", names[0])
    return config(text, mind("inner", policy, *names, **keys) + outer)


KEYS = {
    "fuse": [{}, {"samples": 2}, {"analysis": True}],
    "select": [{}, {"judge": "m0"}],
    "samples": [{}, {"samples": 3}],
    "vote": [{}, {"at_once": 1}],
    "cascade": [{}, {"try_tokens": 2}],
}


@pytest.mark.parametrize("policy", POLICIES)
def test_a_hold_bounds_the_cost_and_starves_nobody(policy: str):
    """With `most` nobody is refused for money; with any hold no more than it is spent."""

    @settings(max_examples=25, deadline=None, phases=[Phase.generate])
    @given(
        members=MEMBERS,
        keys=st.sampled_from(KEYS.get(policy, [{}])),
        name=st.sampled_from(["inner", "outer", "judged"]),
        tokens=st.sampled_from([None, 1, 5]),
        part=st.floats(0, 1),
    )
    def check(members, keys, name, tokens, part) -> None:
        request = Request.ask("which?", sampling=Sampling(max_tokens=tokens))
        runner.run(_holds(built(members, policy, keys), name, request, part))

    with asyncio.Runner() as runner:
        check()


async def _holds(config: Config, name: str, request: Request, part: float) -> None:
    async with Brain.open(config) as brain:
        model = brain.model(name)
        found = bounds(request, model, brain.models, config, AT_COST)
        free = await collect(model, request)
        rich = await collect(model, request.within(budget=found.most))
        granted = found.least + int(part * (found.most - found.least))
        held = await collect(model, request.within(budget=granted))
    assert not refused(rich), rich
    assert asked(rich) == asked(free)
    assert spent(rich) <= found.most
    assert spent(held) <= granted
    assert tokens(rich) <= found.tokens
    # What has to be free lets somebody answer, unless nobody would with any money.
    assert not isinstance(held.error, BudgetError) or free.error is not None


def asked(answer: Answer) -> list[str]:
    return sorted(call.model for call in answer.calls)


def spent(answer: Answer) -> int:
    return sum(call.cost or 0 for call in answer.calls)


def tokens(answer: Answer) -> int:
    return sum(call.usage.total_tokens or 0 for call in answer.calls)


def refused(answer: Answer) -> list[str]:
    """Who would not answer for want of money."""
    told = [call.error or "" for call in answer.calls] + [str(answer.error or "")]
    return [error for error in told if "budget" in error]
