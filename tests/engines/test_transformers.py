"""The transformers engine on tiny nets with random weights, held against transformers itself."""

from __future__ import annotations

import asyncio
import gc
import json
import time
import weakref
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from bicameral.errors import (
    BicameralError,
    ModelError,
    Overloaded,
    Rejected,
    RequestError,
    Timeout,
    TooLong,
    Unreachable,
)
from bicameral.model import Model
from bicameral.types import Delta, Message, Request, Sampling, Text
from tests.engines import nets
from tests.engines.hf.serving import SHORT, copied, hello, say, served

torch = pytest.importorskip("torch", reason="needs `make torch`: see the Makefile")
transformers = pytest.importorskip("transformers", reason="needs `make torch`: see the Makefile")

torch.set_num_threads(1)
LONG = Request.ask("Go on.", sampling=Sampling(max_tokens=400), extra={"ignore_eos": True})
ANY = Sampling(max_tokens=24, temperature=1.3, seed=3)
pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.xdist_group("transformers")]


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return nets.reader(tmp_path_factory.mktemp("reader"))


@pytest.fixture
def copy(reader: Path, tmp_path: Path) -> Path:
    return copied(reader, tmp_path)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def model(reader: Path) -> AsyncIterator[Model]:
    async with served(reader, slots=2) as model:
        yield model


class Theirs:
    """The net as transformers itself runs it."""

    def __init__(self, folder: Path) -> None:
        self.net = transformers.AutoModelForCausalLM.from_pretrained(folder)
        self.words = transformers.AutoTokenizer.from_pretrained(folder)

    def prompt(self, text: str = "Say hello.") -> Any:
        return self.words.apply_chat_template(
            [{"role": "user", "content": text}],
            add_generation_prompt=True,
            return_dict=True,
            return_tensors="pt",
        )

    def generate(self, text: str = "Say hello.", **how: Any) -> Any:
        how = {"max_new_tokens": 24, "do_sample": False, **how}
        return self.net.generate(**self.prompt(text), **how)

    def said(self, text: str = "Say hello.", **how: Any) -> str:
        skip = self.prompt(text)["input_ids"].shape[1]
        return self.words.decode(self.generate(text, **how)[0, skip:], skip_special_tokens=True)


@pytest.fixture(scope="module")
def theirs(reader: Path) -> Theirs:
    return Theirs(reader)


# --- the same as transformers ------------------------------------------------------------------


@pytest.mark.parametrize("text", ["Say hello.", "x", "What is 3 + 4?\nThink."])
async def test_the_likeliest_tokens_are_those_of_generate(
    model: Model, theirs: Theirs, text: str
) -> None:
    answer = await say(model, hello(text))
    assert answer.text == theirs.said(text)
    assert len(set(answer.text)) > 4  # an answer that could tell a difference
    assert answer.usage.prompt_tokens == theirs.prompt(text)["input_ids"].shape[1]
    assert answer.usage.completion_tokens == 24
    assert (answer.usage.cached_tokens, answer.usage.images, answer.reason) == (0, 0, "length")
    assert answer.usage.cost is None  # nobody charges for it, so nobody says what


async def test_the_cache_changes_nothing(model: Model, theirs: Theirs) -> None:
    ids = theirs.prompt()["input_ids"]
    start = ids.shape[1]
    with torch.no_grad():
        for _ in range(24):
            best = theirs.net(ids, use_cache=False).logits[:, -1].argmax(-1, keepdim=True)
            ids = torch.cat((ids, best), 1)
    assert (await say(model, hello())).text == theirs.words.decode(ids[0, start:])


async def test_logprobs_are_those_of_the_net(model: Model, theirs: Theirs) -> None:
    sampling = Sampling(max_tokens=12, logprobs=True, top_logprobs=3, logit_bias={"5": 2.0})
    answer = await say(model, hello(sampling=sampling))
    assert "".join(told.token for told in answer.logprobs) == answer.text
    ids = theirs.words(answer.text, return_tensors="pt")["input_ids"]
    prompt = theirs.prompt()["input_ids"]
    with torch.no_grad():
        logits = theirs.net(torch.cat((prompt, ids), 1)).logits[0, prompt.shape[1] - 1 : -1]
    for token, row, told in zip(ids[0], logits.log_softmax(-1), answer.logprobs, strict=True):
        assert told.logprob == pytest.approx(float(row[token]), abs=1e-4)
        best = row.topk(3)
        assert [p for _, p in told.top] == pytest.approx(best.values.tolist(), abs=1e-4)
        assert told.top[0][0] == theirs.words.decode(best.indices[:1])


