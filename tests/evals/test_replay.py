"""Replay agrees with a live run of the same mind, and grades what it says."""

from __future__ import annotations

import asyncio
import dataclasses
import math
from contextlib import AsyncExitStack

import numpy as np
import polars as pl
import pytest

from bicameral import build
from bicameral.errors import ConfigError
from bicameral.evals.clock import Virtual
from bicameral.evals.recorded import Playback, Tape
from bicameral.evals.replay import Remembered, crossval, graded, replay
from bicameral.ledger.meter import Meter
from bicameral.left.cascade import Cascade
from bicameral.left.fuse import Fuse
from bicameral.left.mind import Mind
from bicameral.left.route import Route
from bicameral.left.table import tabulate
from bicameral.left.vote import Vote
from bicameral.model import collect
from bicameral.types import Request, Sampling

from .tables import Fixed, table

SURE = Fixed({"a": 0.6, "b": 0.7, "c": 0.8})

# --- against a live run ---

QUESTIONS = ["one", "two", "three", "four"]
REPLIES = {
    "a": ["Paris", "Rome is it", "Oslo", "Bonn"],
    "b": ["London", "Rome is it", "Oslo", "Bern"],
    "c": ["London", "Kyiv", "Oslo", "Lima"],
}
OPTIONS = {
    "a": {"delay": 0.5, "price_input": "1", "price_output": "2", "confidence": 0.2},
    "b": {"delay": 1.0, "price_input": "2", "price_output": "4", "confidence": 0.8},
    "c": {"delay": 0.25, "price_input": "5", "price_output": "9", "confidence": 0.5},
}


async def _live(make):
    """The mind's answers, and each member's alone, with seconds as the loop counts them."""
    loop = asyncio.get_running_loop()

    async def timed(model, number):
        began = loop.time()
        ask = Request.ask(QUESTIONS[number], id=f"p{number}", sampling=Sampling(logprobs=True))
        plain = ask.but(sampling=Sampling())
        answer = await collect(model, ask if model.card.engine == "scripted" else plain)
        return answer, loop.time() - began

    async with AsyncExitStack() as stack:
        leaves = [await stack.enter_async_context(_scripted(name)) for name in OPTIONS]
        members = [Meter(leaf, lambda call, booking: None) for leaf in leaves]
        mind = Mind("replay", make(), members, estimator=SURE)
        numbers = range(len(QUESTIONS))
        alone = {m.card.name: [await timed(m, i) for i in numbers] for m in members}
        return [await timed(mind, i) for i in numbers], alone


def _scripted(name):
    replies = dict(zip(QUESTIONS, REPLIES[name], strict=True))
    member = {"engine": "scripted", "replies": replies, **OPTIONS[name]}
    return build.member(name, member, "test")


def _recorded(alone):
    rows = [
        {
            "prompt_id": f"p{number}",
            "prompt": QUESTIONS[number],
            "model": name,
            "score": float(answer.text == REPLIES["c"][number]),
            "cost": answer.cost / 1e9,
            "seconds": seconds,
            "tokens_in": answer.usage.prompt_tokens,
            "tokens_out": answer.usage.completion_tokens,
            "answer": answer.text,
            "confidence": OPTIONS[name]["confidence"],
        }
        for name, answers in alone.items()
        for number, (answer, seconds) in enumerate(answers)
    ]
    return tabulate(pl.DataFrame(rows))


def _pattern(asked):
    """Which keys are equal, whatever they are."""
    keys = [a.key for a in asked]
    return [keys.index(key) for key in keys]


POLICIES = {
    "route": Route,
    "vote": Vote,
    "vote in turn": lambda: Vote(order=("b", "c", "a"), bars=(0.75, 0.7), at_once=1),
    "vote by twos": lambda: Vote(at_once=2),
    "cascade": lambda: Cascade(0.7),
    "long cascade": lambda: Cascade(0.9),
}


@pytest.mark.parametrize("name", POLICIES)
def test_replay_agrees_exactly_with_the_live_mind(name):
    make = POLICIES[name]
    with asyncio.Runner(loop_factory=Virtual) as runner:
        live, alone = runner.run(_live(make))
    outcomes = _recorded(alone)
    again = replay(outcomes, make(), SURE)
    assert again.by.tolist() == [answer.by for answer, _ in live]
    assert again.cost.tolist() == [answer.cost / 1e9 for answer, _ in live]
    assert again.calls.tolist() == [len(answer.calls) for answer, _ in live]
    assert again.seconds == pytest.approx([seconds for _, seconds in live])
    assert again.quality.tolist() == [
        float(answer.text == REPLIES["c"][i]) for i, (answer, _) in enumerate(live)
    ]

    tape = Tape(outcomes)
    mind = Mind("replay", make(), tape.members(), estimator=SURE, reader=Playback(tape))
    with asyncio.Runner(loop_factory=Virtual) as runner:
        for row, (answer, _) in enumerate(live):
            replayed = runner.run(collect(mind, tape.request(row)))
            (then,), (now,) = answer.decisions, replayed.decisions
            assert replayed.text == answer.text
            assert replayed.usage.total_tokens == answer.usage.total_tokens
            assert (now.turns, now.by, now.why) == (then.turns, then.by, then.why)
            assert (now.quality, now.cost) == (then.quality, then.cost)
            assert _pattern(now.asked) == _pattern(then.asked)
            assert [a.share for a in now.asked] == [a.share for a in then.asked]
            assert again.expected[row] == pytest.approx(then.quality or math.nan, nan_ok=True)


# --- what it says of each prompt ---


