"""What one member alone would have cost for the same requests, and how good it is."""

from __future__ import annotations

from fractions import Fraction

import pytest
from msgspec.structs import replace

from bicameral.ledger.alternative import FEWEST, Quality, alternatives, habits
from bicameral.ledger.entry import LOCAL
from bicameral.usage import Call, Price, Rates, Usage
from tests.ledger.test_report import booking, call

MILLION = 1_000_000
PRICES = {
    "a": Price(input=10 * MILLION, output=20 * MILLION),
    "b": Price(input=1 * MILLION, output=2 * MILLION),
}
MINDS = {"m": ("a", "b")}


def beside(*bodies, minds=MINDS, prices=PRICES, **options):
    found = alternatives(bodies, minds, prices, habits(bodies), **options)
    return {mind.mind: mind for mind in found}


def one(*bodies, **options):
    return beside(*bodies, **options)["m"]


def test_a_member_that_was_asked_costs_what_its_call_cost():
    found = one(booking("1", call("a", 70), call("b", 7)))
    assert (found.cost, found.of("a").cost, found.of("b").cost) == (77, 70, 7)
    assert (found.of("a").own, found.of("a").estimated) == (1, 0)


def test_a_mind_that_cost_more_has_negative_savings():
    found = one(booking("1", call("a", 80), call("b", 20), paid=150))
    assert found.of("a").saved == -20
    assert found.of("a").part == Fraction(-1, 4)
    assert found.paid == 150


def test_a_member_that_was_not_asked_is_estimated_by_price_and_habit():
    alone = one(
        booking("1", call("a", 999, completion=6)),
        booking("2", call("a", 999, completion=8)),
        booking("3", call("b", 5, prompt=4, completion=1)),
    ).of("a")
    assert (alone.own, alone.estimated, alone.guessed) == (2, 1, 0)
    assert alone.cost == 2 * 999 + 4 * 10 + 7 * 20
    assert alone.mind_cost == 2 * 999 + 5
    assert alone.saved == 4 * 10 + 7 * 20 - 5


def test_without_habits_of_its_own_it_says_as_much_as_all_do():
    alone = one(booking("1", call("b", 5, prompt=4, completion=3))).of("a")
    assert alone.cost == 4 * 10 + 3 * 20
    assert alone.guessed == 1


def test_tiers_and_chips_count():
    tiered = Price(input=0, output=0, tiers=((100, Rates(input=MILLION, output=0)),))
    bodies = [
        booking("1", call("b", 5, prompt=99)),
        booking("2", call("b", 5, prompt=100)),
        booking("3", call("a", 1, chip_seconds=2.0)),
    ]
    assert one(*bodies, prices={"a": tiered}).of("a").cost == 0 + 100 + 1
    chip = Price(input=0, output=0, chip_second=7)
    assert one(*bodies, prices={"a": chip}).of("a").cost == 14 + 14 + 1


def test_the_question_is_what_was_asked_and_not_what_a_judge_read():
    calls = (
        call("c", 0, prompt=0, ended="failed"),
        call("b", 5, prompt=4),
        call("b", 9, prompt=50),
    )
    found = one(booking("1", *calls))
    assert found.of("a").cost == 4 * 10 + 2 * 20
    assert found.of("b").cost == 5


def test_savings_are_for_the_same_requests_only():
    found = one(booking("1", call("a", 70)), booking("2", call("b", 7)), prices={})
    alone = found.of("a")
    assert (alone.cost, alone.mind_cost, alone.saved, alone.unknown) == (70, 70, 0, 1)
    assert one(booking("2", call("b", 7)), prices={}).of("a").saved is None


def test_a_request_of_unknown_cost_is_left_out_and_counted():
    found = one(booking("1", call("a", None), call("b", 7)), booking("2"))
    assert (found.requests, found.left_out, found.cost) == (0, 2, 0)


def test_a_call_that_was_abandoned_would_have_been_waited_for():
    alone = one(booking("1", call("b", 5), call("a", 3, ended="abandoned"))).of("a")
    assert (alone.own, alone.estimated) == (0, 1)


def test_a_call_that_failed_would_have_failed():
    alone = one(booking("1", call("b", 5), call("a", 0, ended="failed"))).of("a")
    assert (alone.cost, alone.own, alone.failed) == (0, 1, 1)


def test_lost_tries_count_and_later_calls_do_not():
    tries = (call("a", 2, ended="failed"), call("a", 70), call("a", 500))
    alone = one(booking("1", *tries)).of("a")
    assert (alone.cost, alone.own, alone.failed) == (72, 1, 0)


def test_what_a_call_booked_late_cost_is_the_requests():
    late = replace(booking("x", call("a", 30), mind="a"), id="1/late/1", late=True)
    found = one(booking("1", call("b", 5)), late)
    assert (found.cost, found.requests) == (35, 1)
    assert (found.of("a").cost, found.of("a").own) == (30, 1)


def test_a_request_whose_hold_had_expired_is_no_part_of_the_traffic():
    late = replace(booking("2", call("a", 30)), id="2/end/late", late=True)
    found = one(booking("1", call("b", 5)), late)
    assert (found.cost, found.requests, found.left_out) == (5, 1, 0)


def test_only_minds_that_were_asked_are_compared():
    bodies = [booking("1", call("a"), mind="a"), booking("2", call("b"), mind="n")]
    assert list(beside(*bodies, minds={"m": ("a",), "n": ("b",)})) == ["n"]


KNOWN = {"a": Quality(mean=0.9, count=50), "b": Quality(mean=0.89, count=50)}


def test_the_best_is_the_most_often_right_and_another_may_be_cheap_enough():
    body = booking("1", call("a", 70), call("b", 7))
    found = one(body, known=KNOWN)
    assert (found.best, found.cheapest) == ("a", "b")
    assert one(body, known=KNOWN, floor=0.005).cheapest == "a"
    assert found.quality is None
    same = dict.fromkeys("ab", KNOWN["a"])
    assert one(body, known=same).best == "b"


def test_without_quality_nobody_is_called_the_best():
    found = one(booking("1", call("a", 70), call("b", 7)))
    assert (found.best, found.cheapest) == ("", "")


@pytest.mark.parametrize(("count", "best"), [(FEWEST, "b"), (FEWEST - 1, "")])
def test_quality_comes_from_ratings_of_these_requests(count, best):
    bodies = [
        booking(str(n), call("a", 70), call("b", 7), request=f"req_{n}") for n in range(count)
    ]
    scores = {(LOCAL, f"req_{n}"): {"a": 0.0, "b": 1.0, "m": 1.0} for n in range(count)}
    strangers = {("key_1", f"req_{n}"): {"a": 1.0} for n in range(count)}
    found = one(*bodies, scores={**strangers, **scores})
    assert found.best == best
    assert found.of("a").quality == Quality(mean=0.0, count=count)
    assert found.quality == Quality(mean=1.0, count=count)


def test_a_free_member_saves_no_percentage():
    free = Call(model="a", cost=0, usage=Usage(prompt_tokens=1, completion_tokens=1))
    alone = one(booking("1", free, call("b", 5))).of("a")
    assert (alone.saved, alone.part) == (-5, None)
