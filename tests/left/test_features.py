"""Prompts as numbers: every kind of text gives some, none takes for ever."""

from __future__ import annotations

import logging
import subprocess
import sys

import numpy as np
import pytest

from bicameral.left import features
from bicameral.left.features import Features
from bicameral.left.fit import fit_features
from tests.left.school import school


@pytest.fixture(scope="module")
def look() -> Features:
    return fit_features(
        [*school(150).prompts, *["今天天气怎么样", "天气很好我们走吧", "今天走吧"] * 3]
    )


@pytest.mark.parametrize(
    "text",
    ["", " ", "\0\n", "\ud800", "😀" * 9, "add apples", "天气", "a" * 100_000, "x y " * 50_000],
)
def test_every_text_has_finite_features(look, text):
    x = look([text])
    assert x.shape == (1, look.size)
    assert x.dtype == np.float32
    assert np.isfinite(x).all()
    assert np.abs(x).max() <= 1


def test_chinese_is_told_apart_without_spaces(look):
    words = look.project.shape[1]
    weather, again, sums = look(["天气怎么样呢", "今天的天气很好", "subtract twelve apples"])[
        :, :words
    ]
    assert weather @ again > 0.3
    assert abs(weather @ sums) < 0.1


def test_unknown_words_stay_near_nothing(look):
    words = look.project.shape[1]
    known, unknown = look(["add apples subtract total", "qwrtz plmkn bvcxy"])[:, :words]
    assert known @ known > 0.5
    assert unknown @ unknown == 0


def test_a_long_text_is_seen_at_both_ends():
    text = features.shortened("start " + "middle " * 5000 + "end")
    assert text.startswith("start")
    assert text.endswith("end")
    assert len(text) < 3100


def test_grams_count_words_and_pairs():
    _, times = features.grams(features.split("two owls, Two owls"))
    assert sorted(times) == [1, 1, 1, 2, 2, 2]
    assert features.grams(["1984"])[0] == features.grams(["2026"])[0]
    assert len(features.grams([])[0]) == 0


def test_packed_and_unpacked_it_sees_the_same(look):
    again = Features.unpack(look.pack())
    assert np.array_equal(again(["add apples", "天气"]), look(["add apples", "天气"]))


def test_texts_without_a_common_word_can_be_fitted():
    look = fit_features(["one", "two", "three"])
    assert look.project.shape[1] == 0
    assert np.isfinite(look(["one", "four"])).all()


def test_loading_the_static_embedding_leaves_the_log_alone():
    code = (
        "import logging; from bicameral.left import features; features._static();"
        "print(logging.root.handlers, logging.root.level)"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.split() == ["[]", str(logging.WARNING)]
