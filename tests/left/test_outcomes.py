"""Outcomes by prompt and member: choosing rows and members, and folds by wording."""

from __future__ import annotations

import numpy as np
import pytest

from bicameral.errors import ConfigError
from bicameral.left.outcomes import fold
from bicameral.left.table import tabulate


def outcomes():
    import polars as pl

    rows = [
        {"prompt_id": f"q{i}", "prompt": f"What is {i} + 1?", "model": m, "score": s, "answer": a}
        for i in range(4)
        for m, s, a in (("small", i % 2, "x"), ("big", 1, str(i + 1)))
    ]
    return tabulate(pl.DataFrame(rows))


def test_rows_by_index_and_by_mask():
    table = outcomes()
    assert table.rows([2, 0]).ids == ("q2", "q0")
    some = table.rows(np.array([False, True, False, True]))
    assert some.ids == ("q1", "q3")
    assert some.score.tolist() == [[1, 1], [1, 1]]
    assert some.answer.tolist() == [["x", "2"], ["x", "4"]]
    assert some.gold == (None, None)


def test_only_reorders_members():
    table = outcomes().only(["big", "small"])
    assert table.models == ("big", "small")
    assert table.score[0].tolist() == [1, 0]
    with pytest.raises(ConfigError, match="no outcomes of 'bigg': did you mean 'big'"):
        table.only(["bigg"])


def test_equal_wording_has_an_equal_fold():
    assert fold("What is  it?\n") == fold("what IS it?")
    table = outcomes()
    assert table.folds(3, 7).tolist() == [fold(prompt, 3, 7) for prompt in table.prompts]


def test_the_fold_is_the_same_on_every_machine():
    # The first 16 hex digits of `printf '0:what is it?' | sha256sum` and so on, modulo 5.
    assert [fold("what is it?", 5, seed) for seed in range(4)] == [0, 2, 1, 4]


def test_folds_are_about_even():
    counts = np.bincount([fold(f"question {i}") for i in range(2000)])
    assert len(counts) == 5
    assert counts.min() > 330
