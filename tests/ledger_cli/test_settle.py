"""`bicameral ledger settle` and `contribution` as the operator types them."""

from __future__ import annotations

import json

import polars as pl
import pytest
import typer
from typer.testing import CliRunner

from bicameral.errors import BicameralError
from bicameral.ledger.entry import read
from bicameral.ledger.store import Store
from bicameral.ledger_cli import settle as module
from tests.ledger.settling import Entries, at, call

CONFIG = """
[models.a]
engine = "scripted"
owner = "ann"
[models.b]
engine = "scripted"
owner = "bob & co"
[minds.m]
policy = "vote"
members = ["a", "b"]
markup = "1"
[ledger]
path = "{path}"
keep = "0.25"
"""


@pytest.fixture
def place(tmp_path, config_file, monkeypatch):
    """A config, and a book with one answer in November that cost 60 and for which 160 was paid."""
    path = tmp_path / "book.sqlite3"
    config = config_file(CONFIG.format(path=path))
    entries = Entries()
    calls = call("a", "ann", 50), call("b", "bob & co", 10)
    entries.answered("2026-11-05", *calls, paid=160, by="a")
    store = Store(f"sqlite:///{path}")
    for entry in entries:
        store.write(lambda draft, e=entry: draft.put(read(e.body), e.at))
    store.close()
    monkeypatch.setattr(module, "wall", lambda: at("2026-12-02"))
    monkeypatch.chdir(tmp_path)
    return config


@pytest.fixture
def table(tmp_path):
    rows = [
        {"prompt_id": str(n), "prompt": f"q{n}", "model": model, "answer": said, "gold": "x"}
        | {"score": float(said == "x")}
        for n in range(4)
        for model, said in (("a", "x"), ("b", "x" if n else "y"))
    ]
    path = tmp_path / "outcomes.csv"
    pl.DataFrame(rows).write_csv(path)
    return path


@pytest.fixture
def run(place):
    app = typer.Typer()
    app.command()(module.settle)
    app.command()(module.contribution)

    def typed(*words):
        found = CliRunner().invoke(app, [*map(str, words), "--config", str(place)])
        if found.exception is not None and not isinstance(found.exception, SystemExit):
            raise found.exception
        assert found.exit_code == 0, found.output

    return typed


def owed(folder, name):
    return json.loads((folder / f"{name}.json").read_text())["closing"]


def test_it_settles_once_and_writes_the_same_again(run, tmp_path):
    folder = tmp_path / "statements-2026-11"
    run("settle", "--period", "2026-11")
    made = {path.name: path.read_text() for path in folder.iterdir()}
    assert len(made) == 6
    assert owed(folder, "ann") == str(50 + 75)
    assert all(path.stat().st_mode & 0o077 == 0 for path in folder.iterdir())
    run("settle", "--period", "2026-11", "--scheme", "calls")
    assert {path.name: path.read_text() for path in folder.iterdir()} == made


def test_a_draft_books_nothing(run, tmp_path):
    run("settle", "--period", "2026-11", "--draft", "--out", tmp_path / "look")
    assert owed(tmp_path / "look", "ann") == str(50 + 75)
    assert "A draft" in (tmp_path / "look" / "ann.html").read_text()
    run("settle", "--period", "2026-11", "--scheme", "calls")
    assert owed(tmp_path / "statements-2026-11", "ann") == str(50 + 38)


def test_a_month_that_is_not_over_is_a_draft(run, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "wall", lambda: at("2026-11-20"))
    run("settle", "--period", "2026-11")
    run("settle", "--period", "2026-12")
    for period in ("2026-11", "2026-12"):
        assert "A draft" in (tmp_path / f"statements-{period}" / "ann.html").read_text()


def test_weights_are_frozen_once_and_then_shared_out_by(run, table, tmp_path):
    run("contribution", "m", table, "--period", "2026-11", "--draft")
    run("contribution", "m", table, "--period", "2026-11")
    with pytest.raises(BicameralError, match="are frozen"):
        run("contribution", "m", table, "--period", "2026-11")
    run("settle", "--period", "2026-11")
    # Alone a is right 4 times and b 3, together 4: shares of 5 and 3 in 8.
    assert owed(tmp_path / "statements-2026-11", "ann") == str(50 + 47)
    with pytest.raises(BicameralError, match="settled up to"):
        run("contribution", "m", table, "--period", "2026-10")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("settle", "--period", "November"), "a period is a month"),
        (("settle", "--period", "2026-11", "--scheme", "shapley"), "no shapley weights of m"),
        (("contribution", "m", "--period", "2026-11"), "one of the two"),
        (("contribution", "m", "TABLE", "--period", "2026-13"), "a period is a month"),
        (("contribution", "n", "TABLE", "--period", "2026-11"), "there is no mind 'n'"),
    ],
)
def test_what_is_wrong_is_said(run, table, words, said):
    with pytest.raises(BicameralError, match=said):
        run(*(table if word == "TABLE" else word for word in words))


@pytest.mark.parametrize("keep", ["1.5", "-0.1", "half", "1/0"])
def test_what_the_operator_keeps_is_a_part_of_one(run, place, keep):
    place.write_text(place.read_text().replace('"0.25"', f'"{keep}"'))
    with pytest.raises(BicameralError, match="a part of 1"):
        run("settle", "--period", "2026-11")
