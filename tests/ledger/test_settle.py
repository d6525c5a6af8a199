"""Settling a month: who gets what of the margins, once, and from the entries alone."""

from __future__ import annotations

from fractions import Fraction

import pytest

from bicameral.errors import LedgerError, RequestError
from bicameral.ledger.audit import audit
from bicameral.ledger.entry import Booking, Transfer, Weights, read
from bicameral.ledger.settle import (
    KEPT,
    book,
    final,
    frozen,
    month,
    owed,
    paid,
    settle,
    settlements,
)
from bicameral.ledger.store import Store
from tests.ledger.settling import Entries, at, call

NONE = Fraction(0)


def weights(period="2026-11", scheme="shapley", mind="m", **by_owner):
    return Weights(
        id=f"weights/{period}/{mind}",
        period=period,
        mind=mind,
        scheme=scheme,
        weights=tuple(sorted(by_owner.items())),
        inputs="d1",
    )


def busy() -> Entries:
    """Ann and Bob answer; Cy is asked and never heard."""
    book = Entries()
    for day in ("2026-11-03", "2026-11-20"):
        answers = call("a", "ann", 100, 30), call("b", "bob", 50, 20), call("c", "cy", 10, 10)
        book.answered(day, *answers, paid=271, by="a", shares=(("a", 0.75), ("b", 0.25)))
    return book


def only(entries, period="2026-11", keep=NONE, scheme=None):
    (result,) = settle(entries, period, keep=keep, scheme=scheme)
    return result


def settled(entries, period, day, keep=NONE, scheme=None):
    """Settle and put it into the book."""
    result = only(entries, period, keep, scheme)
    entries.put(result.settlement, day)
    return result.settlement


@pytest.mark.parametrize(
    ("scheme", "shares"),
    [
        (None, {"ann": 167, "bob": 55, "cy": 0}),
        ("final", {"ann": 167, "bob": 55, "cy": 0}),
        ("calls", {"ann": 74, "bob": 74, "cy": 74}),
        ("tokens", {"ann": 111, "bob": 74, "cy": 37}),
    ],
)
def test_the_simple_schemes_go_by_the_book(scheme, shares):
    result = only(busy(), scheme=scheme)
    got = paid(result.settlement)
    assert not result.booked
    assert {name: got.get(name, 0) for name in shares} == shares
    assert (result.settlement.margin, result.settlement.amount) == (222, 222)
    assert sum(amount for _, amount in result.settlement.postings) == 0


def test_calls_that_did_not_finish_count_for_nothing():
    entries = Entries()
    lost = call("b", "bob", 5, ended="failed"), call("c", "cy", 5, ended="abandoned")
    entries.answered("2026-11-03", call("a", "ann", 5), *lost, paid=100, by="a")
    for scheme in ("calls", "tokens", "final"):
        assert paid(only(entries, scheme=scheme).settlement) == {"ann": 85}


def test_what_nobody_paid_for_counts_for_nothing():
    entries = Entries()
    entries.answered("2026-11-03", call("a", "ann", 5), paid=100, by="a")
    entries.answered("2026-11-04", call("b", "bob", 5), paid=5, by="b", late=True)
    for scheme in ("calls", "tokens", "final"):
        assert paid(only(entries, scheme=scheme).settlement) == {"ann": 95}


def test_frozen_weights_come_first_and_the_scheme_can_be_chosen():
    entries = busy()
    entries.put(weights(ann=1, bob=1, cy=0), "2026-11-21")
    assert paid(only(entries).settlement) == {"ann": 111, "bob": 111}
    assert only(entries).settlement.inputs == "d1"
    assert paid(only(entries, scheme="calls").settlement) == {"ann": 74, "bob": 74, "cy": 74}


@pytest.mark.parametrize(("scheme", "error"), [("feedback", LedgerError), ("taste", RequestError)])
def test_weights_that_nobody_froze_and_schemes_that_are_none_are_refused(scheme, error):
    entries = busy()
    entries.put(weights(ann=1), "2026-11-21")
    with pytest.raises(error, match=scheme):
        settle(entries, "2026-11", keep=NONE, scheme=scheme)


