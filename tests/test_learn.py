"""`bicameral learn`: from a table or from rated answers to a file, and what it tells."""

from __future__ import annotations

import csv
import random
import sys

import pytest

from bicameral import cli
from bicameral.decision import Asked, Decision
from bicameral.journal.store import Entry, Store
from bicameral.left.learned import Learned

WORDS = ("red", "green", "blue", "old", "new", "sum", "root", "bird", "tree", "river", "cold")


@pytest.fixture
def bicameral(monkeypatch, capsys, tmp_path, config_file):
    """Runs `bicameral learn WORDS…` in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    config_file(f'[journal]\npath = "{tmp_path / "journal.sqlite3"}"')

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["bicameral", "learn", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        shown = capsys.readouterr()
        return ended.value.code, shown.out, " ".join(shown.err.split())

    return run


def questions(count: int) -> list[str]:
    draw = random.Random(1)
    return [" ".join(draw.choices(WORDS, k=6)) + f" {i}" for i in range(count)]


def table(path, count=80, score=lambda i, m: float((i + m) % 3 > 0)):
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["prompt_id", "prompt", "model", "score", "cost", "seconds"])
        for i, question in enumerate(questions(count)):
            for m, model in enumerate(("a", "b", "c")):
                rows.writerow([i, question, model, score(i, m), 0.001 * (m + 1), 0.5])
    return path


def rate(path, count, *, prompts, score=lambda i: float(i % 3 > 0)):
    """Answers of a mind that asked a or b and streamed it."""
    store = Store(path)
    entries = []
    for i, question in enumerate(questions(count)):
        name = "ab"[i % 2]
        asked = (Asked(model=name, share=1.0, cost=1000, seconds=0.5),)
        decision = Decision(id=f"req_{i}", mind="m", policy="route", by=name, asked=asked)
        prompt = question if prompts else None
        entries.append(Entry(id=f"req_{i}", at=1.0, decisions=(decision,), prompt=prompt))
    store.add(entries, 1000)
    for i in range(count):
        store.rate(f"req_{i}", score(i), None)
    store.close()


def test_a_table_is_learned_from_and_told(bicameral, tmp_path):
    code, out, err = bicameral(table(tmp_path / "t.csv"), "-o", tmp_path / "learned.npz")
    assert (code, err) == (0, str(tmp_path / "learned.npz"))
    assert "learned from 80 prompts" in out
    (a,) = (line.split() for line in out.splitlines() if line.startswith("a "))
    assert a[1:] == ["66.2%", "$0.001000", "0.50", "80"]
    learned = Learned.load(tmp_path / "learned.npz")
    assert [member.name for member in learned.members] == ["a", "b", "c"]


def test_without_a_file_to_write_it_only_tells(bicameral, tmp_path):
    code, out, _ = bicameral(table(tmp_path / "t.csv"))
    assert code == 0
    assert "learned from" in out
    assert {p.suffix for p in tmp_path.iterdir()} == {".csv", ".toml"}


def alone(path, model, count=40):
    """The first questions again, answered by one member."""
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["prompt_id", "prompt", "model", "score", "cost"])
        for i, question in enumerate(questions(count)):
            rows.writerow([i, question, model, float(i % 4 > 0), 0.005])
    return path


def test_a_new_member_is_added_to_what_was_learned(bicameral, tmp_path):
    old, new = tmp_path / "old.npz", tmp_path / "new.npz"
    bicameral(table(tmp_path / "t.csv"), "-o", old)
    code, out, err = bicameral(alone(tmp_path / "d.csv", "d"), "--add", old, "-o", new)
    assert (code, err) == (0, str(new))
    (d,) = (line.split() for line in out.splitlines() if line.startswith("d "))
    assert d[2:] == ["$0.005000", "?", "40"]
    before, after = Learned.load(old), Learned.load(new)
    assert after.members[:-1] == before.members
    assert after.members[-1].name == "d"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["a.csv", "--add", "t.npz"], "'a' has outcomes already"),
        (["t.csv", "--add", "t.npz"], "a table of it alone, not of a, b, c"),
        (["a.csv", "--add", "t.csv"], "is no file that `bicameral learn` wrote"),
        (["few.csv", "--add", "t.npz"], "give at least 20"),
        (["--from-journal", "--add", "t.npz"], "--add: give a table"),
    ],
)
def test_who_cannot_be_added_is_refused(bicameral, tmp_path, words, said):
    bicameral(table(tmp_path / "t.csv"), "-o", tmp_path / "t.npz")
    alone(tmp_path / "a.csv", "a")
    alone(tmp_path / "few.csv", "d", count=19)
    code, _, err = bicameral(*words)
    assert code == 2
    assert said in err


def test_rated_answers_are_learned_from(bicameral, tmp_path):
    rate(tmp_path / "journal.sqlite3", 60, prompts=True)
    code, out, err = bicameral("--from-journal", "-o", tmp_path / "l.npz")
    assert (code, err) == (0, str(tmp_path / "l.npz"))
    assert "learned from 60 prompts" in out
    (a,) = (line.split() for line in out.splitlines() if line.startswith("a "))
    assert a[1:] == ["66.7%", "$0.000001", "0.50", "30"]


def test_without_questions_it_says_that_only_base_rates_come_of_it(bicameral, tmp_path):
    rate(tmp_path / "journal.sqlite3", 60, prompts=False)
    code, out, err = bicameral("--from-journal")
    assert code == 0
    assert "60 of 60 rated answers were kept without their question" in err
    assert "[journal] prompts = true" in err
    assert "66.7%" in out


@pytest.mark.parametrize(
    ("rates", "said"),
    [
        ({"count": 20, "prompts": True}, "20 different prompts are too few"),
        ({"count": 60, "prompts": True, "score": lambda i: 1.0}, "every recorded answer is right"),
        ({"count": 60, "prompts": False, "score": lambda i: 0.0}, "every recorded answer is wrong"),
    ],
)
def test_too_little_is_refused(bicameral, tmp_path, rates, said):
    rate(tmp_path / "journal.sqlite3", **rates)
    code, _, err = bicameral("--from-journal")
    assert code == 2
    assert said in err


def test_no_journal_and_no_ratings_are_refused(bicameral, tmp_path):
    code, _, err = bicameral("--from-journal")
    assert code == 2
    assert "no mind has answered yet" in err
    Store(tmp_path / "journal.sqlite3").close()
    code, _, err = bicameral("--from-journal")
    assert code == 2
    assert "rate some with" in err


@pytest.mark.parametrize("words", [[], ["t.csv", "--from-journal"]])
def test_it_learns_from_one_of_the_two(bicameral, words):
    code, _, err = bicameral(*words)
    assert code == 2
    assert "give one of the two" in err


def test_a_table_that_is_not_there_is_named(bicameral):
    code, _, err = bicameral("nowhere.csv")
    assert code == 2
    assert "nowhere.csv: cannot be read" in err
