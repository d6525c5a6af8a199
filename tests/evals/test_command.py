"""`bicameral eval` as its user types it."""

from __future__ import annotations

import sys

import numpy as np
import polars as pl
import pytest

from bicameral import cli

TOPICS = ["the capital of the country", "the square root of the number", "a rhyme with the word"]


@pytest.fixture
def table(tmp_path):
    """Three members, each good at one topic; a dear one that is good at two."""
    rng = np.random.default_rng(0)
    rows = []
    for number in range(120):
        topic = number % 3
        for place, (name, good) in enumerate({"a": [0], "b": [1], "c": [1, 2]}.items()):
            right = rng.random() < (0.95 if topic in good else 0.2)
            row = {
                "prompt_id": str(number),
                "prompt": f"What is {TOPICS[topic]} {number}?",
                "model": name,
                "score": float(right),
                "answer": "yes" if right else str(rng.choice(["no", "never", "hardly"])),
                "gold": "yes",
                "cost": 0.001 * (1 + 4 * place),
                "category": str(topic),
            }
            rows.append(row)
    path = tmp_path / "outcomes.csv"
    pl.DataFrame(rows).write_csv(path)
    return path


@pytest.fixture
def run(monkeypatch, capsys):
    """Runs `bicameral eval WORDS…`; gives (exit code, stdout, stderr)."""

    def typed(*words):
        monkeypatch.setattr(sys, "argv", ["bicameral", "eval", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        shown = capsys.readouterr()
        return ended.value.code, shown.out, shown.err

    return typed


def test_it_prints_the_comparison_and_writes_the_report(run, table, tmp_path):
    out = tmp_path / "new" / "out"
    code, said, told = run(
        *(table, "--policy", "route", "--policy", "vote", "--worth", "1", "--folds", "2"),
        *("--floor", "0.02", "--sure", "0.9", "--out", out),
    )
    assert code == 0, told
    names = [line.split("|")[1].strip() for line in said.splitlines() if line.startswith("|")]
    assert names[2].startswith("best single (")
    assert names[3:] == [
        "random",
        "category table",
        "majority of the best",
        "oracle",
        "route, right is worth $1",
        "vote, right is worth $1",
    ]
    assert "120 prompts, 3 members, 2 folds by wording, seed 0." in said
    report = (out / "report.md").read_text(encoding="utf-8")
    told_floors = [line for line in said.splitlines() if "points worse than" in line]
    assert len(told_floors) == 2
    assert all("at 90 % confidence" in line and line in report for line in told_floors)
    assert said.split("\n\n")[0] in report
    assert "| c | member | 9 |" in report
    assert (out / "frontier.png").read_bytes().startswith(b"\x89PNG")
    assert told.split() == [str(out / "report.md"), str(out / "frontier.png")]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["nowhere.csv"], "nowhere.csv: cannot be read"),
        (["outcomes.xls"], "ends in .parquet"),
        (["TABLE", "--policy", "autp"], "did you mean 'auto'?"),
        (["TABLE", "--floor", "2"], "--floor and --sure: are between 0 and 1"),
        (["TABLE", "--floor", "0.1", "--sure", "95"], "--floor and --sure: are between 0 and 1"),
        (["TABLE", "--worth", "much"], "--worth: 'much' is no price"),
        (["TABLE", "--policy", "cascade"], "say with --worth what a right answer is worth"),
        (["TABLE", "--out", "TABLE"], "is no folder that can be made"),
    ],
)
def test_what_is_wrong_is_one_clear_line(run, table, words, said):
    code, out, told = run(*[table if word == "TABLE" else word for word in words])
    assert (code, out) == (2, "")
    assert said in " ".join(told.split())
    assert "Traceback" not in told


def test_a_table_that_teaches_nothing_is_refused(run, table):
    frame = pl.read_csv(table)
    frame.with_columns(score=1.0).drop("gold").write_csv(table)
    code, _, told = run(table)
    assert code == 2
    assert "every recorded answer is right" in " ".join(told.split())
    frame.head(30).write_csv(table)
    code, _, told = run(table)
    assert code == 2
    said = " ".join(told.split())
    assert "10 different prompts are too few to learn from: record the outcomes of" in said
    assert "at least 53 more" in said