def test_weights_of_another_month_do_not_count():
    entries = busy()
    entries.put(weights(period="2026-10", ann=1), "2026-11-01")
    assert only(entries).settlement.scheme == "final"
    assert frozen(entries, "2026-10")["m"].weights == (("ann", 1),)


def test_the_operator_keeps_its_part_and_it_is_booked():
    result = only(busy(), keep=Fraction("0.2"))
    assert (result.settlement.kept, result.settlement.amount) == (44, 178)
    assert (KEPT, 44) in result.settlement.postings
    entries = busy()
    entries.put(result.settlement, "2026-12-01")
    assert entries.tally("margin/m") == 0


def test_a_loss_is_the_operators_and_the_next_month_begins_at_nothing():
    entries = Entries()
    entries.answered("2026-11-03", call("a", "ann", 100), paid=60, by="a")
    result = only(entries)
    assert result.settlement.postings == (("margin/m", 40), ("overrun/operator", -40))
    assert (result.settlement.kept, result.settlement.amount) == (-40, 0)
    assert "the loss is the operator's" in result.note
    entries.put(result.settlement, "2026-12-01")
    entries.answered("2026-12-03", call("a", "ann", 100), paid=110, by="a")
    assert paid(only(entries, "2026-12").settlement) == {"ann": 10}


def test_where_nobody_contributed_it_waits():
    entries = Entries()
    entries.answered(
        "2026-11-03", call("a", "ann", 5, ended="abandoned"), paid=9, ended="abandoned"
    )
    result = only(entries)
    assert result.settlement is None
    assert "waits for the next period" in result.note
    entries.answered("2026-12-03", call("a", "ann", 5), paid=6, by="a")
    assert paid(only(entries, "2026-12").settlement) == {"ann": 5}


def test_what_is_late_falls_into_the_next_month_and_what_was_settled_stays():
    entries = busy()
    first = settled(entries, "2026-11", "2026-12-01")
    assert (first.first, first.last) == (1, 2)
    entries.answered("2026-12-02", call("a", "ann", 5), paid=12, by="a")
    again = only(entries)
    assert (again.booked, again.settlement) == (True, first)
    second = settled(entries, "2026-12", "2027-01-01")
    assert (second.first, second.last, paid(second)) == (3, 4, {"ann": 7})
    assert settle(entries, "2026-10", keep=NONE) == []


def test_refunds_and_corrections_of_a_margin_count_too():
    entries = busy()
    back = Transfer(id="t", why="refund", postings=(("margin/m", -22), ("caller/k", 22)))
    entries.put(back, "2026-11-25")
    assert only(entries).settlement.margin == 200


def test_minds_are_settled_apart():
    entries = busy()
    entries.answered("2026-11-05", call("a", "ann", 5), paid=12, by="a", mind="n")
    results = settle(entries, "2026-11", keep=NONE)
    assert [r.mind for r in results] == ["m", "n"]
    assert results[1].settlement.amount == 7


def test_a_mind_at_cost_has_nothing_to_share_out():
    entries = Entries()
    entries.answered("2026-11-05", call("a", "ann", 5), paid=5, by="a")
    assert settle(entries, "2026-11", keep=NONE) == []


def test_rounding_is_made_up_for_over_the_months():
    entries = Entries()
    for number in range(1, 10):
        entries.answered(f"2026-0{number}-03", call("a", "ann"), call("b", "bob"), paid=1, by="a")
        entries.put(weights(f"2026-0{number}", ann=1, bob=1), f"2026-0{number}-04")
        settled(entries, f"2026-0{number}", f"2026-{number + 1:02}-01")
        owing = owed(settlements(entries), "m")
        assert sum(owing.values()) == 0
        assert max(map(abs, owing.values())) < 1
    assert abs(entries.tally("owner/ann") - entries.tally("owner/bob")) == 1


