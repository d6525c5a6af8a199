"""What the entries add up to by key, mind, member, owner and day; unknown is never 0."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from bicameral.ledger import report
from bicameral.ledger.book import void
from bicameral.ledger.entry import (
    CASH,
    LOCAL,
    OVERRUN,
    Booking,
    Held,
    Hold,
    KeySet,
    Transfer,
    Written,
    canonical,
    charged,
)
from bicameral.ledger.keys import Key
from bicameral.ledger.report import bookings, spend
from bicameral.usage import Call, Usage

DAY = "2026-11-02"
NOON = 1_793_620_800_000  # of that day


def call(model="a", cost=10, seconds=1.0, prompt=3, completion=2, **fields):
    usage = Usage(prompt_tokens=prompt, completion_tokens=completion)
    return Call(model=model, cost=cost, seconds=seconds, usage=usage, **fields)


def booking(id, *calls, paid=0, caller=LOCAL, mind="m", day=DAY, held=None, **fields):
    return Booking(
        id=f"{id}/end",
        caller=caller,
        mind=mind,
        day=day,
        ended="finished",
        calls=calls,
        paid=paid,
        held=held,
        postings=posted(caller, mind, calls, paid, charged(paid, held)),
        **fields,
    )


def posted(caller, mind, calls, paid, due):
    costs = [(f"owner/{c.owner or c.model}", c.cost or 0) for c in calls]
    margin = (f"margin/{mind}", paid - sum(cost for _, cost in costs))
    return (f"caller/{caller}", -due), (OVERRUN, due - paid), margin, *costs


def written(*bodies, at=NOON):
    for seq, body in enumerate(bodies, start=1):
        yield Written(seq=seq, id=body.id, at=at, body=canonical(body), hash=b"")


def rows(*bodies, by="mind", **range):
    return {row.group: row for row in spend(written(*bodies), by, **range).rows}


BOTH = booking("1", call("a", 10, owner="alice"), call("b", 5), paid=20, caller="key_1")


@pytest.mark.parametrize(
    ("by", "groups"),
    [
        ("key", {"key_1": 15}),
        ("mind", {"m": 15}),
        ("day", {DAY: 15}),
        ("member", {"a": 10, "b": 5}),
        ("owner", {"alice": 10, "b": 5}),
    ],
)
def test_costs_are_summed_by_group(by, groups):
    assert {name: row.cost.amount for name, row in rows(BOTH, by=by).items()} == groups


def test_a_request_has_a_margin_and_a_member_has_none():
    (mind,) = rows(BOTH).values()
    assert (mind.requests, mind.calls, mind.paid, mind.margin, mind.overrun) == (1, 2, 20, 5, 0)
    assert mind.prompt_tokens.amount == 6
    assert {row.margin for row in rows(BOTH, by="member").values()} == {None}
    assert spend(written(BOTH), "member").total.margin == 5


def test_the_operators_loss_is_told_and_the_caller_pays_what_was_held():
    held = Held(id="1", caller="key_1", money=12, tokens=9, day=DAY)
    (row,) = rows(booking("1", call("a", 15), paid=15, caller="key_1", held=held)).values()
    assert (row.paid, row.margin, row.overrun) == (12, 0, 3)


def test_what_is_unknown_is_counted_and_is_not_0():
    (row,) = rows(booking("1", call(cost=None), call(cost=7), call(cost=None))).values()
    assert (row.cost.amount, row.cost.missing) == (7, 2)
    (row,) = rows(booking("1", Call(model="a"))).values()
    assert row.prompt_tokens == report.Sum(amount=None, missing=1)
    assert row.joules.amount is None
    assert row.cost.amount is None


def test_a_reported_0_is_known():
    (row,) = rows(booking("1", call(cost=0, prompt=0))).values()
    assert row.cost == report.Sum(amount=0)
    assert row.prompt_tokens == report.Sum(amount=0)


def test_how_calls_ended_and_that_another_model_answered():
    calls = (call(), call(ended="failed"), call(ended="abandoned"), call(mismatch=True))
    (row,) = rows(booking("1", *calls)).values()
    assert (row.finished, row.failed, row.abandoned, row.mismatches) == (2, 1, 1, 1)


def test_an_estimate_counts_and_is_told_apart():
    lost = Call(model="a", cost=4, estimate=Usage(prompt_tokens=8, completion_tokens=1))
    (row,) = rows(booking("1", lost, call(cost=6))).values()
    assert (row.cost.amount, row.estimated, row.estimates) == (10, 4, 1)
    assert row.prompt_tokens.amount == 11


def test_a_late_call_is_no_request_of_its_own():
    late = replace(booking("2", call(cost=3)), id="1/late/1", late=True)
    total = spend(written(BOTH, late)).total
    assert (total.requests, total.calls, total.late, total.cost.amount) == (1, 3, 1, 18)


def test_a_range_of_days_includes_both_ends():
    days = ("2026-11-01", "2026-11-02", "2026-11-03", "2026-11-04")
    entries = [booking(day, call(), day=day) for day in days]
    found = rows(*entries, by="day", first=days[1], last=days[2])
    assert list(found) == list(days[1:3])
    kept = bookings(written(*entries), days[1], days[2])
    assert [body.day for body in kept] == list(days[1:3])
    assert spend(written(*entries), first=days[2]).total.requests == 2


def test_a_key_has_the_name_it_was_given_last():
    key = Key(id="key_1", name="old", digest="d")
    named = [KeySet(id=name, key=replace(key, name=name)) for name in ("old", "team")]
    assert rows(*named, BOTH, by="key")["key_1"].name == "team"


def test_holds_are_open_resolved_or_lost():
    hold = Hold(id="1", caller="k", mind="m", money=5, tokens=7, day=DAY, until=0)
    other, free = replace(hold, id="2"), replace(hold, id="3", money=None)
    held = Held(id="1", caller="k", money=5, tokens=7, day=DAY)
    found = spend(
        written(hold, other, free, booking("1", call(), held=held), void(other, expired=True))
    )
    assert found.lost == report.Holds(count=1, money=5, tokens=7)
    assert found.open == report.Holds(count=1, money=0, tokens=7)
    given_back = spend(written(hold, void(hold)))
    assert given_back.lost.count == given_back.open.count == 0


def test_money_moved_by_hand_stands_apart():
    deposit = Transfer(id="t", why="deposit", postings=(("caller/k", 50), (CASH, -50)))
    found = spend(written(deposit, BOTH))
    assert found.moved == {"deposit": 50}
    assert found.total.cost.amount == 15
    assert spend(written(deposit), first="2026-11-03").moved == {}


def test_latency_is_of_finished_calls_of_a_member():
    calls = [call(seconds=s / 100) for s in range(1, 101)]
    row = rows(booking("1", *calls, call(seconds=99, ended="failed")), by="member")["a"]
    assert (row.p50, row.p95) == (0.5, 0.95)
    assert rows(booking("1", *calls))["m"].p50 is None


def test_many_latencies_are_sampled():
    calls = [call(seconds=s / 10_000) for s in range(10_000)]
    row = rows(booking("1", *calls), by="member")["a"]
    assert row.p50 == pytest.approx(0.5, abs=0.05)
    assert row == rows(booking("1", *calls), by="member")["a"]


def test_the_dearest_group_comes_first():
    found = rows(booking("1", call(cost=1), mind="x"), booking("2", call(cost=2), mind="y"))
    assert list(found) == ["y", "x"]


def test_an_empty_book_has_no_rows():
    found = spend(())
    assert found.rows == ()
    assert found.total.cost == report.Sum(amount=0)
