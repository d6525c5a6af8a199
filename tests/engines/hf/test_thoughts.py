"""What a net thinks before it answers is told apart, by the marks around it."""

from __future__ import annotations

from pathlib import Path

import pytest

from bicameral.engines.hf.draw import wish
from bicameral.engines.hf.net import Asked, _Steps
from bicameral.model import Model
from bicameral.types import Request, Sampling
from tests.engines import nets
from tests.engines.hf.serving import hello, say, served

torch = pytest.importorskip("torch", reason="needs `make torch`: see the Makefile")
pytest.importorskip("transformers", reason="needs `make torch`: see the Makefile")
WORDS = nets.tokenizer()


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return nets.reader(tmp_path_factory.mktemp("reader"))


def spoken(model: Model, prompt: str, script: str, *stop: str) -> tuple[str, str, str, int]:
    """Thoughts, answer and told tokens of a net that says `script`, and the thoughts' count."""
    net, said = model._net, []  # type: ignore[attr-defined]
    request = Request.ask("x", sampling=Sampling(stop=stop, logprobs=True))
    asked = Asked(request=request, wish=wish(request, {}, len(WORDS)))
    steps = _Steps(net, asked, WORDS.encode(prompt), said.append)
    for token in WORDS.encode(script):
        row = torch.zeros(1, net.vocabulary)
        row[0, token] = 9
        steps.drawn(None, row)
    steps.end()
    thoughts = "".join(piece.text for piece in said if piece.thought)
    answer = "".join(piece.text for piece in said if not piece.thought)
    told = "".join(log.token for piece in said for log in piece.logprobs)
    return thoughts, answer, told, steps.thoughts


@pytest.mark.parametrize(
    ("prompt", "script", "thoughts", "answer", "count"),
    [
        ("a", "<think>hm\n</think>\n\nSo it.", "hm\n", "So it.", 5),
        ("a<think>\n", "hm</think>So.", "hm", "So.", 3),
        ("a<think>\n\n</think>\n", "So </think>.", "", "So </think>.", 0),
        ("a", "So <think>.", "", "So <think>.", 0),
        ("a", "<think>no end", "no end", "", 7),
        ("a", "<think></think>So.", "", "So.", 2),
        ("a <think> is a mark", "So.", "", "So.", 0),
    ],
)
async def test_thoughts_are_told_apart(
    reader: Path, prompt: str, script: str, thoughts: str, answer: str, count: int
) -> None:
    async with served(reader) as model:
        found = spoken(model, prompt, script)
    assert (found[0], found[1], found[3]) == (thoughts, answer, count)
    assert found[2].lstrip() == answer  # only the answer's tokens are told


async def test_a_stop_in_a_thought_ends_it_all(reader: Path) -> None:
    async with served(reader) as model:
        assert spoken(model, "a", "<think>one two</think>So.", "two")[:2] == ("one ", "")


async def test_a_template_may_begin_the_thought(reader: Path) -> None:
    async with served(reader) as model:
        answer = await say(model, hello(extra={"chat_template_kwargs": {"think": True}}))
    assert (answer.text, answer.usage.reasoning_tokens) == ("", 24)
    assert answer.reasoning