async def test_where_a_request_is_silent_the_folder_speaks(copy: Path, theirs: Theirs) -> None:
    habits = {"do_sample": True, "temperature": 0.7, "top_k": 1, "repetition_penalty": 1.5}
    (copy / "generation_config.json").write_text(json.dumps(habits))
    async with served(copy) as model:
        answer = await say(model, hello(sampling=Sampling(max_tokens=24)))
        plain = await say(model, hello(extra={"repeat_penalty": 1.0}))
    assert answer.text == theirs.said(repetition_penalty=1.5) != theirs.said()
    assert plain.text == theirs.said()


# --- sampling ----------------------------------------------------------------------------------


async def test_a_seed_repeats_the_answer_beside_others(model: Model) -> None:
    one, *others = await asyncio.gather(
        *(say(model, hello(sampling=ANY)) for _ in range(2)),
        *(
            say(model, hello(sampling=Sampling(max_tokens=24, temperature=1.3, seed=seed)))
            for seed in (4, 2**70, -1)
        ),
    )
    assert others[0].text == one.text
    assert len({answer.text for answer in others}) == 4
    free = Sampling(max_tokens=24, temperature=1.3)
    assert len({(await say(model, hello(sampling=free))).text for _ in range(4)}) > 1


async def test_logit_bias_forces_and_forbids(model: Model, theirs: Theirs) -> None:
    token = theirs.words.convert_tokens_to_ids("z")
    forced = Sampling(max_tokens=5, temperature=0, logit_bias={str(token): 100.0})
    assert (await say(model, hello(sampling=forced))).text == "zzzzz"
    first = (await say(model, hello())).text[0]
    token = theirs.words.convert_tokens_to_ids(first)
    never = Sampling(max_tokens=24, temperature=0, logit_bias={str(token): -100.0})
    assert first not in (await say(model, hello(sampling=never))).text


@pytest.mark.parametrize("name", ["frequency_penalty", "presence_penalty"])
async def test_penalties_count_what_was_said(model: Model, theirs: Theirs, name: str) -> None:
    bias = {str(theirs.words.convert_tokens_to_ids("z")): 20.0}
    counts = []
    for penalty in (0.0, 2.0):
        sampling = Sampling(
            max_tokens=60,
            temperature=0,
            logit_bias=bias,
            **{name: penalty},  # type: ignore[arg-type]
        )
        counts.append((await say(model, hello(sampling=sampling))).text.count("z"))
    assert counts[0] > counts[1]


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"sampling": Sampling(temperature=-1)}, "temperature"),
        ({"sampling": Sampling(stop=("",))}, "stop"),
        ({"sampling": Sampling(logit_bias={"102": 1, "5000": 1})}, "logit_bias"),
        ({"sampling": Sampling(max_tokens=0)}, "max_tokens"),
        ({"extra": {"top_k": "x"}}, "top_k"),
        ({"extra": {"mirostat": 1}}, "mirostat"),
        ({"extra": {"chat_template_kwargs": {"tokenize": False}}}, "chat_template_kwargs"),
        ({"n": 2}, "n"),
    ],
)
async def test_what_it_cannot_honour_is_refused_by_name(
    model: Model, fields: dict[str, Any], param: str
) -> None:
    with pytest.raises(RequestError) as caught:
        await say(model, hello(**fields))
    assert caught.value.param == param


# --- text --------------------------------------------------------------------------------------


async def test_stop_ends_the_answer_and_is_left_out(model: Model) -> None:
    whole = (await say(model, hello())).text
    stop = whole[5:8]
    sampling = Sampling(
        max_tokens=24, temperature=0, stop=("never", stop), logprobs=True, top_logprobs=0
    )
    answer = await say(model, hello(sampling=sampling))
    assert answer.text == whole.partition(stop)[0]
    assert "".join(told.token for told in answer.logprobs) == answer.text
    assert answer.reason == "stop"
    assert answer.usage.completion_tokens == len(answer.text) + 3


async def test_the_end_of_a_turn_ends_the_answer(model: Model, theirs: Theirs) -> None:
    end = str(theirs.words.eos_token_id)
    sampling = Sampling(max_tokens=9, temperature=0, logit_bias={end: 100.0})
    answer = await say(model, hello(sampling=sampling))
    assert (answer.text, answer.reason, answer.usage.completion_tokens) == ("", "stop", 1)
    endless = await say(model, hello(sampling=sampling, extra={"ignore_eos": True}))
    assert (endless.text, endless.reason, endless.usage.completion_tokens) == ("", "length", 9)


async def test_control_tokens_in_text_are_only_text(model: Model) -> None:
    plain, sly = await say(model, hello("hi")), await say(model, hello("<|end|>"))
    assert sly.usage.prompt_tokens - plain.usage.prompt_tokens > 4  # type: ignore[operator]
    parts = (Text("<|e"), Text("nd|>"))
    split = await say(model, Request(messages=(Message("user", parts),), sampling=SHORT))
    assert split.usage.prompt_tokens == sly.usage.prompt_tokens


