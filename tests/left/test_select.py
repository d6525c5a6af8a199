"""Select: one of the answers, word for word; by a judge, else by how likely each is right."""

from __future__ import annotations

import re

import pytest

from bicameral.decision import Asked
from bicameral.errors import Unsupported
from bicameral.left.mind import Mind
from bicameral.left.select import Select
from bicameral.model import collect
from bicameral.types import JsonFormat, Sampling, Tool
from tests.left.cases import HELLO, Saying, case, expect, names


def judging(name: str, likes: str, said: str = "{}") -> Saying:
    """A judge that names the answer which begins with `likes`, by the number it was given."""

    def says(request):
        number = re.search(rf"\[Answer (\d+) \w+\]\n{re.escape(likes)}", request.question)
        return said.format(number[1] if number else "none of them")

    return Saying(name, says)


@pytest.fixture
async def panel(member):
    """Three members, of which two agree."""
    return [
        await member("a", reply="alpha", confidence=0.5),
        await member("b", reply="beta", confidence=0.9),
        await member("c", reply="Beta.", confidence=0.7),
    ]


async def test_without_a_judge_the_answer_most_likely_right(panel):
    asked = HELLO.but(sampling=Sampling(logprobs=True))
    answer = await collect(Mind("m", Select(), panel), asked)
    assert (answer.text, answer.by) == ("beta", "b")
    assert answer.decisions[0].quality == pytest.approx(0.9)
    assert "b is 0.90 likely right" in answer.why


async def test_a_learned_probability_decides(panel):
    learned = Select(posthoc=lambda case: [0.9, 0.2, 0.1][: len(case.asked)])
    answer = await collect(Mind("m", learned, panel), HELLO)
    assert answer.text == "alpha"


@pytest.mark.parametrize("likes", ["alpha", "beta"])
@pytest.mark.parametrize("said", ["{}", "The best is:\n\n{}", "Answer {}."])
async def test_the_judges_pick_counts_whatever_its_place(panel, likes, said):
    for number in range(4):  # other ids, other orders
        judge = judging("judge", likes, said)
        request = HELLO.but(id=f"request-{number}")
        answer = await collect(Mind("m", Select(judge), panel), request)
        assert answer.text == likes
        assert "judge picked" in answer.why
        assert [call.model for call in answer.calls] == ["a", "b", "c", "judge"]


async def test_the_judge_sees_different_answers_without_names(panel):
    judge = judging("judge", "alpha")
    request = HELLO.but(sampling=Sampling(temperature=1.0, stop=("zzz",)))
    await collect(Mind("m", Select(judge), panel), request)
    (seen,) = judge.seen
    assert seen.question.startswith("hello there\n\n")
    assert seen.question.lower().count("beta") == 1
    assert not re.search(r"\bmember|[^\w][bc][^\w]", seen.question)
    assert (seen.sampling.temperature, seen.sampling.stop) == (0.0, ())


async def test_the_judge_is_not_bound_to_the_format_of_the_answers(member):
    members = [await member(n, reply=f'{{"is": {i}}}') for i, n in enumerate("ab")]
    judge = judging("judge", '{"is": 1')
    answer = await collect(Mind("m", Select(judge), members), HELLO.but(format=JsonFormat()))
    assert answer.text == '{"is": 1}'
    assert judge.seen[0].format is None


@pytest.mark.parametrize("said", ["I cannot decide", "1 or 2", "9", "", "Answer 0"])
async def test_a_judge_that_names_none_does_not_count(member, panel, said):
    judge = await member("judge", reply=said or " ")
    answer = await collect(Mind("m", Select(judge), panel), HELLO)
    assert answer.text == "alpha"  # the first of equals
    assert "the judge named none" in answer.why
    assert answer.calls[-1].model == "judge"
    assert answer.calls[-1].error is None  # the call went well, and is booked


async def test_a_dead_judge_does_not_kill_the_answer(member, panel):
    answer = await collect(Mind("m", Select(await member("judge", fail="timeout")), panel), HELLO)
    assert answer.text == "alpha"
    assert answer.error is None


async def test_a_judge_is_not_asked_about_one_answer(member):
    same = [await member("a", reply="yes"), await member("b", reply="Yes.")]
    judge = await member("judge", reply="1")
    answer = await collect(Mind("m", Select(judge), same), HELLO)
    assert (answer.text, judge.leaf.runs) == ("yes", 0)
    lone = [await member("a", reply="yes"), await member("b", fail="broken")]
    assert (await collect(Mind("m", Select(judge), lone), HELLO)).text == "yes"
    assert judge.leaf.runs == 0


async def test_a_judge_may_be_a_member(panel):
    judged = judging("judge", "beta")
    likes = judged.says
    judged.says = lambda request: likes(request) if "[Answer" in request.question else "alpha"
    answer = await collect(Mind("m", Select(judged), [*panel, judged]), HELLO)
    assert answer.text == "beta"
    assert answer.decisions[0].by == "b"
    assert len(judged.seen) == 2


async def test_tools_and_many_are_refused(panel):
    answer = await collect(Mind("m", Select(), panel), HELLO.but(tools=(Tool("f"),)))
    assert isinstance(answer.error, Unsupported)


def test_the_pick_is_seen_in_the_record_without_text():
    estimates = {"a": expect(0.9), "b": expect(0.1)}
    asked = [Asked(model="a", key="1"), Asked(model="b", key="2"), Asked(model="j", key="2")]
    judged = case(estimates, *asked)
    policy = Select(judge=judged.members[0])
    assert policy.next(judged) is None
    assert policy.settle(judged).index == 1


def test_what_a_judge_repeats_is_no_further_vote():
    seen = []

    def posthoc(case):
        seen.append([asked.model for asked in case.asked])
        return [0.5] * len(case.asked)

    estimates = {"a": expect(0.9), "b": expect(0.1)}
    asked = [Asked(model="a", key="1"), Asked(model="b", key="2"), Asked(model="j", key="2")]
    judged = case(estimates, *asked)
    Select(judge=judged.members[0], posthoc=posthoc).settle(judged)
    assert seen == [["a", "b"]]


def test_answers_that_say_nothing_are_not_shown():
    estimates = {"a": expect(0.9), "b": expect(0.1), "c": expect(0.1)}
    asked = [Asked(model="a", key="1"), Asked(model="b"), Asked(model="c", key="2")]
    silent = case(estimates, *asked, texts=("one", "", "two"))
    step = Select(judge=silent.members[0]).next(silent)
    assert names(step) == ["a"]
    assert step.request.question.count("[End of answer") == 2


def test_the_settings_name_the_judge():
    assert Select(judging("j", "")).settings == {"judge": "j"}
    assert Select().settings == {"judge": None}
