"""An owner's statement: it adds up, to the book and on every paper."""

from __future__ import annotations

import csv
import io
import json
from decimal import Decimal
from fractions import Fraction
from html.parser import HTMLParser

import pytest
from msgspec.structs import replace

from bicameral.errors import LedgerError
from bicameral.ledger.entry import Settlement, Weights, canonical, read
from bicameral.ledger.page import page
from bicameral.ledger.settle import settle
from bicameral.ledger.sheet import as_csv, as_json, dollars, file_name, formula
from bicameral.ledger.statement import owners, statement
from bicameral.usage import Usage
from tests.ledger.settling import Entries, call

NOVEMBER = "2026-11"


def settled(entries, period, day):
    for result in settle(entries, period, keep=Fraction("0.1")):
        entries.put(result.settlement, day)


@pytest.fixture
def book() -> Entries:
    """October and November settled, something of December; ann was paid out once."""
    book = Entries()
    book.answered("2026-10-05", call("a", "ann", 70), call("b", "bob", 30), paid=151, by="a")
    settled(book, "2026-10", "2026-11-01")
    book.paid_out("2026-11-02", "ann", 60)
    estimate = Usage(prompt_tokens=8, completion_tokens=3)
    lost = call("a2", "ann", 12, None, ended="abandoned", estimate=estimate)
    free = call("a", "ann", None, None, ended="failed")
    book.answered("2026-11-05", lost, free, call("b", "bob", 30, mismatch=True), paid=100, by="b")
    book.answered("2026-11-06", call("a", "ann", 70), paid=104, by="a", request="=HYPERLINK(1)")
    book.put(
        Weights(
            id="weights/2026-11/m",
            period=NOVEMBER,
            mind="m",
            scheme="shapley",
            weights=(("ann", 2), ("bob", 1)),
        ),
        "2026-11-20",
    )
    settled(book, NOVEMBER, "2026-12-01")
    book.answered("2026-12-03", call("a", "ann", 7), paid=9, by="a")
    return book


def test_it_adds_up_to_the_book(book):
    for owner in owners(book, NOVEMBER):
        s = statement(owner, book, NOVEMBER)
        assert s.opening + s.cost + s.margin + s.moved == s.closing
        assert s.closing + s.since == s.now == book.tally(f"owner/{owner}")
        assert s.opening == statement(owner, book, "2026-10").closing
        assert (s.seq, s.head, s.draft) == (len(book), book[-1].hash.hex(), False)


def test_what_is_in_it(book):
    s = statement("ann", book, NOVEMBER)
    margin = 58 + 34 - 9
    assert (s.opening, s.cost, s.moved, s.since) == (70 + 46, 82, -60, 7)
    assert s.margin == round(margin * 2 / 3)
    assert [
        (m.member, m.finished, m.failed, m.abandoned, m.tokens, m.untold) for m in s.members
    ] == [
        ("a", 1, 1, 0, 10, 1),
        ("a2", 0, 0, 1, 11, 0),
    ]
    assert [(line.member, line.cost, line.state) for line in s.lines] == [
        ("a2", 12, "estimated"),
        ("a", None, "unknown"),
        ("a", 70, "reported"),
    ]
    (part,) = s.parts
    assert (part.margin, part.kept, part.amount, part.seq) == (92, 9, 83, 7)
    assert "83 x 2 / 3 nano-dollars by shapley" in formula(part, "ann")
    assert [(move.why, move.amount) for move in s.moves] == [("payout", -60)]
    (marked,) = statement("bob", book, NOVEMBER).lines
    assert marked.mismatch


def test_an_owner_can_follow_the_formula(book):
    """Its share is the formula's, and what rounding owed before, to the unit."""
    for owner in ("ann", "bob"):
        for part in statement(owner, book, NOVEMBER).parts:
            weights = dict(part.weights)
            exact = Fraction(part.amount * weights[owner], sum(weights.values())) + part.before
            assert abs(exact - part.share) < 1


def test_what_rounding_owed_is_as_it_was_then():
    """Two share a margin of 1 each month: who got none in one gets it in the next."""
    book = Entries()
    for number in (1, 2, 3):
        book.answered(f"2026-0{number}-05", call("a", "ann"), call("b", "bob"), paid=1)
        for (result,) in [settle(book, f"2026-0{number}", keep=Fraction(0), scheme="calls")]:
            book.put(result.settlement, f"2026-0{number + 1}-01")
    parts = [statement("ann", book, f"2026-0{n}").parts[0] for n in (1, 2, 3)]
    assert [part.before for part in parts] == [0, Fraction(-1, 2), 0]
    assert [part.share for part in parts] == [1, 0, 1]
    assert "rounding had owed -1/2 before" in formula(parts[1], "ann")


def test_the_table_of_rows_adds_up(book):
    s = statement("ann", book, NOVEMBER)
    *rows, last = csv.DictReader(io.StringIO(as_csv(s)))
    assert sum(Decimal(row["dollars"] or 0) for row in rows) == Decimal(last["dollars"])
    assert Decimal(last["dollars"]) * 10**9 == s.closing
    assert [row["kind"] for row in rows] == ["opening", "cost", "cost", "cost", "margin", "payout"]
    assert rows[2]["dollars"] == ""
    assert rows[2]["note"] == "cost is not known"
    assert rows[3]["request"] == "'=HYPERLINK(1)"
    assert rows[5]["dollars"] == "-0.000000060"