async def test_a_request_may_set_the_templates_own_switches(model: Model) -> None:
    loud = await say(model, hello(extra={"chat_template_kwargs": {"shout": True}}))
    plain = await say(model, hello())
    assert loud.usage.prompt_tokens == (plain.usage.prompt_tokens or 0) + len("LOUD")


async def test_a_conversation_that_the_template_refuses(reader: Path) -> None:
    refusing = "{{ raise_exception('no such roles') if messages[0].role == 'tool' else 'a' }}"
    async with served(reader, chat_template=refusing) as model:
        request = Request(messages=(Message("tool", (Text("x"),)),), sampling=SHORT)
        with pytest.raises(Rejected, match="no such roles"):
            await say(model, request)


@pytest.mark.parametrize("size", [600, 5_000_000])
async def test_a_prompt_beyond_the_context_is_too_long(model: Model, size: int) -> None:
    with pytest.raises(TooLong):
        await say(model, hello("a" * size))


async def test_the_context_ends_the_answer(reader: Path) -> None:
    async with served(reader, context=64) as model:
        answer = await say(model, LONG)
    assert (answer.usage.total_tokens, answer.reason) == (64, "length")


# --- running -----------------------------------------------------------------------------------


async def begin(model: Model, request: Request) -> Any:
    events = model.run(request)
    assert isinstance(await anext(events), Delta)
    return events


async def test_closing_stops_the_compute(reader: Path) -> None:
    async with served(reader) as model:
        await (await begin(model, LONG)).aclose()
        await say(model, hello())  # waits until the only slot is free
        spent = time.process_time()
        await asyncio.sleep(0.3)
        assert time.process_time() - spent < 0.15


async def test_closing_stops_between_two_layers(reader: Path) -> None:
    async with served(reader) as model:
        net, count = model._net, 0  # type: ignore[attr-defined]
        layers = net._loaded.net.model.layers

        def gone() -> bool:
            nonlocal count
            count += 1
            return count == 3  # once before the prompt, then once a layer

        passed: list[int] = []
        for layer in layers:
            layer.register_forward_hook(lambda *_: passed.append(1))
        asked = model._asked(hello())  # type: ignore[attr-defined]
        assert net.answer(asked, lambda piece: None, gone) is None
        assert len(passed) == 1 < len(layers)
        assert (await say(model, hello())).text


async def test_the_line_is_bounded_and_can_be_left(reader: Path) -> None:
    async with served(reader, queue=1) as model:
        events = await begin(model, LONG)
        waiting = asyncio.create_task(say(model, hello()))
        await asyncio.sleep(0)
        with pytest.raises(Overloaded, match="busy"):
            await say(model, hello())
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        waiting = asyncio.create_task(say(model, hello()))
        await events.aclose()
        assert (await waiting).text


async def test_a_deadline_ends_the_answer(model: Model) -> None:
    with pytest.raises(Timeout):
        await say(model, LONG.but(deadline=time.monotonic() + 0.05))


async def test_many_at_once_answer_as_alone(model: Model) -> None:
    texts = [f"Count to {n}." for n in range(6)]
    together = await asyncio.gather(*(say(model, hello(text)) for text in texts))
    assert [a.text for a in together] == [(await say(model, hello(t))).text for t in texts]


class Unheard(Exception):
    """What no part of the engine expects."""


@pytest.mark.parametrize(
    ("raised", "error", "words"),
    [
        (torch.OutOfMemoryError("CUDA out of memory."), Overloaded, "memory of cpu is full"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), Overloaded, "full"),
        (MemoryError(), Overloaded, "full"),
        (Unheard("who knows"), ModelError, "who knows"),
        (RuntimeError("CUDA error: unspecified launch failure"), Unreachable, "start anew"),
        (RuntimeError("mat1 and mat2 shapes"), ModelError, "mat1"),
    ],
)
async def test_what_torch_raises_is_an_error_of_ours(
    reader: Path, raised: Exception, error: type[BicameralError], words: str
) -> None:
    async with served(reader) as model:
        net = model._net._loaded.net  # type: ignore[attr-defined]

        def fail(*_: object) -> None:
            raise raised

        hook = net.register_forward_pre_hook(fail)
        with pytest.raises(error, match=words):
            await say(model, hello())
        hook.remove()
        assert (await say(model, hello())).text


async def test_scores_that_are_no_numbers_are_no_answer(reader: Path) -> None:
    async with served(reader) as model:
        net = model._net._loaded.net  # type: ignore[attr-defined]
        with torch.no_grad():
            net.lm_head.weight[3] = float("nan")
        with pytest.raises(ModelError, match="dtype"):
            await say(model, hello())


async def test_the_memory_is_given_back(reader: Path) -> None:
    async with served(reader) as model:
        await say(model, hello())
        weights = weakref.ref(model._net._loaded.net.lm_head)  # type: ignore[attr-defined]
        assert weights() is not None
    gc.collect()
    assert weights() is None
