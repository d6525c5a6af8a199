"""Cascade: when it stops, whom it asks next, when it streams, and that this is optimal."""

from __future__ import annotations

import itertools
import math
import random
import time

import pytest
from msgspec.structs import replace

from bicameral.decision import Asked
from bicameral.left.cascade import Cascade, reserve, sounding
from bicameral.left.mind import Mind
from bicameral.left.score import Priors
from bicameral.left.worth import Worth
from bicameral.model import collect
from bicameral.types import Sampling
from tests.left.cases import HELLO, case, expect, names

# --- plain -------------------------------------------------------------------------------------


async def test_stops_at_a_sure_answer(member):
    a, b = await member("a", reply="sure", confidence=0.95), await member("b", reply="dear")
    answer = await collect(Mind("m", Cascade(0.8), [a, b]), HELLO)
    assert (answer.text, b.leaf.runs) == ("sure", 0)
    assert answer.why == "cascade of m; a was 0.95 sure"
    assert answer.logprobs == ()  # asked for by the cascade, not by the caller


async def test_goes_on_when_unsure_and_sums_the_usage(member):
    a, b = await member("a", reply="hm", confidence=0.3), await member("b", reply="dear")
    answer = await collect(Mind("m", Cascade(0.8), [a, b]), HELLO)
    assert answer.text == "dear"
    assert [c.model for c in answer.calls] == ["a", "b"]
    assert answer.usage.prompt_tokens == 4
    assert answer.usage.completion_tokens == 2
    assert "0.30 sure" in answer.why


async def test_does_not_trust_an_answer_it_cut(member):
    a, b = await member("a", reply="on and on and on"), await member("b", reply="dear")
    mind = Mind("m", Cascade(0.8, try_tokens=2), [a, b])
    answer = await collect(mind, HELLO)
    assert answer.text == "dear"
    assert answer.calls[0].usage.completion_tokens == 2
    assert "cut at 2 tokens" in answer.why
    short = await collect(mind, HELLO.but(sampling=Sampling(max_tokens=1)))
    assert short.text == "on "  # the caller's own limit is no reason to doubt


async def test_falls_back_to_the_surest_when_the_last_is_dead(member):
    a = await member("a", reply="first", confidence=0.5)
    b = await member("b", reply="second", confidence=0.4)
    c = await member("c", fail="broken")
    assert (await collect(Mind("m", Cascade(0.8), [a, b, c]), HELLO)).text == "first"


def test_a_learned_probability_stands_in_for_the_confidence():
    plain = Cascade(0.8, posthoc=lambda case: [0.7] * len(case.asked))
    said = case({"a": expect(0.5), "b": expect(0.5)}, Asked(model="a", key="k", confidence=0.99))
    step = plain.next(said)
    assert names(step) == ["b"]
    assert step.final
    assert "a is 0.70 likely right, below 0.8" in step.why
    assert plain.settle(said).quality == 0.7


# --- routed ------------------------------------------------------------------------------------

TWO = {"cheap": expect(0.6, 10), "dear": expect(0.9, 1_000)}


def heard(*after: float, cost: int | None = None):
    """A cascade's `posthoc`, and evidence to go with it, in the order of TWO."""
    asked = [Asked(model=n, key=n, cost=cost) for n, _ in zip(TWO, after, strict=False)]
    return (lambda case: after[: len(case.asked)]), asked


@pytest.mark.parametrize(
    ("worth", "tells", "first"),
    [
        (10_000, 0.0, "dear"),  # nothing is learned from a first answer: routing
        (1_000, 0.0, "cheap"),
        (10_000, 1.0, "cheap"),  # trying is cheap, and shows whether more is needed
        (10_000, 0.5, "cheap"),
    ],
)
def test_the_first_to_ask(worth, tells, first):
    step = Cascade(worth=Worth(worth=worth), tells=tells).next(case(TWO))
    assert names(step) == [first]
    assert step.final == (tells == 0.0)  # routing streams


@pytest.mark.parametrize(("after", "asks"), [(0.9, None), (0.5, ["dear"])])
def test_goes_on_only_while_it_pays(after, asks):
    posthoc, asked = heard(after)
    policy = Cascade(worth=Worth(worth=5_000), posthoc=posthoc)
    assert names(policy.next(case(TWO, *asked))) == asks


def test_the_last_streams_if_it_is_not_to_be_compared():
    worth = Worth(worth=10_000)
    doubtful, asked = heard(0.01)
    assert Cascade(worth=worth, posthoc=doubtful).next(case(TWO, *asked)).final
    fair, asked = heard(0.5)
    assert not Cascade(worth=worth, posthoc=fair).next(case(TWO, *asked)).final


def test_settles_for_the_answer_most_likely_right():
    posthoc, asked = heard(0.7, 0.4)
    verdict = Cascade(worth=Worth(worth=1), posthoc=posthoc).settle(case(TWO, *asked))
    assert (verdict.index, verdict.quality) == (0, 0.7)
    assert verdict.why == "cheap is 0.70 likely right"


