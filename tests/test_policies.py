"""Minds from a config: every policy, its keys, what was learned, checks of answers."""

from __future__ import annotations

import pytest

from bicameral import Brain
from bicameral.brain import load_config
from bicameral.config import POLICIES, parse
from bicameral.errors import ConfigError
from bicameral.left.learn import learn
from tests.left.worlds import world

MEMBERS = """
[models.a]
engine = "scripted"
reply = "x"
confidence = 0.9
price_input = "0.1"
price_output = "0.1"
quality = 0.7

[models.b]
engine = "scripted"
reply = "y"
price_input = "1"
price_output = "1"
quality = 0.9
"""


def config(mind: str, members: str = '["a", "b"]') -> str:
    return f"{MEMBERS}\n[minds.m]\nmembers = {members}\n{mind}\n"


@pytest.mark.parametrize("policy", [p for p in POLICIES if p != "tokens"])
async def test_every_policy_answers(policy):
    members = '["a"]' if policy in ("verify", "samples") else '["a", "b"]'
    async with Brain.open(parse(config(f'policy = "{policy}"', members), "test")) as brain:
        answer = await brain.ask("hello", mind="m")
    assert answer.text
    assert answer.decisions[0].policy == policy


async def test_declared_qualities_and_worth_decide():
    for mind, by in (
        ('policy = "route"', "b"),
        ('policy = "route"\nworth = "0.0000001"', "a"),
        ('policy = "route"\nleast = 0.6', "a"),
        ('policy = "auto"', "b"),
        ('policy = "route"\nmost = "0.0001"', "a"),
    ):
        async with Brain.open(parse(config(mind), "test")) as brain:
            assert (await brain.ask("hello", mind="m")).by == by, mind


async def test_a_check_makes_a_cascade_go_on():
    mind = 'policy = "cascade"\nworth = "1"\n[minds.m.check]\npattern = "^y$"'
    async with Brain.open(parse(config(mind), "test")) as brain:
        answer = await brain.ask("hello", mind="m", max_tokens=5)
    assert answer.text == "y"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("learned")
    members = {"a": (0.6, 0.7, 0.6), "b": (0.7, 0.6, 0.7)}
    learn(world(members, 120, cost=[0.001, 0.002])).save(made / "learned.npz")
    return made


@pytest.mark.parametrize("policy", ["route", "cascade", "vote", "auto", "select"])
async def test_a_learned_file_is_found_beside_the_config(folder, policy):
    path = folder / "bicameral.toml"
    path.write_text(config(f'policy = "{policy}"\nlearned = "learned.npz"'))
    async with Brain.open(load_config(path)) as brain:
        answer = await brain.ask("solve the equation", mind="m")
    decision = answer.decisions[0]
    assert len(decision.learned) == 12
    assert {"a", "b"} <= {c.model for c in decision.considered if c.quality is not None}


@pytest.mark.parametrize(
    ("mind", "message"),
    [
        ('policy = "vote"\njudge = "a"', "judge: is for the policy fuse or select or verify only"),
        ('policy = "fuse"\nworth = "1"', "worth: is for the policy"),
        ('policy = "route"\nworth = "much"', "worth: 'much' is no price"),
        ('policy = "route"\nworth = "1"\nleast = 0.5', "worth and least exclude each other"),
        ('policy = "route"\nleast = 2', "least"),
        ('policy = "samples"', "samples is over one member"),
        ('policy = "vote"\n[minds.m.check]\nseconds = 1', "give one of pattern, json and command"),
        ('policy = "auto"\nlearned = "nothing.npz"', "bicameral learn"),
        ('policy = "tokens"', 'engine = "llama_cpp"'),
        ('policy = "guess"', "policy"),
    ],
)
async def test_what_cannot_be_is_refused_by_table_and_key(mind, message, tmp_path):
    path = tmp_path / "bicameral.toml"
    path.write_text(config(mind))
    with pytest.raises(ConfigError, match=r"\[minds\.m") as refused:
        async with Brain.open(load_config(path)):
            pass
    assert message in str(refused.value)
    assert str(path) in str(refused.value)
