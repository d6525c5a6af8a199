"""A new member takes its place from a few probes; the others stay what they were."""

from __future__ import annotations

import numpy as np
import pytest

from bicameral.errors import ConfigError
from bicameral.evals.replay import replay
from bicameral.left.calibrate import brier
from bicameral.left.fit import fit_scores
from bicameral.left.learn import learn
from bicameral.left.learned import Learned
from bicameral.left.place import place, placed, probes
from bicameral.left.scores import Scores
from bicameral.types import Card, Request
from tests.left.school import SKILL, WORDS, prompt, school
from tests.left.worlds import world


@pytest.fixture(scope="module")
def scores() -> Scores:
    return fit_scores(school())


def probed(member: int, count: int, seed: int) -> tuple[list[str], np.ndarray]:
    """Fresh prompts and how a twin of `member` does on them."""
    rng = np.random.default_rng(seed)
    kinds = [list(WORDS)[i] for i in rng.integers(0, 3, count)]
    chance = np.array([SKILL[kind][member] for kind in kinds])
    return [prompt(kind, rng) for kind in kinds], (rng.random(count) < chance).astype(float)


@pytest.mark.parametrize("member", [0, 1])
def test_a_twin_lands_beside_its_twin(scores, member):
    wider = place(scores, "twin", *probed(member, 150, 7))
    assert wider.models == ("a", "b", "c", "twin")
    fresh = [prompt(kind, np.random.default_rng(3)) for kind in WORDS]
    quality = wider.predict(wider.look(fresh))[0]
    assert np.abs(quality[:, 3] - quality[:, member]).mean() < 0.15
    assert quality[:, 3].argmax() == quality[:, member].argmax()


def test_the_others_stay_what_they_were(scores):
    wider = place(scores, "new", *probed(0, 60, 1))
    x = scores.look([prompt("law", np.random.default_rng(2))])
    for before, after in zip(scores.predict(x), wider.predict(x), strict=True):
        assert np.array_equal(before, after[..., : before.shape[-1]], equal_nan=True)
    assert wider.topics(x) == pytest.approx(scores.topics(x))


def test_a_member_that_is_always_wrong_is_expected_to_be(scores):
    prompts, _ = probed(0, 100, 1)
    wider = place(scores, "wrong", prompts, [0.0] * 100)
    assert wider.base[3] == pytest.approx(0, abs=0.02)
    assert wider.predict(wider.look(prompts))[0][:, 3].max() < 0.2


def test_cost_and_seconds_are_its_own(scores):
    prompts, score = probed(2, 40, 1)
    wider = place(scores, "new", prompts, score, [0.5] * 40, [9.0] * 40)
    guess = wider(prompt("sums", np.random.default_rng(5)))
    assert guess.cost[3] == pytest.approx(0.5, rel=0.3)
    assert guess.seconds[3] == pytest.approx(9, rel=0.1)
    bare = place(scores, "new", prompts, score)
    assert np.isnan(bare("a prompt").cost[3])


def test_a_placed_member_can_be_packed(scores):
    wider = place(scores, "new", *probed(0, 60, 1))
    x = wider.look(["add subtract apples", "nothing of the kind"])
    assert np.array_equal(Scores.unpack(wider.pack()).predict(x)[0], wider.predict(x)[0])


def test_too_few_probes_and_known_names_are_refused(scores):
    with pytest.raises(ConfigError, match="19 probes"):
        place(scores, "new", *probed(0, 19, 1))
    with pytest.raises(ConfigError, match="'a' has outcomes"):
        place(scores, "a", *probed(0, 40, 1))


def test_probes_come_from_every_category_whatever_the_order():
    whole = school(120)
    chosen = probes(whole, 30)
    kinds = [whole.categories[whole.ids.index(id)] for id in chosen]
    assert {kind: kinds.count(kind) for kind in WORDS} == dict.fromkeys(WORDS, 10)
    assert probes(whole.rows(range(119, -1, -1)), 30) == chosen
    assert len(probes(whole, 1000)) == 120


# --- in a learned file -------------------------------------------------------------------------

KNOWN = {"a": (0.9, 0.4, 0.6), "b": (0.4, 0.9, 0.6), "c": (0.6, 0.6, 0.9)}
NEW = {"new": (0.95, 0.3, 0.5)}


@pytest.fixture(scope="module")
def learned() -> Learned:
    return learn(world(KNOWN, 300, cost=[0.001, 0.001, 0.002]))


@pytest.fixture(scope="module")
def wider(learned) -> Learned:
    return placed(learned, world(NEW, 150, seed=1, cost=[0.004]))


def estimates(learned: Learned, names, prompts):
    told, cards = learned.estimator(), [Card(name=name, engine="scripted") for name in names]
    return [told.estimate(Request.ask(text), cards) for text in prompts]


def test_the_new_ones_estimates_beat_its_prior_on_prompts_it_was_not_placed_by(wider):
    fresh = world(NEW, 300, seed=2)
    quality = np.array([e["new"].quality for e in estimates(wider, NEW, fresh.prompts)])
    score = fresh.score[:, 0]
    told = brier(quality, score)
    assert told < brier(np.full(300, 0.5), score) - 0.05  # what is declared of it by default
    assert told < brier(np.full(300, score.mean()), score) - 0.03  # even if its rate were known


def test_the_estimates_of_those_known_before_are_the_same(learned, wider):
    prompts = world(KNOWN, 40, seed=3).prompts
    before, after = estimates(learned, KNOWN, prompts), estimates(wider, [*KNOWN, "new"], prompts)
    for old, now in zip(before, after, strict=True):
        assert {name: now[name] for name in old} == old
        assert set(now) - set(old) == {"new"}
    assert wider.members[:-1] == learned.members
    assert wider.arms == learned.arms
    assert wider.digest != learned.digest


def test_it_is_told_as_a_member_and_survives_the_file(wider, tmp_path):
    new = wider.members[-1]
    assert (new.name, new.outcomes, new.seconds) == ("new", 150, None)
    assert new.cost == pytest.approx(0.004)
    assert new.quality == pytest.approx(np.mean(NEW["new"]), abs=0.1)
    wider.save(tmp_path / "wider.npz")
    assert Learned.load(tmp_path / "wider.npz").digest == wider.digest


@pytest.mark.parametrize("policy", ["route", "auto", "vote", "cascade"])
def test_every_policy_takes_a_placed_member(wider, policy):
    fresh = world(KNOWN | NEW, 60, seed=4, cost=[0.001, 0.001, 0.002, 0.004])
    reached = replay(fresh, wider.policy(policy), wider.estimator())
    assert reached.quality.mean() > 0.6


def test_gaps_in_its_costs_are_filled(learned):
    probed = world(NEW, 60, seed=1, cost=[0.004])
    probed.cost[:30] = np.nan
    (told,) = estimates(placed(learned, probed), NEW, probed.prompts[:1])
    assert told["new"].cost == pytest.approx(4e6, rel=0.2)


def test_a_table_of_several_or_of_known_members_adds_nobody(learned):
    with pytest.raises(ConfigError, match="of it alone, not of a, b"):
        placed(learned, world(KNOWN, 60).only(["a", "b"]))
    with pytest.raises(ConfigError, match="'a' has outcomes already"):
        placed(learned, world(KNOWN, 60).only(["a"]))
    with pytest.raises(ConfigError, match="19 probes place no member"):
        placed(learned, world(NEW, 19))
