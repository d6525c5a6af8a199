"""The benchmark of reading answers, on a table of its own."""

from pathlib import Path

import polars as pl
import pytest

BENCH = Path(__file__).resolve().parents[2] / "bench"
PROMPT = "Which?\nOptions:\nA. one\nB. two\nC. three"


@pytest.fixture
def bench(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(BENCH)
    monkeypatch.setenv("BICAMERAL_DATA", str(tmp_path))
    import left_answers

    return left_answers


@pytest.fixture
def rows(tmp_path):
    matrix, texts = tmp_path / "mmlupro_matrix", tmp_path / "mmlupro_responses"
    matrix.mkdir()
    texts.mkdir()
    prompts = [{"question_id": i, "question": f"Which? {i}", "prompt": PROMPT} for i in range(8)]
    pl.DataFrame(prompts).write_parquet(matrix / "prompts.parquet")
    said = ["The closest is option B.", "The answer is (A).", "None of them."]
    rows = [
        {"question_id": i, "model": model, "pred": pred, "correct": correct, "answer_key": "B"}
        for i in range(8)
        for model, pred, correct in [("m", None, 0), ("silent", "B", 1)]
    ]
    frame = pl.DataFrame(rows, schema_overrides={"correct": pl.Int8})
    frame.write_parquet(matrix / "outcomes.parquet")
    heard = [{"question_id": i, "model": "m", "response": said[i % 3]} for i in range(8)]
    pl.DataFrame(heard).write_parquet(texts / "responses.parquet")
    return frame


def test_letters_are_reread_where_there_is_a_text(bench, rows):
    again = bench.reread(rows)
    assert again.columns == rows.columns
    assert again["correct"].dtype == pl.Int8
    mine = again.filter(pl.col("model") == "m")
    assert mine["pred"].to_list() == ["B", "A", None, "B", "A", None, "B", "A"]
    assert mine["correct"].to_list() == [1, 0, 0, 1, 0, 0, 1, 0]
    silent = again.filter(pl.col("model") == "silent")
    assert silent.equals(rows.filter(pl.col("model") == "silent"))


def test_the_table_counts_the_half_that_is_reported(bench, rows, capsys):
    bench.letters()
    half = [i for i in range(8) if bench.reported(f"Which? {i}")]
    right = sum(i % 3 == 0 for i in half)
    lines = capsys.readouterr().out.splitlines()
    cells = [cell.strip() for cell in next(x for x in lines if x.startswith("| m ")).split("|")]
    assert cells[2] == str(len(half))
    assert cells[-3:-1] == ["0.0 %", f"{100 * right / len(half):.1f} %"]


def test_without_data_it_says_where_it_looked(bench, tmp_path):
    with pytest.raises(bench.Missing, match="BICAMERAL_DATA"):
        bench.letters()