def test_the_json_has_exact_amounts_and_the_books_head(book):
    told = json.loads(as_json(statement("ann", book, NOVEMBER)))
    assert told["head"] == book[-1].hash.hex()
    amounts = [int(told[key]) for key in ("opening", "cost", "margin", "moved")]
    assert all(isinstance(told[key], str) for key in ("opening", "closing", "now"))
    assert sum(amounts) == int(told["closing"])
    assert sum(int(line["cost"] or 0) for line in told["lines"]) == int(told["cost"])
    assert told["lines"][1]["cost"] is None
    assert told["parts"][0]["weights"] == {"ann": "2", "bob": "1"}


class _Read(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.tags, self.text = [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        assert not [name for name, _ in attrs if name.startswith("on") or name in ("src", "href")]

    def handle_data(self, data):
        self.text.append(data)


def test_the_page_escapes_every_name():
    evil = '<script>alert("1")</script>&amp;'
    book = Entries()
    asked = call(evil, evil, 5, ended="failed"), call("b", evil, 5)
    book.answered("2026-11-05", *asked, paid=19, by="b", mind=evil, request=evil)
    settled(book, NOVEMBER, "2026-12-01")
    made = _Read(page(statement(evil, book, NOVEMBER)))
    assert not {"script", "img", "link", "iframe"} & set(made.tags)
    assert made.text.count(evil) >= 7
    assert "$" not in file_name(evil)


def test_the_page_says_what_is_owed(book):
    text = " ".join(_Read(page(statement("ann", book, NOVEMBER))).text)
    for said in ("Owed before 0.000000116", "Cost of calls 0.000000082", "estimated", "unknown"):
        assert said in text
    assert book[-1].hash.hex() in text
    assert "A draft" not in text


def test_a_long_page_stops_and_still_adds_up(monkeypatch):
    monkeypatch.setattr("bicameral.ledger.page._LONGEST", 2)
    book = Entries()
    for _ in range(5):
        book.answered("2026-11-05", call("a", "ann", 10), paid=10)
    text = " ".join(_Read(page(statement("ann", book, NOVEMBER))).text)
    assert "3 more calls, each in the CSV and the JSON" in text
    assert "0.000000030" in text


def test_a_draft_is_marked_and_is_not_in_the_balance(book):
    (result,) = settle(book, "2026-12", keep=Fraction(0))
    s = statement("ann", book, "2026-12", [result.settlement])
    assert s.draft
    assert (s.margin, s.closing - s.now) == (2, 2)
    assert s.now == book.tally("owner/ann")
    assert "A draft" in page(s)
    assert ",draft," in as_csv(s)


def test_who_was_asked_has_a_statement_even_if_nothing_is_owed():
    book = Entries()
    book.answered("2026-11-05", call("a", "ann", 0), call("b", "bob", 10), paid=10)
    book.answered("2026-12-05", call("c", "cy", 10), paid=10)
    assert owners(book, NOVEMBER) == ("ann", "bob")


def test_an_entry_that_credits_what_its_calls_did_not_cost_is_refused(book):
    body = read(book[4].body)
    calls = tuple(replace(c, cost=None if c.cost is None else c.cost + 1) for c in body.calls)
    book[4] = replace(book[4], body=canonical(replace(body, calls=calls)))
    with pytest.raises(LedgerError, match="entry 5 credits ann another amount"):
        statement("ann", book, NOVEMBER)


def test_a_clock_that_goes_back_moves_nothing_between_settled_months(book):
    before = statement("ann", book, NOVEMBER)
    book.answered("2026-11-30", call("a", "ann", 7), paid=9, by="a")
    after = statement("ann", book, NOVEMBER)
    assert after.closing == before.closing
    assert after.since == before.since + 7


@pytest.mark.parametrize(
    ("nano", "said"),
    [(0, "0.000000000"), (-1, "-0.000000001"), (12_000_000_003, "12.000000003"), (None, "")],
)
def test_dollars_have_nine_decimals(nano, said):
    assert dollars(nano) == said


def test_every_owner_gets_a_file_of_its_own():
    names = ["ann", "Ann", "a/b", "a_b", "../../etc", "..", "", "x" * 300, "日本", "con.", "a b"]
    files = [file_name(name).lower() for name in names]
    assert len(set(files)) == len(names)
    assert all(len(name) < 80 and not set(name) & set("/\\: ") for name in files)
    assert all(not name.startswith(".") for name in files)


def test_a_loss_shares_out_nothing():
    book = Entries()
    book.answered("2026-11-05", call("a", "ann", 50), paid=20, by="a")
    settled(book, NOVEMBER, "2026-12-01")
    s = statement("ann", book, NOVEMBER)
    assert (s.cost, s.margin, s.closing) == (50, 0, 50)
    assert isinstance(read(book[1].body), Settlement)
    assert "operator's loss" in formula(s.parts[0], "ann")
