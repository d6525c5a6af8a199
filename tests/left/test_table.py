"""Tables of outcomes: three formats, and what is refused, by its row."""

from __future__ import annotations

import json
import sys

import numpy as np
import polars as pl
import pytest

from bicameral.errors import ConfigError
from bicameral.left.table import check_learnable, load, save, tabulate

GOOD = [
    {"prompt_id": "a", "prompt": "1 + 1?", "model": "small", "score": 0, "answer": "3"},
    {"prompt_id": "a", "prompt": "1 + 1?", "model": "big", "score": 1, "answer": "2"},
    {"prompt_id": "b", "prompt": "2 + 2?", "model": "small", "score": 1, "answer": "4"},
    {"prompt_id": "b", "prompt": "2 + 2?", "model": "big", "score": 0.5, "answer": None},
]


def changed(row, **fields):
    """GOOD with `fields` in one row, counted from 1."""
    rows = [dict(r) for r in GOOD]
    rows[row - 1].update(fields)
    return pl.DataFrame(rows, infer_schema_length=None)


def without(column):
    return pl.DataFrame(GOOD).drop(column)


def same(one, other):
    for name in ("score", "cost", "seconds", "tokens_in", "tokens_out", "confidence", "checked"):
        assert np.array_equal(getattr(one, name), getattr(other, name), equal_nan=True), name
    for name in ("ids", "prompts", "models", "gold", "categories", "splits"):
        assert getattr(one, name) == getattr(other, name), name
    assert one.answer.tolist() == other.answer.tolist()


FULL = [
    {
        **row,
        "prompt": 'Says "hi",\nin two lines; 你好' if row["prompt_id"] == "a" else row["prompt"],
        "answer": {"3": "007", "2": "null"}.get(row["answer"], row["answer"]),
        "cost": 0.0012345,
        "seconds": None if row["model"] == "big" else 2.5,
        "tokens_in": 10,
        "tokens_out": 20,
        "confidence": 0.25,
        "checked": row["prompt_id"] == "a",
        "category": "sums" if row["prompt_id"] == "a" else None,
        "split": "train",
    }
    for row in GOOD
]


@pytest.mark.parametrize("ending", ["parquet", "csv", "jsonl"])
def test_a_table_survives_writing_and_reading(tmp_path, ending):
    table = tabulate(pl.DataFrame(FULL))
    save(table, tmp_path / f"t.{ending}")
    again = load(tmp_path / f"t.{ending}")
    same(table, again)
    assert again.answer[0].tolist() == ["007", "null"]
    assert again.prompts[0] == 'Says "hi",\nin two lines; 你好'
    assert again.checked.tolist() == [[1, 1], [0, 0]]
    assert again.categories == ("sums", None)
    assert np.isnan(again.seconds[:, 1]).all()


def test_a_missing_outcome_stays_missing(tmp_path):
    table = tabulate(pl.DataFrame(GOOD[:3]))
    assert np.isnan(table.score[1, 1])
    save(table, tmp_path / "t.csv")
    same(table, load(tmp_path / "t.csv"))
    header = (tmp_path / "t.csv").read_text().splitlines()[0]
    assert header == "prompt_id,prompt,model,score,answer"


def test_json_lines_keep_numbers_and_truth_as_they_are(tmp_path):
    rows = [{**GOOD[0], "answer": 3, "score": False}, {**GOOD[1], "answer": 2.0, "score": True}]
    path = tmp_path / "t.jsonl"
    path.write_text("\n\n".join(json.dumps(row) for row in rows) + "\n", encoding="utf-8")
    table = load(path)
    assert table.answer.tolist() == [["3", "2.0"]]
    assert table.score.tolist() == [[0, 1]]


def test_other_columns_are_passed_over():
    frame = pl.DataFrame(GOOD).with_columns(pl.lit(1).alias("grader"))
    same(tabulate(frame), tabulate(pl.DataFrame(GOOD)))