def test_a_failure_is_no_answer():
    policy = Cascade(worth=Worth(worth=10_000))
    step = policy.next(case(TWO, Asked(model="cheap", error="down")))
    assert names(step) == ["dear"]
    assert step.final
    assert "cheap failed" in step.why
    assert policy.next(case(TWO, *(Asked(model=n, error="down") for n in TWO))) is None


def test_an_answer_worth_nothing_is_asked_for_once_and_cheaply():
    policy = Cascade(worth=Worth(worth=0))
    assert names(policy.next(case(TWO))) == ["cheap"]
    assert policy.next(case(TWO, Asked(model="cheap", key="k", confidence=0.1))) is None


def test_time_is_part_of_the_price():
    estimates = {"slow": expect(0.9, 10, 60.0), "fast": expect(0.85, 10, 1.0)}
    assert names(Cascade(worth=Worth(worth=1_000), tells=0.0).next(case(estimates))) == ["slow"]
    hurried = Worth(worth=1_000, second=5)
    assert names(Cascade(worth=hurried, tells=0.0).next(case(estimates))) == ["fast"]


def test_a_quality_is_reached_at_the_smallest_price():
    least = Worth(least=0.8)
    step = Cascade(worth=least).next(case(TWO))
    assert names(step) == ["cheap"]  # 10 for a chance of 0.3, against 1,000 for 0.95
    for after, asks in ((0.81, None), (0.79, ["dear"])):
        posthoc, asked = heard(after)
        assert names(Cascade(worth=least, posthoc=posthoc).next(case(TWO, *asked))) == asks
    certain = Cascade(worth=least, tells=0.0)
    assert names(certain.next(case(TWO))) == ["dear"]  # nothing could show that cheap is right


def test_a_quality_nobody_reaches_asks_the_best_once():
    policy = Cascade(worth=Worth(least=0.95), tells=0.0)
    assert names(policy.next(case(TWO))) == ["dear"]
    after = policy.next(case(TWO, Asked(model="dear", key="k", confidence=0.9)))
    assert after is None


def test_a_bound_holds_for_all_calls_together():
    assert names(Cascade(worth=Worth(most=1_005)).next(case(TWO))) == ["dear"]
    assert names(Cascade(worth=Worth(most=999)).next(case(TWO))) == ["cheap"]
    posthoc, asked = heard(0.5, cost=10)
    for most, asks in ((1_010, ["dear"]), (1_009, None)):
        policy = Cascade(worth=Worth(most=most), posthoc=posthoc)
        assert names(policy.next(case(TWO, *asked))) == asks
    assert names(Cascade(worth=Worth(most=1)).next(case(TWO))) == ["cheap"]  # the cheapest of all


def test_under_a_bound_an_unknown_cost_has_used_it_up():
    unpriced = {"a": expect(0.5), "b": expect(0.9, 10)}
    said = case(unpriced, Asked(model="a", key="k", confidence=0.5))
    assert Cascade(worth=Worth(most=100)).next(said) is None
    known = case(unpriced, Asked(model="a", key="k", confidence=0.5, cost=90))
    assert names(Cascade(worth=Worth(most=100)).next(known)) == ["b"]


def test_arms_that_are_no_members_do_not_price_them():
    worth = Worth(worth=100)
    estimates = {"a": expect(0.5), "b": expect(0.5, 10)}
    said = case(estimates)
    plain = names(Cascade(worth=worth, tells=0.0).next(said))
    arms = {**estimates, "panel of 5": expect(0.9, 10**9)}
    with_arms = replace(said, estimates=arms)
    assert names(Cascade(worth=worth, tells=0.0).next(with_arms)) == plain


# Poor is dearer than good, and worse.
THREE = {"cheap": expect(0.5, 10), "good": expect(0.8, 100), "poor": expect(0.7, 200)}


def going_on(estimates, *asked, **wanted):
    """Whom a learned cascade asks when all that was said is doubtful, and nothing is dear."""
    policy = Cascade(
        worth=Worth(**wanted or {"worth": 10**9}),
        posthoc=lambda case: [0.1] * len(case.asked),
        ahead=lambda case: {m.card.name: 0.6 for m in case.left},
    )
    return names(policy.next(case(estimates, *asked)))


def said(name, **fields):
    return Asked(model=name, key=name, cost=1, **fields)


def test_who_is_beaten_in_quality_and_price_is_not_asked():
    assert going_on(THREE, said("cheap")) == ["good"]
    assert going_on(THREE, said("cheap"), said("good")) is None
    assert going_on(THREE, said("good")) == ["cheap"]  # worse, but cheaper
    assert going_on(THREE, said("cheap"), said("good"), least=0.9) is None


def test_who_is_beaten_stands_in_for_one_that_failed():
    down = Asked(model="good", error="down", cost=0)
    assert going_on(THREE, said("cheap"), down) == ["poor"]
    assert going_on(THREE, Asked(model="cheap", error="down"), down) == ["poor"]


