"""The auditor finds every way in which a book can be wrong that anybody thought of."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer
from msgspec.structs import replace
from typer.testing import CliRunner

from bicameral.errors import LedgerError
from bicameral.ledger.audit import audit
from bicameral.ledger.book import void
from bicameral.ledger.entry import Held, Hold, Settlement
from bicameral.ledger.store import Store
from bicameral.ledger_cli.audit import head, verify
from tests.ledger.entries import DAY, booking, call, deposit, key, moved, put, set_key

HELD = {n: Held(id=n, caller="key_ann", money=100, tokens=10, day=DAY) for n in "abcd"}
LAST = 12


def hold(name: str) -> Hold:
    held = HELD[name]
    fields = {field: getattr(held, field) for field in held.__struct_fields__}
    return Hold(mind="mind", until=2_000_000_000, **fields)


@pytest.fixture
def book(url: str) -> str:
    """A key, money paid in, three holds resolved in three ways and one open, and money paid out."""
    store = Store(url)
    set_key(store, key(prepaid=True))
    put(store, deposit("paid in", 1000), *(hold(name) for name in "abcd"))
    put(store, booking("a", held=HELD["a"]), booking("b", held=HELD["b"], paid=130, cost=40))
    put(store, void(HELD["c"], expired=True), booking("local", caller="local", paid=0))
    settled = Settlement(
        id="settle/mind",
        postings=(("margin/mind", -80), ("owner/smalls", 60), ("kept/operator", 20)),
        period="2026-09",
        mind="mind",
        first=1,
        last=10,
        margin=80,
        kept=20,
        amount=60,
        scheme="fixed",
        weights=(("smalls", 1),),
    )
    put(store, settled, moved("out", "payout", ("owner/smalls", -160), ("cash/operator", 160)))
    store.close()
    return url


def run(url: str, *statements: str, values: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """As somebody does who has the database's own rights, and first takes its guards away."""
    drop = [f"DROP TRIGGER IF EXISTS entry_{name}" for name in ("stays", "remains", "is_new")]
    if url.startswith("sqlite"):
        connection: Any = sqlite3.connect(url.removeprefix("sqlite:///"))
    else:
        import psycopg

        connection = psycopg.connect(url)
        drop = ["DROP TRIGGER IF EXISTS entry_stays ON entry"]
    rows = []
    for statement in (*drop, *statements):
        text = statement if url.startswith("sqlite") else statement.replace("?", "%s")
        cursor = connection.execute(text, *([values] if "?" in statement else ()))
        rows = cursor.fetchall() if cursor.description else []
    connection.commit()
    connection.close()
    return rows


def faults(url: str, *heads: str) -> tuple[str, ...]:
    return audit(url, heads).faults


def forge(url: str, body: dict[str, Any]) -> None:
    """Append an entry whose hash is right, and head and balances with it."""
    [(seq, before)] = run(url, "SELECT seq, hash FROM head")
    text = json.dumps(body)
    row = f"{seq + 1}\0{body['id']}\0{5}\0{text}".encode()
    digest = hashlib.sha256(bytes(before) + row).digest()
    values = (seq + 1, body["id"], 5, text, digest)
    run(url, "INSERT INTO entry VALUES (?, ?, ?, ?, ?)", values=values)
    run(url, "UPDATE head SET seq = ?, hash = ?", values=(seq + 1, digest))
    for account, amount in body.get("postings", ()):
        change = "INSERT INTO tally VALUES (?, ?) ON CONFLICT (name) DO UPDATE "
        change += "SET amount = tally.amount + excluded.amount"
        run(url, change, values=(f"account/{account}", int(amount)))


def test_a_right_book_has_no_faults(book: str) -> None:
    report = audit(book)
    assert report.faults == ()
    assert report.entries == LAST
    assert report.open_holds == 1
    assert sum(report.balances.values()) == 0
    assert report.balances["owner/smalls"] == 0
    assert report.balances["caller/key_ann"] == 850
    assert faults(book, report.head) == ()


