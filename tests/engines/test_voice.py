"""The voices of real local models: next-token candidates as bytes, alone and joined."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, aclosing
from typing import Any

import pytest
import pytest_asyncio

from bicameral.engines.weights import locate
from bicameral.errors import ConfigError, Timeout, TooLong, WeightsError
from bicameral.ledger.meter import Meter
from bicameral.left.tokens import Tokens
from bicameral.model import Model, collect
from bicameral.types import Call, Message, Request, Sampling, Text, Usage
from tests.engines.models import opened

pytest.importorskip("xllamacpp", reason="needs pip install 'bicameral[llama]'")
pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.xdist_group("llama_cpp")]

SHORT = Sampling(max_tokens=8, temperature=0)
ASK = Request.ask("What is the capital of France?", sampling=SHORT)


def local(weights: str, **keys: Any) -> AbstractAsyncContextManager[Model]:
    try:
        path = str(locate(weights))
    except WeightsError as error:
        pytest.skip(str(error))
    return opened("llama_cpp", weights, weights=path, threads=1, context=512, **keys)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def smol() -> AsyncIterator[Model]:
    async with local("smollm2-135m") as model:
        yield model


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def gemma() -> AsyncIterator[Model]:
    async with local("gemma-3-270m", chat_template="plain") as model:
        yield model


# --- one voice ---------------------------------------------------------------------------------


async def test_the_candidates_are_those_of_the_models_own_answer(smol: Model) -> None:
    sampling = Sampling(max_tokens=1, temperature=0, logprobs=True, top_logprobs=5)
    answer = await collect(smol, ASK.but(sampling=sampling))
    async with smol.voice(ASK) as voice:
        found = await voice.candidates("", ())
    said = {text.encode(): math.exp(logprob) for text, logprob in answer.logprobs[0].top}
    assert {token.text: token.p for token in found[:5]} == pytest.approx(said, abs=0.02)
    assert len(found) > 20
    assert 0.5 < sum(token.p for token in found) <= 1.0001


async def test_a_text_and_its_tokens_lead_to_the_same_place(smol: Model) -> None:
    async with smol.voice(ASK) as voice:
        first = next(t for t in await voice.candidates("", ()) if t.text == b"The")
        by_token = await voice.candidates("", (first.id,))
        by_text = await voice.candidates("The", ())
    assert by_token[0].id == by_text[0].id
    assert by_token[0].p == pytest.approx(by_text[0].p, abs=0.02)


async def test_the_end_is_a_token_without_text(smol: Model) -> None:
    async with smol.voice(ASK) as voice:
        found = await voice.candidates("The capital of France is Paris.", ())
    assert found[0].text == b""


async def test_tokens_that_end_inside_a_character_are_told(smol: Model) -> None:
    async with smol.voice(Request.ask("请介绍北京。")) as voice:
        found = await voice.candidates("北京是中国的", ())
        part = next(token for token in found if token.text == b"\xe7")
        after = await voice.candidates("北京是中国的", (part.id,))
    with pytest.raises(UnicodeDecodeError):
        part.text.decode()
    assert all(0x80 <= token.text[0] < 0xC0 for token in after[:3])


async def test_what_the_tokenizer_puts_first_is_not_read_twice(gemma: Model) -> None:
    answer = await collect(gemma, ASK)
    async with gemma.voice(ASK) as voice:
        assert voice.prompt == "Question:\nWhat is the capital of France?\n\nAnswer:\n"
        assert voice.usage.prompt_tokens == answer.usage.prompt_tokens
        await voice.candidates("", ())
        assert voice.usage.prompt_tokens is not None
        assert voice.usage.prompt_tokens < 2 * (answer.usage.prompt_tokens or 0)


async def test_a_blank_line_ends_the_turn_of_a_base_model(gemma: Model) -> None:
    talk = (
        Message("system", (Text("Be brief."),)),
        *ASK.messages,
        Message("assistant", (Text("Paris."),)),
        Message("user", (Text("And of Italy?"),)),
    )
    async with gemma.voice(ASK.but(messages=talk)) as voice:
        found = await voice.candidates("The capital of Italy is Rome.", ())
    assert voice.prompt == (
        "Be brief.\n\nQuestion:\nWhat is the capital of France?\n\nAnswer:\nParis.\n\n"
        "Question:\nAnd of Italy?\n\nAnswer:\n"
    )
    assert found[0].text == b""


async def test_a_base_model_needs_a_template() -> None:
    with pytest.raises(ConfigError, match="'plain' for an ensemble"):
        async with local("gemma-3-270m"):
            pass


async def test_a_voice_is_one_call_of_the_meter(smol: Model) -> None:
    calls: list[Call] = []
    voices = Meter(smol, lambda call, _: calls.append(call)).voice
    assert voices
    async with voices(ASK) as voice:
        for said in ("", "The", "The capital"):
            await voice.candidates(said, ())
    (call,) = calls
    assert voice.calls == (call,)
    assert call.usage.completion_tokens == 3
    assert call.usage.prompt_tokens
    assert 0 < (call.first_token or 0) < (call.seconds or 0)
    assert (call.cost, call.error, call.served) == (0, None, smol.card.serves)


async def test_an_answer_too_long_for_the_context_is_told_and_costs_nothing(smol: Model) -> None:
    async with smol.voice(ASK) as voice:
        before = voice.usage
        with pytest.raises(TooLong):
            await voice.candidates("long " * 600, ())
        assert voice.usage == before
        assert await voice.candidates("", ())


async def test_a_look_that_was_cut_off_cost_nobody_knows_what(smol: Model) -> None:
    async with smol.voice(ASK) as voice:
        look = asyncio.create_task(voice.candidates("The sea. " * 120, ()))
        await asyncio.sleep(0)
        look.cancel()
        with pytest.raises(asyncio.CancelledError):
            await look
        assert voice.usage == Usage()
    assert (await collect(smol, ASK)).error is None


async def test_the_request_bounds_its_voice(smol: Model) -> None:
    with pytest.raises(Timeout):
        async with smol.voice(ASK.but(deadline=time.monotonic())):
            pass
    with pytest.raises(TooLong):
        async with smol.voice(Request.ask("word " * 2000)):
            pass


# --- joined ------------------------------------------------------------------------------------


async def test_a_model_with_itself_says_what_it_says_alone(smol: Model) -> None:
    alone = await collect(Tokens("one", [smol]), ASK)
    twice = await collect(Tokens("two", [smol, smol], sure=1), ASK)
    assert alone.text
    assert (twice.text, twice.reason) == (alone.text, alone.reason)


async def test_two_tokenizers_write_one_answer(smol: Model, gemma: Model) -> None:
    members = [Meter(model, lambda call, booking: None) for model in (smol, gemma)]
    answer = await collect(Tokens("both", members, sure=0.8), ASK)
    assert answer.error is None
    assert answer.text.strip()
    assert [call.model for call in answer.calls] == ["smollm2-135m", "gemma-3-270m"]
    assert all(call.usage.completion_tokens for call in answer.calls)
    assert all(asked.share > 0 for asked in answer.decisions[0].asked)


async def test_the_seed_decides_the_draws(smol: Model) -> None:
    tokens = Tokens("one", [smol])
    texts = [
        (await collect(tokens, ASK.but(sampling=Sampling(max_tokens=8, temperature=1, seed=seed))))
        for seed in (1, 1, 2)
    ]
    assert texts[0].text == texts[1].text != texts[2].text


async def test_closing_it_frees_the_members(smol: Model) -> None:
    async with aclosing(Tokens("one", [smol]).run(Request.ask("Tell a long story."))) as events:
        await anext(events)
    assert (await collect(smol, ASK)).error is None
