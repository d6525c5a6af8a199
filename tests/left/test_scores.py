"""Learned estimates: they find who is good at what, admit what they do not know, and travel."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from bicameral.errors import ConfigError
from bicameral.left import features
from bicameral.left.fit import calibration, fit_scores, out_of_fold
from bicameral.left.scores import Scores
from tests.left.school import prompt, school


@pytest.fixture(scope="module")
def scores() -> Scores:
    return fit_scores(school())


def asked(kind: str) -> str:
    return prompt(kind, np.random.default_rng(99))


def test_who_is_good_at_what(scores):
    sums, birds = scores(asked("sums")), scores(asked("birds"))
    assert scores.models[sums.quality.argmax()] == "a"
    assert scores.models[birds.quality.argmax()] == "b"
    assert sums.quality[0] > 0.8
    assert birds.quality[0] < 0.4


def test_topics_come_from_the_categories(scores):
    assert scores.names == ("birds", "law", "sums")
    assert scores.names[scores(asked("law")).topics.argmax()] == "law"
    assert scores(asked("law")).topics.sum() == pytest.approx(1)


@pytest.mark.parametrize("text", ["", "qzxv wkjp fmrt bdlg", "今天天气很好，我们去公园吧。"])
def test_far_from_everything_seen_it_is_the_base_rate(scores, text):
    guess = scores(text)
    assert guess.known == 0
    assert guess.quality == pytest.approx(scores.base)
    assert guess.cost == pytest.approx(scores.free[0])


def test_prompts_like_the_table_are_known(scores):
    fresh = [prompt("sums", np.random.default_rng(i)) for i in range(1000, 1020)]
    assert np.median(scores.predict(scores.look(fresh))[1]) > 0.9


def test_cost_and_seconds(scores):
    guess = scores(asked("law"))
    assert guess.cost == pytest.approx([0.001, 0.001, 0.01], rel=0.3)
    assert guess.seconds[[0, 2]] == pytest.approx([2, 2], rel=0.01)
    assert np.isnan(guess.seconds[1])


def test_packed_and_unpacked_it_says_the_same(scores):
    packed = scores.pack()
    arrays = {k: v for k, v in packed.items() if isinstance(v, np.ndarray)}
    rest = json.loads(json.dumps({k: v for k, v in packed.items() if k not in arrays}))
    again = Scores.unpack({**arrays, **rest})
    x = scores.look([asked("law"), asked("sums"), "something else"])
    for ours, theirs in zip(scores.predict(x), again.predict(again.look(["x"])[:0]), strict=True):
        assert theirs.shape == (0, *ours.shape[1:])
    for ours, theirs in zip(scores.predict(x), again.predict(x), strict=True):
        assert np.array_equal(ours, theirs, equal_nan=True)
    assert np.array_equal(again.look([asked("law")]), scores.look([asked("law")]))


def test_the_same_outcomes_teach_the_same(scores):
    x = scores.look([asked("law"), asked("sums")])
    again = fit_scores(school())
    assert np.array_equal(
        again.predict(again.look([asked("law"), asked("sums")]))[0], scores.predict(x)[0]
    )


def test_without_categories_topics_are_clusters():
    scores = fit_scores(school(named=False))
    assert all(name.startswith("cluster") for name in scores.names)
    assert scores.models[scores(asked("sums")).quality.argmax()] == "a"


def test_many_categories_share_topics():
    whole = school()
    kinds = tuple(f"{kind} {i % 20}" for i, kind in enumerate(whole.categories))
    scores = fit_scores(replace(whole, categories=kinds))
    assert len(scores.names) == 32
    assert scores(asked("sums")).topics.sum() == pytest.approx(1)
    assert scores.models[scores(asked("sums")).quality.argmax()] == "a"


def test_held_out_estimates_are_good_and_calibrated():
    whole = school(600)
    quality, topics, known = out_of_fold(whole)
    assert quality.shape == whole.score.shape
    assert topics.shape == (600, 3)
    assert known.mean() > 0.8
    for row in calibration(whole)[:2]:
        assert row.auc > 0.7
        assert row.brier < row.plain - 0.02
        assert row.ece < 0.1


def test_held_out_estimates_have_not_seen_their_fold():
    """Labels of pure chance cannot be predicted; a leak would show."""
    whole = school(600)
    chance = np.random.default_rng(5).integers(0, 2, whole.score.shape).astype(float)
    rows = calibration(replace(whole, score=chance))
    assert np.mean([row.auc for row in rows]) < 0.58


def test_gaps_are_no_failures():
    whole = school(400)
    score = whole.score.copy()
    score[np.random.default_rng(1).random(score.shape) < 0.1] = np.nan
    score[100:, 1] = np.nan  # b was asked 100 prompts only
    score[:, 2] = np.nan  # c none
    scores = fit_scores(replace(whole, score=score))
    assert scores(asked("birds")).quality[1] > scores(asked("sums")).quality[1] + 0.2
    assert scores(asked("sums")).quality[0] > 0.75
    assert scores(asked("sums")).quality[2] == pytest.approx(0.5)


@pytest.mark.parametrize("count", [1, 2, 7])
def test_a_handful_of_prompts_teach_the_base_rate(count):
    whole = school(count)
    scores = fit_scores(whole)
    quality = scores(asked("law")).quality
    assert ((quality > 0) & (quality < 1)).all()
    assert scores.base == pytest.approx(whole.score.mean(axis=0))


def test_one_class_only():
    whole = school(100)
    scores = fit_scores(replace(whole, score=np.ones_like(whole.score)))
    assert scores(asked("law")).quality == pytest.approx([1, 1, 1], abs=0.05)


def test_static_vectors_that_are_missing_are_asked_for(scores, monkeypatch):
    packed = scores.pack() | {"features.static": True}
    monkeypatch.setitem(__import__("sys").modules, "wordllama", None)
    features._static.cache_clear()
    with pytest.raises(ConfigError, match="embed-fast"):
        Scores.unpack(packed)
    features._static.cache_clear()