CHANGES: dict[str, tuple[str, str]] = {
    "a body": ("UPDATE entry SET body = replace(body, 'mind', 'mint') WHERE seq = 7", "entry 7:"),
    "an amount": ("UPDATE entry SET body = replace(body, '1000', '9000') WHERE seq = 2", "entry 2"),
    "a time": ("UPDATE entry SET at = at + 1 WHERE seq = 3", "entry 3: its hash"),
    "an id": ("UPDATE entry SET id = 'other' WHERE seq = 4", "entry 4: its id is not"),
    "a hash": (
        "UPDATE entry SET hash = (SELECT hash FROM head) WHERE seq = 4",
        "entry 4: its hash",
    ),
    "no JSON": ("UPDATE entry SET body = '{' WHERE seq = 5", "entry 5: it makes no sense"),
    "no object": ("UPDATE entry SET body = '[]' WHERE seq = 5", "entry 5: it makes no sense"),
    "the last": (f"DELETE FROM entry WHERE seq = {LAST}", "head 12: not what the entries say"),
    "a middle one": ("DELETE FROM entry WHERE seq = 5", "entries 5 to 5 are missing"),
    "a tally": ("UPDATE tally SET amount = 7 WHERE name = 'account/owner/smalls'", "tally account"),
    "a tally gone": ("DELETE FROM tally WHERE name LIKE 'spent/%/ever'", "tally spent/key_ann/mon"),
    "a hold gone": ("DELETE FROM open_hold", "open_hold d: not what"),
    "a hold changed": ("UPDATE open_hold SET until = 5", "open_hold d: not what"),
    "a hold's body": ("UPDATE open_hold SET body = 'x'", "open_hold d: not what"),
    "a key": ("UPDATE api_key SET body = replace(body, 'true', 'false')", "api_key digest of ann"),
    "a key gone": ("DELETE FROM api_key", "api_key digest of ann"),
    "the head": ("UPDATE head SET seq = 11", "head 12: not what"),
    "no table": ("DROP TABLE api_key", "after entry 12: the ledger"),
}


@pytest.mark.parametrize("what", CHANGES)
def test_a_change_is_found(book: str, what: str) -> None:
    change, found = CHANGES[what]
    run(book, change)
    assert any(found in fault for fault in faults(book)), faults(book)


def test_two_entries_in_each_others_place_are_found(book: str) -> None:
    moves = [f"UPDATE entry SET seq = {b} WHERE seq = {a}" for a, b in ((3, 99), (4, 3), (99, 4))]
    run(book, *moves)
    found = faults(book)
    assert found[0].startswith("entry 3: its hash")
    assert found[1].startswith("entry 4: its hash")


def test_all_faults_are_told_not_only_the_first(book: str) -> None:
    run(book, *(change for what, (change, _) in CHANGES.items() if what in ("a time", "a hash")))
    run(book, CHANGES["a key gone"][0])
    told = "\n".join(faults(book))
    assert all(f in told for f in ("entry 3: its hash", "entry 4: its hash", "api_key digest"))


def test_an_id_that_is_there_twice_is_found(tmp_path: Path) -> None:
    path = tmp_path / "book"
    put(store := Store(f"sqlite:///{path}"), deposit("a", 5), deposit("b", 5))
    store.close()
    run(f"sqlite:///{path}", "CREATE TABLE e AS SELECT * FROM entry", "DROP TABLE entry")
    run(f"sqlite:///{path}", "ALTER TABLE e RENAME TO entry", "UPDATE entry SET id = 'a'")
    assert "the id a is there 2 times" in faults(f"sqlite:///{path}")


HOLD = {"id": "d", "caller": "key_ann", "money": 100, "tokens": 10, "day": DAY}
ASKED = {"type": "booking", "caller": "key_ann", "mind": "mind", "day": DAY, "ended": "finished"}
FORGED: dict[str, tuple[dict[str, Any], str]] = {
    "not zero": (
        {"type": "transfer", "why": "adjust", "postings": [["caller/key_ann", 5]]},
        "its postings do not sum to zero",
    ),
    "a fraction": (
        {"type": "transfer", "why": "adjust", "postings": [["a", 1.5], ["b", -1.5]]},
        "no whole number",
    ),
    "resolved twice": ({"type": "void", "held": {**HOLD, "id": "a"}}, "hold a, which is not open"),
    "never held": ({"type": "void", "held": {**HOLD, "id": "q"}}, "hold q, which is not open"),
    "other amounts": ({"type": "void", "held": {**HOLD, "tokens": 9}}, "d with other amounts"),
    "more than held": (
        {**ASKED, "held": HOLD, "paid": 200, "postings": [["caller/key_ann", -200], ["x", 200]]},
        "charged 200 of 200, 100 held",
    ),
    "an owner cheated": (
        {
            **ASKED,
            "calls": [{"model": "m", "cost": 9}],
            "paid": 9,
            "postings": [["caller/key_ann", -9], ["owner/other", 9]],
        },
        "its owners do not get what its calls cost",
    ),
    "paid out too much": (
        {"type": "transfer", "why": "payout", "postings": [["owner/smalls", -1], ["cash", 1]]},
        "owner/smalls is paid more than it has earned",
    ),
    "settled again": (
        {
            "type": "settlement",
            "mind": "mind",
            "first": 1,
            "last": 9,
            "margin": 80,
            "kept": 0,
            "amount": 80,
            "postings": [["margin/mind", -80], ["owner/smalls", 80]],
        },
        "it settles a margin of 80, where 0 are not settled",
    ),
    "settled and shared short": (
        {
            "type": "settlement",
            "mind": "mind",
            "first": 1,
            "last": 9,
            "margin": 0,
            "kept": 0,
            "amount": 0,
            "postings": [["owner/smalls", 5], ["owner/large", -5]],
        },
        "its owners do not get the margin less 0",
    ),
}