def test_by_is_enough_where_there_are_no_shares_and_shares_of_minds_inside_are_not_used():
    entries = Entries()
    inside = (("inner", 1.0),)
    entries.answered("2026-11-03", call("a", "ann"), paid=9, by="a", shares=inside)
    entries.answered("2026-11-03", call("a", "ann"), paid=9, by="nobody")
    assert [final(read(e.body)) for e in entries] == [{"ann": 10**6}, {}]


@pytest.mark.parametrize("period", ["2026", "2026-13", "2026-1", "1900-01", "x"])
def test_a_period_is_a_month(period):
    with pytest.raises(RequestError, match="a period is a month"):
        month(period)


def test_a_month_is_in_utc():
    begin, end = month("2026-12")
    assert (begin, end) == (at("2026-12-01") - 43_200_000, at("2027-01-01") - 43_200_000)


class TestBooking:
    """Into a real book, on both databases."""

    @pytest.fixture
    def store(self, url):
        store = Store(url)
        for entry in busy():
            store.write(lambda draft, e=entry: draft.put(read(e.body), e.at))
        yield store
        store.close()

    def test_it_is_booked_once(self, store):
        results = settle(list(store.entries()), "2026-11", keep=NONE)
        booked = book(store, results, at("2026-12-01"))
        assert [r.booked for r in booked] == [True]
        assert store.tally("account/owner/ann") == 200 + 167
        assert store.tally("account/margin/m") == 0
        again = settle(list(store.entries()), "2026-11", keep=Fraction(1, 2), scheme="calls")
        assert book(store, again, at("2026-12-02")) == booked
        assert store.head()[0] == 3

    def test_the_auditor_finds_nothing(self, store, url):
        lost = call("a", "ann", 50)
        loss = Booking(
            id="loss/end",
            caller="k",
            mind="n",
            day="2026-11-21",
            ended="finished",
            calls=(lost,),
            paid=20,
            by="a",
            postings=(("caller/k", -20), ("margin/n", -30), ("owner/ann", 50)),
        )
        store.write(lambda draft: draft.put(loss, at("2026-11-21")))
        store.write(lambda draft: draft.put(weights(ann=2, bob=1), at("2026-11-21")))
        for period, day in (("2026-11", "2026-12-01"), ("2026-12", "2027-01-01")):
            book(store, settle(list(store.entries()), period, keep=Fraction("0.1")), at(day))
        assert store.head()[0] == 6
        assert audit(url).faults == ()

    def test_a_month_that_has_not_ended_is_not_booked(self, store):
        results = settle(list(store.entries()), "2026-11", keep=NONE)
        with pytest.raises(LedgerError, match="has not ended"):
            book(store, results, at("2026-11-30"))

    def test_two_at_once_do_not_both_book_it(self, store):
        results = settle(list(store.entries()), "2026-11", keep=NONE)
        book(store, results, at("2026-12-01"))
        with pytest.raises(LedgerError, match="look again"):
            book(store, results, at("2026-12-01"))

    def test_two_months_at_once_do_not_share_out_the_same_margin(self, store):
        entries = list(store.entries())
        november, december = (settle(entries, f"2026-{m}", keep=NONE) for m in (11, 12))
        book(store, november, at("2027-01-02"))
        with pytest.raises(LedgerError, match="look again"):
            book(store, december, at("2027-01-02"))
        assert store.tally("account/margin/m") == 0

    def test_not_even_in_the_same_moment(self, store, monkeypatch):
        entries = list(store.entries())
        november, december = (settle(entries, f"2026-{m}", keep=NONE) for m in (11, 12))
        write = store.write

        def late(work):
            monkeypatch.undo()
            book(store, november, at("2027-01-02"))
            return write(work)

        monkeypatch.setattr(store, "write", late)
        with pytest.raises(LedgerError, match="look again"):
            book(store, december, at("2027-01-02"))
        assert store.head()[0] == 3

    def test_what_is_frozen_is_frozen_once(self, store):
        assert store.write(lambda draft: draft.put(weights(ann=1), at("2026-11-21")))
        assert not store.write(lambda draft: draft.put(weights(bob=1), at("2026-11-21")))
        assert frozen(store.entries(), "2026-11")["m"].weights == (("ann", 1),)
