"""Samples of one member: stopped when the outcome is certain, agreement is the quality."""

from __future__ import annotations

import itertools

import pytest

from bicameral.errors import Broken
from bicameral.left.mind import Mind
from bicameral.left.samples import Samples
from bicameral.model import collect
from bicameral.types import Request

from .cases import Saying

SUM = Request.ask("How many are 3 and 4?", id="r1")


def saying(*replies: str) -> Saying:
    said = itertools.cycle(replies)
    return Saying("a", lambda _: next(said))


async def ask(member: Saying, count: int = 5):
    return await collect(Mind("m", Samples(count), [member]), SUM)


async def test_it_stops_when_the_first_majority_agrees():
    member = saying("The answer is 7", "7", "7.0")
    answer = await ask(member)
    assert answer.text == "The answer is 7"
    assert len(answer.calls) == 3
    assert answer.decisions[0].quality == pytest.approx(4 / 5)
    assert [a.share for a in answer.decisions[0].asked] == pytest.approx([1 / 3] * 3)


async def test_the_most_frequent_answer_counts():
    answer = await ask(saying("12", "7", "8", "7", "7"))
    assert (answer.text, len(answer.calls)) == ("7", 5)
    assert answer.decisions[0].quality == pytest.approx(4 / 7)
    assert answer.why == "samples of m; 3 of 5 samples say so"


async def test_abstentions_and_failures_agree_with_nobody():
    answer = await ask(saying("I don't know", "I don't know", "I don't know", "I don't know", "7"))
    assert answer.text == "7"

    def dies(_):
        raise Broken("a", "gone")

    dead = await collect(Mind("m", Samples(3), [Saying("a", dies)]), SUM)
    assert isinstance(dead.error, Broken)
    assert len(dead.calls) == 0

    unread = await ask(saying("I don't know"))
    assert (unread.text, unread.decisions[0].quality) == ("I don't know", None)


async def test_samples_differ_by_seed_and_temperature():
    member = saying("7", "8", "9")
    await ask(member, 3)
    assert {r.sampling.temperature for r in member.seen} == {0.8}
    assert len(member.seen) == 3


async def test_one_sample_is_the_member():
    answer = await ask(saying("7"), 1)
    assert (answer.text, len(answer.calls)) == ("7", 1)
