"""Learning end to end on made-up worlds: what pays is found, what does not is declined."""

from __future__ import annotations

import numpy as np
import pytest

from bicameral.errors import ConfigError
from bicameral.evals.replay import replay
from bicameral.left.learn import learn
from bicameral.left.learned import Learned
from bicameral.left.policy import Estimate
from bicameral.left.worth import Worth
from bicameral.types import Card, Request
from tests.left.worlds import world

ALIKE = {"a": (0.75, 0.6, 0.7), "b": (0.6, 0.75, 0.7), "c": (0.7, 0.7, 0.6)}
DOMINATED = {"star": (0.97, 0.97, 0.97), "b": (0.3, 0.3, 0.3), "c": (0.3, 0.3, 0.3)}


@pytest.fixture(scope="module")
def alike():
    return learn(world(ALIKE, 900, cost=[0.001, 0.001, 0.002]))


@pytest.fixture(scope="module")
def dominated():
    return learn(world(DOMINATED, 900, cost=[0.001, 0.001, 0.001]))


def test_members_of_like_strength_are_combined_and_beat_the_best(alike):
    assert any(arm.admitted and arm.low > 0 for arm in alike.arms)
    fresh = world(ALIKE, 900, seed=9, cost=[0.001, 0.001, 0.002])
    best = fresh.score.mean(axis=0).max()
    for name in ("vote", "auto"):
        reached = replay(fresh, alike.policy(name), alike.estimator())
        assert reached.quality.mean() > best + 0.03


def test_where_one_dominates_it_declines_to_combine(dominated):
    assert not any(arm.admitted for arm in dominated.arms)
    fresh = world(DOMINATED, 300, seed=9, cost=[0.001, 0.001, 0.001])
    reached = replay(fresh, dominated.policy("auto"), dominated.estimator())
    assert set(reached.by) == {"star"}
    assert (reached.calls == 1).all()


def test_routing_goes_by_topic(alike):
    fresh = world(ALIKE, 600, seed=9, cost=[0.001, 0.001, 0.002])
    reached = replay(fresh, alike.policy("route"), alike.estimator())
    algebra = np.array([c == "algebra" for c in fresh.categories])
    law = np.array([c == "law" for c in fresh.categories])
    assert (reached.by[algebra] == "a").mean() > 0.6
    assert (reached.by[law] == "b").mean() > 0.6


def test_a_thrifty_auto_spends_less_than_a_lavish_one(alike):
    fresh = world(ALIKE, 300, seed=9, cost=[0.001, 0.001, 0.002])
    spent = [
        replay(fresh, alike.policy("auto", Worth(worth=w)), alike.estimator()).cost.mean()
        for w in (1_000_000, 1_000_000_000)
    ]
    assert spent[0] < spent[1]


def test_a_file_holds_all_of_it(alike, tmp_path):
    alike.save(tmp_path / "learned.npz")
    again = Learned.load(tmp_path / "learned.npz")
    assert again.digest == alike.digest
    request = Request.ask("solve the equation of the polynomial")
    cards = [Card(name=n, engine="x") for n in "abc"]
    was = alike.estimator().estimate(request, cards)
    now = again.estimator().estimate(request, cards)
    assert {n: e.quality for n, e in now.items()} == pytest.approx(
        {n: e.quality for n, e in was.items()}, abs=0.01
    )
    assert again.arms == alike.arms


def test_what_is_no_learned_file_is_refused(tmp_path):
    (tmp_path / "x.npz").write_bytes(b"PK\x03\x04 not really")
    (tmp_path / "y.npz").write_text("hello")
    for name in ("x.npz", "y.npz", "missing.npz"):
        with pytest.raises(ConfigError, match="learn"):
            Learned.load(tmp_path / name)


def test_a_member_without_outcomes_has_its_declared_quality(alike):
    cards = [Card(name="a", engine="x"), Card(name="new", engine="x")]
    found = alike.estimator({"new": 0.9}).estimate(Request.ask("a question"), cards)
    assert found["new"] == Estimate(quality=0.9)
    assert alike.estimator().estimate(Request.ask("a question"), cards)["new"].quality == 0.5


def test_too_little_or_one_sided_outcomes_are_refused():
    with pytest.raises(ConfigError, match="too few"):
        learn(world(ALIKE, 20))
    with pytest.raises(ConfigError, match="every recorded answer is right"):
        learn(world({"a": (1, 1, 1), "b": (1, 1, 1)}, 60))


def test_one_member_is_that_member():
    alone = learn(world({"a": (0.6, 0.6, 0.6)}, 100))
    fresh = world({"a": (0.6, 0.6, 0.6)}, 50, seed=2)
    for name in ("route", "cascade", "vote", "auto"):
        reached = replay(fresh, alone.policy(name), alone.estimator())
        assert (reached.by == "a").all()


def test_the_same_table_and_seed_teach_the_same():
    table = world(ALIKE, 120, cost=[0.001, 0.001, 0.002])
    assert learn(table).digest == learn(table).digest