@pytest.mark.parametrize("what", FORGED)
def test_a_forged_entry_with_a_right_hash_is_found(book: str, what: str) -> None:
    body, found = FORGED[what]
    forge(book, {"id": "forged", **body})
    told = [fault for fault in faults(book) if fault.startswith(f"entry {LAST + 1}: ")]
    assert any(found in fault for fault in told), faults(book)
    assert not any("hash" in fault for fault in faults(book))


def test_who_has_paid_in_can_spend_no_more(book: str) -> None:
    out = [["caller/key_ann", -840], ["cash/operator", 840]]
    forge(book, {"id": "by hand", "type": "transfer", "why": "adjust", "postings": out})
    spent = [["caller/key_ann", -50], ["margin/mind", 50]]
    forge(book, {"id": "d/end", **ASKED, "held": HOLD, "paid": 50, "postings": spent})
    assert "entry 14: key_ann has spent more than was paid in" in faults(book)


def test_a_published_head_shows_what_was_rewritten_since(url: str) -> None:
    put(store := Store(url), deposit("a", 5), deposit("b", 5), deposit("c", 5))
    head = audit(url).head
    assert faults(url, head, "0:" + "0" * 64) == ()
    put(store, deposit("d", 5))
    assert faults(url, head) == ()
    store.close()
    chain = run(url, "SELECT hash FROM entry WHERE seq = 2")[0][0]
    run(url, "DELETE FROM entry WHERE seq > 2", "DELETE FROM tally")
    run(url, "UPDATE head SET seq = 2, hash = ?", values=(chain,))
    for account, amount in (("caller/key_ann", 10), ("cash/operator", -10)):
        run(url, "INSERT INTO tally VALUES (?, ?)", values=(f"account/{account}", amount))
    assert faults(url) == ()
    assert faults(url, head) == ("the book ends at 2, before the published head 3",)
    store = Store(url)
    put(store, deposit("another c", 5))
    store.close()
    assert faults(url) == ()
    assert faults(url, head) == ("entry 3: it is not the one that was published as head",)


@pytest.mark.parametrize("text", ["", "5", "x:00", "3:abc", "-1:" + "0" * 64])
def test_what_is_no_head_is_refused(book: str, text: str) -> None:
    with pytest.raises(LedgerError, match="is no head"):
        audit(book, [text])


def test_it_reads_one_state_while_the_book_is_written(url: str) -> None:
    store = Store(url)
    for number in range(5):
        put(store, deposit(f"{number}", 1))
        assert audit(url).entries == number + 1
    seen: list[int] = []
    store.write(lambda draft: (draft.put(deposit("x", 1), 1), seen.append(audit(url).entries)))
    assert seen == [5]
    store.close()


def test_a_damaged_file_is_a_fault_too(tmp_path: Path) -> None:
    path = tmp_path / "book"
    store = Store(f"sqlite:///{path}")
    put(store, *(deposit(f"{number}", 1) for number in range(200)))
    store.close()
    content = bytearray(path.read_bytes())
    content[-20_000:-16_000] = b"\xa5" * 4000
    path.write_bytes(content)
    assert faults(f"sqlite:///{path}")
    path.write_bytes(b"not a database, but long enough to be looked at. " * 99)
    assert "is not a database" in faults(f"sqlite:///{path}")[0]
    with pytest.raises(LedgerError, match="there is no ledger"):
        audit(f"sqlite:///{tmp_path / 'none'}")
    assert not (tmp_path / "none").exists()


def test_unknown_costs_and_tokens_are_replayed_as_they_were_counted(url: str) -> None:
    put(store := Store(url), hold("a"))
    unknown = (call(5), call(None, tokens=None), call(7))
    body = booking("a", held=HELD["a"], cost=12)
    put(store, replace(body, calls=unknown), replace(body, id="b/end", held=None, calls=unknown))
    store.close()
    assert faults(url) == ()


@pytest.fixture
def command(book: str, config_file: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch):
    app = typer.Typer()
    app.command()(verify)
    app.command()(head)
    monkeypatch.setenv("BOOK_URL", book)
    place = f'path = "{book[10:]}"' if book.startswith("sqlite") else 'url_env = "BOOK_URL"'
    text = f'[models.a]\nengine = "scripted"\n[ledger]\n{place}\n'
    path = config_file(text)
    return lambda name, *more: CliRunner().invoke(app, [name, "-c", str(path), *more])


def test_the_commands(command: Callable[..., Any], book: str) -> None:
    right = command("verify")
    assert right.exit_code == 0, right.output
    assert right.output.startswith("the book is right: 12 entries, 1 open holds")
    assert "  caller                $0.000000850\n" in right.output
    said = command("head")
    assert said.output == audit(book).head + "\n"
    assert command("verify", "--head", said.output.strip()).exit_code == 0
    run(book, CHANGES["a time"][0], CHANGES["a key gone"][0])
    wrong = command("verify")
    assert wrong.exit_code == 1
    assert "entry 3: its hash" in wrong.output
    assert "2 faults in 12 entries" in wrong.output
    assert command("head").exit_code == 1
