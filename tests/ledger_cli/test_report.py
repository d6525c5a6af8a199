"""`bicameral ledger report` as its user reads it."""

from __future__ import annotations

import csv
import io
import json

import pytest
from rich.console import Console

from bicameral import terminal
from bicameral.brain import load_config
from bicameral.decision import Asked, Decision
from bicameral.errors import ConfigError, RequestError
from bicameral.journal.store import Entry
from bicameral.journal.store import Store as Journal
from bicameral.ledger.alternative import FEWEST
from bicameral.ledger.engine import where
from bicameral.ledger.entry import Hold, KeySet
from bicameral.ledger.keys import Key
from bicameral.ledger.store import Store
from bicameral.ledger_cli.figures import count, dollars
from bicameral.ledger_cli.report import report
from tests.ledger.test_report import DAY, NOON, booking, call

CONFIG = """
[ledger]
path = "{folder}/book.sqlite3"
[journal]
path = "{folder}/journal.sqlite3"
[models.big]
engine = "scripted"
price_input = "1000"
price_output = "2000"
[models.small]
engine = "scripted"
price_input = "1"
price_output = "2"
[minds.inner]
policy = "vote"
members = ["small"]
[minds.default]
policy = "vote"
members = ["big", "inner"]
"""
DOLLAR = 10**9
ASKED = [
    booking(
        str(n),
        call("big", 3 * DOLLAR // 100),
        call("small", DOLLAR // 100),
        paid=5 * DOLLAR // 100,
        mind="default",
        request=f"req_{n}",
    )
    for n in range(FEWEST)
]


@pytest.fixture
def told(config_file, tmp_path, capsys, monkeypatch):
    """Writes `bodies` into the book and reports; gives what was printed."""
    path = config_file(CONFIG.format(folder=tmp_path))
    monkeypatch.setattr(terminal, "out", Console(highlight=False, soft_wrap=True, width=80))

    def told(*bodies, **options):
        store = Store(where(load_config(path).ledger))
        store.write(lambda draft: [draft.put(body, NOON) for body in bodies])
        store.close()
        report(config=path, **options)
        return capsys.readouterr().out

    return told


def test_an_empty_book_says_so(told):
    assert "nothing is booked yet" in told()
    assert "nothing is booked in these days" in told(first="2030-01-01")


def test_what_was_spent_fits_80_columns(told):
    out = told(*ASKED)
    assert "  default     10     20      60   40  $0.400000  $0.500000  $0.100000\n" in out
    assert max(len(line.rstrip()) for line in out.splitlines()) <= 80


def test_a_loss_against_one_member_is_said_in_words(told):
    out = told(*ASKED)
    assert "-$0.100000 -33.3 %" in out
    assert "default cost $0.100000 (33.3 %) more than asking only big\n" in out
    assert "-$0.300000 -300.0 %" in out
    assert "quality: unknown" in out


def test_a_loss_is_red(told, monkeypatch):
    shown = Console(file=io.StringIO(), force_terminal=True, color_system="standard", width=80)
    monkeypatch.setattr(terminal, "out", shown)
    told(*ASKED)
    assert "\x1b[31m-$0.300000 -300.0 %" in shown.file.getvalue()


def test_a_saving_is_a_saving(told):
    out = told(*ASKED, booking("x", call("small", 5), mind="inner"))
    assert "inner cost as much as asking only small" in out
    cheap = [booking(f"c{n}", call("small", 5), mind="default") for n in range(90)]
    assert "less than asking only big" in told(*cheap)


def test_ratings_say_who_is_best(told, tmp_path):
    def given(number):
        asked = [Asked(model="big", key="A"), Asked(model="small", key="B", share=1.0)]
        decision = Decision(id=f"req_{number}", mind="default", policy="vote", asked=tuple(asked))
        return Entry(id=f"req_{number}", decisions=(decision,), at=0.0)

    journal = Journal(tmp_path / "journal.sqlite3")
    journal.add([given(n) for n in range(FEWEST)], keep=100)
    for n in range(FEWEST):
        journal.rate(f"req_{n}", 0.5, None)
    journal.close()
    out = told(*ASKED)
    assert "more than asking only small, the best single" in out
    assert "right: by ratings of answers that callers saw: 10 small" in out
    assert "default itself: 50.0 % right, by 10 ratings" in out


def test_a_table_says_who_is_best(told, tmp_path):
    table = tmp_path / "outcomes.csv"
    lines = [f"{n},what is {n},{m},{s}" for n in range(4) for m, s in (("big", 1), ("small", 0))]
    table.write_text("\n".join(["prompt_id,prompt,model,score", *lines]), encoding="utf-8")
    out = told(*ASKED, table=table)
    assert "asking only big, the best single" in out
    assert "right: on the 4 prompts of the table" in out
    assert "the cheapest about as good" not in out
    assert "the cheapest about as good" in told(table=table, floor=1).replace("\n  ", " ")


def test_json_has_the_exact_amounts(told):
    body = json.loads(told(*ASKED, json=True, by="member"))
    assert {row["group"]: row["cost"]["amount"] for row in body["rows"]} == {
        "big": 3 * DOLLAR // 10,
        "small": DOLLAR // 10,
    }
    (mind,) = body["alternatives"]
    assert [(a["member"], a["saved"]) for a in mind["alone"]] == [
        ("big", -DOLLAR // 10),
        ("small", -3 * DOLLAR // 10),
    ]


def test_csv_keeps_unknown_empty_and_runs_no_formula(told):
    key = Key(id="key_1", name='=HYPERLINK("x")', digest="d")
    body = booking("1", call("big", None), caller="key_1")
    (row,) = csv.DictReader(io.StringIO(told(KeySet(id="k", key=key), body, as_csv=True, by="key")))
    assert (row["key"], row["name"]) == ("key_1", '\'=HYPERLINK("x")')
    assert (row["cost"], row["cost_unknown"], row["completion_tokens"]) == ("", "1", "2")


def test_what_is_not_known_is_shown_as_that(told):
    odd = call("big", None, mismatch=True, ended="failed")
    hold = Hold(id="h", caller="k", mind="default", money=7000, tokens=5, day=DAY, until=0)
    out = told(hold, booking("1", odd, call("small", 1500), mind="default"))
    assert "$0.000001500+?" in out
    assert "cost: not known of 1 call" in out
    assert "another model than was asked for answered 1 call" in out
    assert "1 hold open now: $0.000007 and 5 tokens" in out
    assert "of no request it is known what it cost" in out
    assert "failed" in out


def test_a_key_is_told_by_its_name_and_obeys_no_terminal(told):
    key = Key(id="key_1", name="team\x1b[2J", digest="d")
    out = told(KeySet(id="k", key=key), booking("1", call("big"), caller="key_1"), by="key")
    assert "team" in out
    assert "\x1b" not in out


@pytest.mark.parametrize(
    "wrong", [{"by": "x"}, {"first": "1.11."}, {"last": "x"}, {"json": True, "as_csv": True}]
)
def test_what_cannot_be_reported_is_refused(told, wrong):
    with pytest.raises(RequestError):
        told(**wrong)


def test_without_a_ledger_it_says_what_to_add(config_file):
    with pytest.raises(ConfigError, match=r"add a \[ledger\] table"):
        report(config=config_file('[models.a]\nengine = "scripted"\n'))


@pytest.mark.parametrize(
    ("amount", "shown"),
    [
        (None, "?"),
        (0, "$0.000000"),
        (1, "$0.000000001"),
        (-1500, "-$0.000001500"),
        (2000, "$0.000002"),
        (1_234_567_890_123, "$1,234.567890"),
    ],
)
def test_dollars_show_small_sums(amount, shown):
    assert dollars(amount) == shown


def test_counts_are_exact_up_to_ten_million():
    assert (count(9_999_999), count(12_345_678)) == ("9,999,999", "12.3M")