def test_members_asked_together_take_as_long_as_the_slowest():
    outcomes = table("x: x x y", "x: y x x")
    together = replay(outcomes, Vote(), SURE)
    assert together.seconds.tolist() == [3, 3]
    assert together.calls.tolist() == [3, 3]
    assert together.cost == pytest.approx([0.006, 0.006])
    in_turn = replay(outcomes, Vote(order=("a", "b", "c"), at_once=1), SURE)
    assert in_turn.seconds.tolist() == [3, 6]
    assert in_turn.calls.tolist() == [2, 3]
    assert in_turn.cost == pytest.approx([0.003, 0.006])


def test_a_missing_outcome_is_a_free_failure():
    outcomes = table("x: x y ?", "x: ? x ?", "x: y y x")
    routed = replay(outcomes, Route(), SURE)
    assert routed.by.tolist() == ["b", "b", "c"]
    assert routed.quality.tolist() == [0, 1, 1]
    assert routed.cost == pytest.approx([0.002, 0.002, 0.003])
    assert routed.seconds.tolist() == [2, 2, 3]
    assert routed.calls.tolist() == [1, 1, 1]


def test_a_prompt_nobody_has_an_outcome_for_is_wrong_and_free():
    outcomes = table("x: x y ?", "x: x y x")
    alone = replay(outcomes, Vote(), SURE, members=["c"])
    assert alone.by.tolist() == ["", "c"]
    assert alone.quality.tolist() == [0, 1]
    assert alone.cost == pytest.approx([0, 0.003])
    assert alone.calls.tolist() == [0, 1]


def test_an_unparsable_answer_abstains():
    outcomes = table("x: - - x", "x: - - -")
    voted = replay(outcomes, Vote(), SURE)
    assert voted.by.tolist() == ["c", "c"]
    assert voted.quality.tolist() == [1, 0]


def test_without_recorded_answers_each_is_its_own():
    outcomes = table("x: - - -", score=0.5, gold=False)
    voted = replay(outcomes, Vote(), SURE)
    assert voted.by.tolist() == ["c"]
    assert voted.quality.tolist() == [0.5]


@pytest.mark.parametrize("column", ["cost", "seconds"])
def test_what_is_not_recorded_is_not_made_up(column):
    outcomes = table("x: x x x", **{column: None})
    voted = replay(outcomes, Vote(), SURE)
    assert np.isnan(getattr(voted, column)).all()
    other = "seconds" if column == "cost" else "cost"
    assert not np.isnan(getattr(voted, other)).any()


def test_gold_grades_where_it_can():
    outcomes = table("x: x y -", "x: x ? y")
    unsure = dataclasses.replace(outcomes, score=outcomes.score * 0 + 0.25)
    grades = graded(unsure)
    assert grades[0].tolist() == [1, 0, 0.25]
    assert grades[1, [0, 2]].tolist() == [1, 0]
    assert np.isnan(grades[1, 1])
    assert graded(table("x: x y -", score=0.25, gold=False)).tolist() == [[0.25, 0.25, 0.25]]


def test_the_members_may_be_chosen():
    outcomes = table("x: x y y", "x: y x x")
    assert replay(outcomes, Vote(), SURE, members=["a"]).quality.tolist() == [1, 0]


def test_a_synthesis_cannot_be_replayed():
    with pytest.raises(ConfigError, match="fuse cannot be replayed: c was asked another question"):
        replay(table("x: x y y"), Fuse(), SURE)


def test_an_answer_cannot_be_cut_in_replay():
    with pytest.raises(ConfigError, match="cascade cannot be replayed: a was cut at 4 tokens"):
        replay(table("x: x y y"), Cascade(0.5, try_tokens=4), SURE)
    assert replay(table("x: x y y"), Cascade(0.5, try_tokens=5), SURE).calls.tolist() == [3]


def test_estimates_are_worked_out_once_for_several_policies():
    class Counting(Fixed):
        asked = 0

        def estimate(self, request, cards):
            self.asked += 1
            return super().estimate(request, cards)

    outcomes, counting = table("x: x y y", "x: y x x"), Counting({"a": 0.6, "b": 0.7, "c": 0.8})
    once = Remembered(counting)
    for policy in (Route(), Vote()):
        found, plain = replay(outcomes, policy, once), replay(outcomes, policy, SURE)
        assert found.by.tolist() == plain.by.tolist()
    assert counting.asked == 2
    assert once.digest == counting.digest


# --- cross-validation ---


def test_each_prompt_is_answered_with_what_the_other_folds_taught():
    rows = [f"x: {'x y' if i % 3 else 'y x'}" for i in range(40)]
    outcomes = table(*rows)
    fold = outcomes.folds(4, seed=1)
    seen = []

    def learn(train):
        seen.append(set(train.ids))
        best = int(train.score.mean(axis=0).argmax())
        return Route(), Fixed({"a": float(best == 0), "b": float(best == 1)})

    found = crossval(outcomes, learn, folds=4, seed=1)
    for k in range(4):
        assert seen[k] == {outcomes.ids[i] for i in np.flatnonzero(fold != k)}
        best = outcomes.score[fold != k].mean(axis=0).argmax()
        assert found.by[fold == k].tolist() == ["ab"[best]] * (fold == k).sum()
        assert found.quality[fold == k].tolist() == outcomes.score[fold == k, best].tolist()


def test_too_few_prompts_for_the_folds():
    with pytest.raises(ConfigError, match="2 prompts are too few for 5 folds"):
        crossval(table("x: x y", "x: y x"), lambda train: (Route(), SURE))
