"""The llama.cpp engine on real weights: SmolLM2-135M, one thread."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from bicameral.engines.weights import locate
from bicameral.errors import (
    ConfigError,
    ModelError,
    Overloaded,
    RequestError,
    Timeout,
    TooLong,
    Unsupported,
    WeightsError,
)
from bicameral.model import Model, collect
from bicameral.types import (
    Answer,
    Delta,
    Feature,
    Image,
    JsonFormat,
    Message,
    Reach,
    Request,
    Sampling,
    Text,
    Tool,
    ToolChoice,
)
from tests.engines.models import opened

pytest.importorskip("xllamacpp", reason="needs pip install 'bicameral[llama]'")

SHORT = Sampling(max_tokens=8, temperature=0)
LONG = Request.ask(
    "Tell a very long story.", sampling=Sampling(max_tokens=2000), extra={"ignore_eos": True}
)
WEATHER = Tool(
    "weather",
    "The weather in a city.",
    {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
)


def weights(name: str = "smollm2-135m") -> Path:
    try:
        return locate(name)
    except WeightsError as error:
        pytest.skip(str(error))


def small(**keys: Any):
    return opened("llama_cpp", weights=str(weights()), **{"threads": 1, "context": 1024, **keys})


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def model() -> AsyncIterator[Model]:
    async with small(slots=2) as model:
        yield model


pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.xdist_group("llama_cpp")]


async def say(model: Model, request: Request) -> Answer:
    answer = await collect(model, request)
    if answer.error:
        raise answer.error
    return answer


def hello(text: str = "Say hello.", **fields: Any) -> Request:
    return Request.ask(text, **{"sampling": SHORT, **fields})


# --- what it is --------------------------------------------------------------------------------


async def test_the_card_comes_from_the_weights(model: Model) -> None:
    card = model.card
    assert "Smollm2" in card.serves
    assert (card.context, card.reach, card.chip) == (1024, Reach.DEVICE, "cpu")
    assert card.price
    assert card.price.input == card.price.output == 0
    assert Feature.TOOLS not in card.features  # its chat template knows none


async def test_tools_can_be_declared() -> None:
    async with small(tools=True) as model:
        assert Feature.TOOLS in model.card.features


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"context": 10**6}, "8192"),
        ({"slots": 0}, "slots"),
        ({"mmproj": "/nowhere.gguf"}, "mmproj"),
        ({"chat_template": "/nowhere.jinja"}, "chat_template"),
    ],
)
async def test_options_that_cannot_work_are_config_errors(keys: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        async with small(**keys):
            pass


@pytest.mark.parametrize("cut", [0, 3, 5000, 50_000_000])
async def test_damaged_weights_are_refused(tmp_path: Path, cut: int) -> None:
    bad = tmp_path / "bad.gguf"
    bad.write_bytes(weights().read_bytes()[:cut])
    with pytest.raises(WeightsError, match=r"bad\.gguf"):
        async with opened("llama_cpp", weights=str(bad), threads=1):
            pass


async def test_what_is_no_gguf_is_refused(tmp_path: Path) -> None:
    bad = tmp_path / "bad.gguf"
    bad.write_text("these are not weights" * 100)
    with pytest.raises(WeightsError, match="GGUF"):
        async with opened("llama_cpp", weights=str(bad), threads=1):
            pass


# --- sampling ----------------------------------------------------------------------------------


async def test_it_answers_and_counts(model: Model) -> None:
    answer = await say(model, hello("What do cows drink?"))
    assert answer.text
    assert answer.reason == "length"
    assert answer.usage.completion_tokens == 8
    assert answer.usage.prompt_tokens
    assert answer.usage.prompt_tokens > 8
    assert answer.by == model.card.name


async def test_a_seed_repeats_the_answer(model: Model) -> None:
    def drawn(seed: int) -> Request:
        return hello(sampling=Sampling(max_tokens=12, temperature=1.5, seed=seed))

    first = await say(model, drawn(7))
    assert (await say(model, drawn(7))).text == first.text
    others = {(await say(model, drawn(seed))).text for seed in (1, 2**40, -1)}
    assert others - {first.text}


async def test_stop_ends_the_answer_and_is_left_out(model: Model) -> None:
    whole = (await say(model, hello())).text
    word = whole.split()[1]
    answer = await say(model, hello(sampling=Sampling(max_tokens=8, temperature=0, stop=(word,))))
    assert answer.text == whole.partition(word)[0]
    assert answer.reason == "stop"


async def test_logprobs(model: Model) -> None:
    sampling = Sampling(max_tokens=4, temperature=0, logprobs=True, top_logprobs=3)
    answer = await say(model, hello(sampling=sampling))
    assert len(answer.logprobs) == 4
    assert all(t.logprob <= 0 and len(t.top) == 3 for t in answer.logprobs)
    assert "".join(t.token for t in answer.logprobs) == answer.text


async def test_logit_bias_forces_a_token(model: Model) -> None:
    forced = Sampling(max_tokens=3, temperature=0, logit_bias={"28": 100.0}, logprobs=True)
    answer = await say(model, hello(sampling=forced))
    assert len({token.token for token in answer.logprobs}) == 1
    assert answer.text != (await say(model, hello())).text[: len(answer.text)]


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"sampling": Sampling(temperature=-1)}, "temperature"),
        ({"sampling": Sampling(top_p=7)}, "top_p"),
        ({"sampling": Sampling(stop=("",))}, "stop"),
        ({"sampling": Sampling(logit_bias={"hello": 1})}, "logit_bias"),
        ({"sampling": Sampling(max_tokens=0)}, "max_tokens"),
        ({"extra": {"top_k": "x"}}, "top_k"),
        ({"extra": {"n_keep": 3}}, "n_keep"),
        ({"extra": {"grammar": "%llguidance {}\nstart: nope"}}, "grammar"),
        ({"tools": (WEATHER,)}, "tools"),
        ({"n": 2}, "n"),
    ],
)
async def test_what_it_cannot_honour_is_refused_by_name(
    model: Model, fields: dict[str, Any], param: str
) -> None:
    with pytest.raises(RequestError) as caught:
        await say(model, hello(**fields))
    assert caught.value.param == param


async def test_a_wrong_grammar_is_an_error_and_the_model_lives(model: Model) -> None:
    with pytest.raises(ModelError, match="grammar"):
        await say(model, hello(extra={"grammar": "root ::= ((("}))
    assert (await say(model, hello(extra={"grammar": 'root ::= "yes"'}))).text == "yes"


# --- structure ---------------------------------------------------------------------------------


async def test_json_object(model: Model) -> None:
    request = hello(format=JsonFormat(), sampling=Sampling(max_tokens=60, temperature=0, seed=1))
    assert (await say(model, request)).text.lstrip().startswith("{")


async def test_json_schema_is_enforced(model: Model) -> None:
    schema = {
        "type": "object",
        "properties": {
            "colour": {"enum": ["red", "blue"]},
            "age": {"type": "integer", "maximum": 9},
        },
        "required": ["colour", "age"],
    }
    request = hello(format=JsonFormat(schema), sampling=Sampling(max_tokens=60, temperature=0))
    said = json.loads((await say(model, request)).text)
    assert said["colour"] in ("red", "blue")
    assert said["age"] <= 9


@pytest.mark.parametrize("pattern", ["foo**", "foo", r"^\d+$", "^(a$", "^[$", "^a.c$", "^(?=a)b$"])
async def test_a_pattern_it_cannot_enforce_is_refused(model: Model, pattern: str) -> None:
    schema = {"type": "object", "properties": {"a": {"type": "string", "pattern": pattern}}}
    with pytest.raises(Unsupported, match="pattern") as caught:
        await say(model, hello(format=JsonFormat(schema)))
    assert caught.value.param == "response_format"


async def test_a_call_that_must_be_made_is_made() -> None:
    async with small(tools=True) as model:
        request = hello(
            "Is it warm in Paris?", tools=(WEATHER,), tool_choice=ToolChoice("required")
        )
        sampling = Sampling(max_tokens=100, temperature=0)
        answer = await say(model, request.but(sampling=sampling))
    assert answer.reason == "tool_calls"
    assert answer.tool_calls[0].name == "weather"
    assert isinstance(json.loads(answer.tool_calls[0].arguments)["city"], str)
    assert answer.text == ""


# --- prompts -----------------------------------------------------------------------------------


async def test_control_tokens_in_text_are_only_text(model: Model) -> None:
    plain, sly = await say(model, hello("hi")), await say(model, hello("<|im_end|>"))
    assert plain.usage.prompt_tokens
    assert sly.usage.prompt_tokens
    assert sly.usage.prompt_tokens > plain.usage.prompt_tokens + 3  # one token would be a control


async def test_control_tokens_split_over_parts_are_only_text(model: Model) -> None:
    parts = (Text("<|im_"), Text("end|>"))
    request = Request(messages=(Message("user", parts),), sampling=SHORT)
    whole = await say(model, hello("<|im_end|>"))
    assert (await say(model, request)).usage.prompt_tokens == whole.usage.prompt_tokens


@pytest.mark.parametrize("size", [20_000, 5_000_000])
async def test_a_prompt_beyond_the_context_is_too_long(model: Model, size: int) -> None:
    with pytest.raises(TooLong):
        await say(model, hello("word " * (size // 5)))


async def test_a_lone_surrogate_is_refused(model: Model) -> None:
    with pytest.raises(RequestError, match="Unicode"):
        await say(model, hello("a\ud800b"))


async def test_a_picture_is_refused_without_a_projector(model: Model) -> None:
    request = Request(messages=(Message("user", (Image(data=b"x"),)),))
    with pytest.raises(Unsupported, match="image"):
        await say(model, request)


async def test_a_second_turn_reuses_the_prefix() -> None:
    async with small() as model:
        first = hello("The sea is wide and blue. " * 10)
        answer = await say(model, first)
        turn = (Message("assistant", (Text(answer.text),)), Message("user", (Text("Why?"),)))
        second = await say(model, first.but(messages=first.messages + turn))
    assert answer.usage.prompt_tokens
    assert second.usage.cached_tokens
    assert second.usage.cached_tokens >= answer.usage.prompt_tokens


# --- running -----------------------------------------------------------------------------------


async def begin(model: Model, request: Request) -> Any:
    events = model.run(request)
    assert isinstance(await anext(events), Delta)
    return events


async def test_closing_stops_the_compute() -> None:
    async with small() as model:
        await (await begin(model, LONG)).aclose()
        await say(model, hello())  # waits until the only slot is free
        spent = time.process_time()
        await asyncio.sleep(0.5)
        assert time.process_time() - spent < 0.25


async def test_closing_in_the_prompt_stops_the_compute() -> None:
    async with small(context=8192) as model:
        task = asyncio.create_task(say(model, hello("river " * 6000)))
        await asyncio.sleep(0.5)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        async with asyncio.timeout(20):  # the whole prompt takes over a minute
            await say(model, hello())


async def test_the_queue_is_bounded() -> None:
    async with small(queue=1) as model:
        events = await begin(model, LONG)
        waiting = asyncio.create_task(say(model, hello()))
        await asyncio.sleep(0.05)
        with pytest.raises(Overloaded, match="busy") as caught:
            await say(model, hello())
        assert caught.value.retry_after
        assert caught.value.retry_after >= 1
        await events.aclose()
        assert (await waiting).text


async def test_one_that_waits_can_go() -> None:
    async with small(queue=1) as model:
        events = await begin(model, LONG)
        for _ in range(3):
            waiting = asyncio.create_task(say(model, hello()))
            await asyncio.sleep(0.05)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
        await events.aclose()
        assert (await say(model, hello())).text


async def test_a_deadline_ends_the_answer(model: Model) -> None:
    with pytest.raises(Timeout):
        await say(model, LONG.but(deadline=time.monotonic() + 0.5))


async def test_many_at_once_are_all_answered(model: Model) -> None:
    answers = await asyncio.gather(*(say(model, hello(f"Count to {n}.")) for n in range(12)))
    assert all(answer.text for answer in answers)


async def test_two_models_take_turns() -> None:
    async with small(threads=None) as one, small(threads=None) as other:
        async with aclosing(await begin(one, LONG)):
            waiting = asyncio.create_task(say(other, hello()))
            await asyncio.sleep(0.3)
            assert not waiting.done()
        assert (await waiting).text


async def test_loading_does_not_block_the_loop() -> None:
    turns = 0
    opening = asyncio.create_task(_opened())
    while not opening.done():
        await asyncio.sleep(0.01)
        turns += 1
    assert turns > 5  # a loop that is blocked while weights are read turns twice


async def _opened() -> None:
    async with small():
        pass


@pytest.mark.large
async def test_qwen_calls_a_tool_and_speaks_chinese() -> None:
    path = str(weights("qwen2.5-coder-1.5b"))
    async with opened("llama_cpp", weights=path, context=2048) as model:
        assert Feature.TOOLS in model.card.features
        ask = hello("What is the weather in Paris?", tools=(WEATHER,))
        answer = await say(model, ask.but(sampling=Sampling(max_tokens=80, temperature=0)))
        assert answer.tool_calls[0].name == "weather"
        chinese = await say(model, hello("中国的首都是哪里？"))
    assert "北京" in chinese.text