def test_at_one_price_nobody_is_beaten():
    alike = {name: expect(e.quality, 10) for name, e in THREE.items()}
    assert going_on(alike, said("cheap"), said("good")) == ["poor"]
    free = {name: expect(e.quality) for name, e in THREE.items()}
    assert going_on(free, said("cheap"), said("good")) == ["poor"]


def test_without_outcomes_all_are_asked():
    """Declared qualities say nothing of errors that go together."""
    policy = Cascade(worth=Worth(worth=10**9), posthoc=lambda case: [0.1] * len(case.asked))
    assert names(policy.next(case(THREE, said("cheap"), said("good")))) == ["poor"]


def test_signs_of_an_answer_without_anything_learned():
    asked = [
        Asked(model="a", key="k", confidence=0.3, checked=True),
        Asked(model="a", key="k", confidence=0.9, checked=False),
        Asked(model="a", key="k", confidence=0.4),
        Asked(model="a", key="k"),
        Asked(model="a", key="k", confidence=0.9, cut=True),
        Asked(model="a", confidence=0.9),
        Asked(model="a", error="down"),
    ]
    assert sounding(case({"a": expect(0.6)}, *asked)) == [1.0, 0.0, 0.4, 0.6, 0.0, 0.0, 0.0]


def test_a_trial_leaves_time_for_another_member():
    end = time.monotonic() + 10_000
    request = HELLO.but(deadline=end, budget=5)
    trial = Cascade(0.8).next(case(TWO, request=request))
    assert end - trial.request.deadline > 3_000
    assert trial.request.budget == 5
    last = Cascade(0.8).next(case(TWO, Asked(model="cheap", error="slow"), request=request))
    assert last.request is request


def test_the_settings_are_what_was_wanted():
    assert Cascade(0.7, 64).settings == {"threshold": 0.7, "try_tokens": 64}
    assert Cascade(worth=Worth(worth=5), tells=0.3).settings == {
        "worth": 5,
        "tells": 0.3,
        "try_tokens": None,
    }


async def test_a_mind_routes_asks_on_and_settles(member):
    price = {"price_input": "0", "price_output": "1"}
    a = await member("a", reply="meh", confidence=0.4, **price)
    b = await member("b", reply="better", confidence=0.9, **price)
    c = await member("c", reply="poor", confidence=0.9, **price)
    told = Priors({"a": 0.9, "b": 0.7, "c": 0.1})
    mind = Mind("m", Cascade(worth=Worth(worth=10**6)), [c, b, a], estimator=told)
    answer = await collect(mind, HELLO)
    assert answer.text == "better"
    assert [call.model for call in answer.calls] == ["a", "b"]
    assert answer.decisions[0].quality == 0.9
    assert answer.decisions[0].asked[1].share == 1.0


# --- optimal -----------------------------------------------------------------------------------


@pytest.mark.parametrize("tells", [0.0, 0.3, 0.7, 1.0])
def test_the_reserve_solves_its_equation(tells):
    for quality, price in itertools.product((0.05, 0.5, 0.95), (0.0, 0.01, 0.2, 0.9)):
        z = reserve(quality, price, tells)
        shown = ((1.0, tells * quality), (0.0, tells * (1 - quality)), (quality, 1 - tells))
        gain = sum(p * max(value - z, 0.0) for value, p in shown)
        assert gain == pytest.approx(price) or (price == 0.0 and z <= 1.0)


def best_possible(members, tells, held=None):
    """The value of the optimal policy, by trying everything: (quality, price) of each member."""
    value = -math.inf if held is None else held
    for i, (quality, price) in enumerate(members):
        rest = (*members[:i], *members[i + 1 :])
        shown = ((1.0, tells * quality), (0.0, tells * (1 - quality)), (quality, 1 - tells))
        values = [(p, best_possible(rest, tells, max(held or 0.0, q))) for q, p in shown]
        value = max(value, sum(p * v for p, v in values if p) - price)
    return value


def value_of(estimates, worth, tells, asked=(), after=()):
    """The expected utility of the policy itself, over everything that answers may show."""
    policy = Cascade(worth=Worth(worth=worth), tells=tells, posthoc=lambda case: after)
    step = policy.next(case(estimates, *asked))
    if step is None:
        return max(after)
    (name,) = names(step)
    quality, price = estimates[name].quality, estimates[name].cost / worth
    if step.final:
        return quality - price
    total = -price
    for q, p in ((1.0, tells * quality), (0.0, tells * (1 - quality)), (quality, 1 - tells)):
        if p:
            heard = (*asked, Asked(model=name, key=name))
            total += p * value_of(estimates, worth, tells, heard, (*after, q))
    return total


@pytest.mark.parametrize("seed", range(8))
def test_no_policy_does_better(seed):
    draw = random.Random(seed)
    worth, tells = 10_000, draw.choice((0.0, 0.3, 0.6, 1.0))
    estimates = {
        name: expect(draw.random(), int(worth * draw.random() ** 3)) for name in ("a", "b", "c")
    }
    got = value_of(estimates, worth, tells)
    best = best_possible([(e.quality, e.cost / worth) for e in estimates.values()], tells)
    assert got <= best + 1e-9
    assert got >= best - 0.02  # what streaming may cost
