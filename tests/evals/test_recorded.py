"""A recorded member keeps the contract of a model, and a reader sees what the table has."""

from __future__ import annotations

from contextlib import aclosing

import pytest

from bicameral.errors import Rejected, Unsupported
from bicameral.evals.recorded import NotRecorded, Playback, Tape, Unrecorded
from bicameral.model import collect
from bicameral.types import Delta, Done, Request, Sampling, Text, Tool

from .tables import table

TAPE = Tape(table("x: x - ?", "x: y x x", seconds=0.0, confidence=0.25, checked=True))
A, B, C = TAPE.members()


async def test_it_says_the_recorded_answer_then_one_done():
    async with aclosing(A.run(TAPE.request(0))) as events:
        said = [event async for event in events]
    assert [type(event) for event in said] == [Delta, Done]
    assert said[0].part == Text("x")
    (call,) = said[1].calls
    assert (call.model, call.cost, call.seconds) == ("a", 1_000_000, 0.0)
    assert (call.usage.prompt_tokens, call.usage.completion_tokens) == (10, 5)


async def test_a_missing_outcome_is_a_typed_failure_at_no_cost():
    answer = await collect(C, TAPE.request(0))
    assert isinstance(answer.error, Unrecorded)
    assert isinstance(answer.error, Rejected)
    assert "no outcome is recorded for the prompt 'p0'" in str(answer.error)
    assert answer.cost == 0
    assert not answer.error.retryable
    assert (await collect(A, Request.ask("question 0", id="p7"))).cost == 0


async def test_it_refuses_what_its_card_does_not_list():
    answer = await collect(A, TAPE.request(0).but(tools=(Tool(name="t"),)))
    assert isinstance(answer.error, Unsupported)


async def test_it_answers_nothing_but_its_table():
    with pytest.raises(NotRecorded, match="another question"):
        await collect(A, Request.ask("what else?", id="p0"))
    with pytest.raises(NotRecorded, match="cut at 3 tokens"):
        await collect(A, TAPE.request(0).but(sampling=Sampling(max_tokens=3)))


async def test_a_reader_sees_what_is_recorded():
    request = TAPE.request(1)
    seen = [await Playback(TAPE).read(request, await collect(m, request)) for m in (A, B, C)]
    assert [asked.model for asked in seen] == ["a", "b", "c"]
    assert seen[1].key == seen[2].key != seen[0].key
    assert (seen[0].confidence, seen[0].tokens, seen[0].cost) == (0.25, 5, 1_000_000)
    assert seen[0].checked is True


async def test_a_reader_sees_no_answer_and_no_outcome():
    request = TAPE.request(0)
    said, silent, missing = [
        await Playback(TAPE).read(request, await collect(m, request)) for m in (A, B, C)
    ]
    assert (silent.key, silent.error) == (None, None)
    assert (missing.key, missing.cost) == (None, 0)
    assert "no outcome is recorded" in missing.error
    other = await Playback(TAPE).read(TAPE.request(1), await collect(B, TAPE.request(1)))
    assert said.key != other.key, "keys of different prompts cannot be compared"
