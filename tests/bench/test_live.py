"""The live benchmark itself: questions, checking, arithmetic. No model is asked."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

BENCH = Path(__file__).resolve().parents[2] / "bench"


@pytest.fixture
def asking(monkeypatch):
    if importlib.util.find_spec("reasoning_gym") is None:
        pytest.skip("needs reasoning-gym")
    monkeypatch.syspath_prepend(BENCH)
    import live_questions

    return live_questions


@pytest.fixture
def report(monkeypatch):
    monkeypatch.syspath_prepend(BENCH)
    import live_report

    return live_report


def test_questions_are_fresh(asking):
    fit, test = asking.questions("fit"), asking.questions("test")
    assert fit.keys() == test.keys() == {generator.name for generator in asking.GENERATORS}
    for kind in fit:
        prompts = [question.prompt for question in (*fit[kind], *test[kind])]
        assert len(prompts) == len(set(prompts)) == sum(asking.EACH.values())


def test_questions_are_the_same_every_time(asking):
    assert asking.questions("fit") == asking.questions("fit")


def test_right_is_what_the_generator_says(asking):
    for kind in asking.questions("fit").values():
        for question in kind[:5]:
            assert asking.checked(question, question.entry["answer"])
            assert not asking.checked(question, f"{question.entry['answer']} or 12345")
            assert not asking.checked(question, "")


def test_only_the_files_in_use_are_imported(asking):
    asking.questions("fit")
    assert "reasoning_gym.induction" not in sys.modules


@pytest.mark.parametrize(
    ("text", "final"),
    [
        (" 37", "37"),
        ("12+30=42; 42-5=37. Answer: 37", "37"),
        ("Answer: -2.", "-2"),
        ("Bob hates rain. Answer: Bob-Lee\nQ", "Bob-Lee"),
        ("Answer: 3. Answer: `4`", "4"),
        ("", ""),
    ],
)
def test_final_answer(asking, text, final):
    assert asking.said(text) == final


def test_lines_against_the_best(report):
    scores, seconds = np.array([1.0, 0.0, 1.0, 1.0]), np.array([2.0, 2.0, 2.0, 2.0])
    good, fast = report.Line("good", scores, seconds), report.Line("fast", 1 - scores, seconds / 2)
    assert report.best([fast, good]) is good
    table = list(report.overall([good, fast], good))
    assert table[2].startswith("| good | 75.0 % [")
    assert table[2].endswith("|  |  |")
    assert "| -50.0 [" in table[3]
    assert table[3].endswith("| 50% [50%, 50%] |")


def test_kinds_are_apart(report):
    line = report.Line("one", np.array([1.0, 1.0, 0.0]), np.array([1.0, 3.0, 5.0]))
    rows = list(report.by_kind([line], ["a", "a", "b"]))
    assert rows[2:] == ["| a, 2 | 100 % [100, 100] 2.0 s |", "| b, 1 | 0 % [0, 0] 5.0 s |"]