REFUSED = {
    "no such column": (without("score"), ["no column score", "found: prompt_id"]),
    "nearest column": (without("model").with_columns(modell=pl.lit("x")), ["is it 'modell'?"]),
    "misspelt": (
        pl.DataFrame(GOOD).with_columns(categry=pl.lit("x")),
        ["no column 'categry'", "did you mean 'category'?"],
    ),
    "NaN score": (changed(3, score=float("nan")), ["row 3 (b, small)", "has no score"]),
    "no score": (changed(3, score=None), ["row 3 (b, small)", "has no score"]),
    "score 73": (changed(2, score=73), ["row 2 (a, big)", "score is 73", "divide percentages"]),
    "score word": (
        pl.DataFrame(GOOD).with_columns(score=pl.Series(["1", "0", "yes", "1"])),
        ["row 3: score is no number but 'yes'"],
    ),
    "negative cost": (changed(4, cost=-0.1), ["row 4 (b, big)", "cost is -0.1"]),
    "endless": (changed(4, seconds=float("inf")), ["row 4 (b, big)", "seconds is inf"]),
    "confidence": (changed(1, confidence=1.5), ["row 1 (a, small)", "confidence is 1.5"]),
    "empty prompt": (changed(1, prompt="  "), ["row 1 (a, small)", "prompt is empty"]),
    "no member": (changed(2, model=None), ["row 2 (a)", "model is empty"]),
    "identical": (
        pl.DataFrame([*GOOD, GOOD[1]]),
        ["rows 2 and 5 (a, big) are the same", "leave one out"],
    ),
    "contradictory": (
        pl.DataFrame([*GOOD, {**GOOD[1], "score": 0}]),
        ["rows 2 and 5 (a, big) contradict each other in score", "mean score"],
    ),
    "two wordings": (
        changed(4, prompt="2 + 3?"),
        ["rows 3 and 4", "prompt_id b", "a different prompt"],
    ),
    "two golds": (
        pl.DataFrame(GOOD).with_columns(gold=pl.Series([None, None, "4", "5"])),
        ["rows 3 and 4", "a different gold"],
    ),
    "gold in another form": (
        pl.DataFrame(GOOD).with_columns(gold=pl.Series(["(2)", "(2)", "(4)", "(4)"])),
        ["answer equals gold where score says otherwise in 67%", "same form"],
    ),
    "no rows": (pl.DataFrame(GOOD).head(0), ["has no rows"]),
    "lists": (
        pl.DataFrame(GOOD).with_columns(answer=pl.lit([1])),
        ["the column answer holds List"],
    ),
    "list of scores": (without("score").with_columns(score=pl.lit([1])), ["score holds List"]),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_wrong_is_said_with_its_row(name):
    frame, said = REFUSED[name]
    with pytest.raises(ConfigError) as refused:
        tabulate(frame, source="t.csv")
    for words in ("t.csv: ", *said):
        assert words in str(refused.value)


def test_unknown_members_are_named():
    assert tabulate(pl.DataFrame(GOOD), ["big", "small", "huge"]).models == ("small", "big")
    with pytest.raises(ConfigError, match=r"row 1 \(a, small\).*'small': did you mean 'smal'"):
        tabulate(pl.DataFrame(GOOD), ["big", "smal"])


FILES = {
    "t.txt": (b"x", "ends in .parquet, .csv, .jsonl, .ndjson"),
    "empty.csv": (b"", "is empty"),
    "empty.jsonl": (b"\n", "is empty"),
    "t.parquet": (b"prompt,model", "is no table"),
    "bad.csv": (b"prompt_id,prompt\n\xff\xfe\xfa,x\n", "is no table"),
    "bad.jsonl": (b'{"prompt_id": "a"}\n\n[1]\n', "row 2 is no JSON object"),
    "no/t.csv": (None, "cannot be read"),
}


@pytest.mark.parametrize("name", FILES)
def test_files_that_cannot_be_read(tmp_path, name):
    content, said = FILES[name]
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(ConfigError, match=said) as refused:
        load(tmp_path / name)
    assert str(tmp_path / name) in str(refused.value)


def test_save_knows_its_endings(tmp_path):
    with pytest.raises(ConfigError, match="ends in"):
        save(tabulate(pl.DataFrame(GOOD)), tmp_path / "t.xlsx")
    with pytest.raises(ConfigError, match="cannot be written"):
        save(tabulate(pl.DataFrame(GOOD)), tmp_path / "no" / "t.csv")
    save(tabulate(pl.DataFrame(GOOD)), tmp_path / "T.CSV")
    same(load(tmp_path / "T.CSV"), tabulate(pl.DataFrame(GOOD)))


def test_without_polars_the_extra_is_named(tmp_path, monkeypatch):
    (tmp_path / "t.csv").write_text("prompt_id\n")
    monkeypatch.setitem(sys.modules, "polars", None)
    with pytest.raises(ConfigError, match=r"bicameral\[learn\]"):
        load(tmp_path / "t.csv")


def many(count, score):
    rows = [
        {"prompt_id": str(i), "prompt": f"{i}?", "model": m, "score": score(i, m)}
        for i in range(count)
        for m in ("small", "big")
    ]
    return tabulate(pl.DataFrame(rows))


def test_what_nothing_can_be_learned_from():
    check_learnable(many(50, lambda i, m: i % 2))
    check_learnable(many(50, lambda i, m: m == "big"))
    with pytest.raises(ConfigError, match=r"49 different prompts are too few.*1 more"):
        check_learnable(many(49, lambda i, m: i % 2))
    with pytest.raises(ConfigError, match="every recorded answer is right"):
        check_learnable(many(60, lambda i, m: 1))
    with pytest.raises(ConfigError, match="every recorded answer is wrong"):
        check_learnable(many(60, lambda i, m: 0))
