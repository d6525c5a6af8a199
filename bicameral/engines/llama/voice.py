"""What a local model would say next, as bytes: what joins models of different tokenizers.

A `Voice` is one request as one model reads it. llama.cpp's server renders it once, by the model's
own chat template; each look ahead is then a completion of one token over the rendered prompt, of
which the server has all but the end in its cache.
"""

from __future__ import annotations

import math
import time
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, aclosing
from typing import Any, Protocol

from msgspec import Struct

from bicameral.engines.llama.wire import Chunk, Clean
from bicameral.errors import Broken, Overloaded, Rejected, TooLong
from bicameral.types import NO_USAGE, Call, Request, Usage

Body = Mapping[str, Any]
Ask = Callable[[Body], AsyncGenerator[Chunk]]

_CANDIDATES = 64
_NEEDLE = "x"  # any token that every vocabulary has
# The server tells nothing of a step whose drawn token ends inside a character. What it tells are
# the probabilities before biases, so the draw is pinned to a token that is whole.
_ONE = {
    "max_tokens": 1,
    "temperature": 0,
    "logit_bias": [[_NEEDLE, 1000]],
    "n_probs": _CANDIDATES,
    "stream": True,
    "return_progress": True,  # without it, nothing can cancel a long prompt
}
_TELL = {"verbose": True}  # the last chunk has the prompt as text

_TURN, _BREAK = "\n\nAnswer:\n", b"\n\n"
PLAIN = (
    "{% for message in messages %}{% if message.role == 'user' %}{{ 'Question:\\n' }}"
    "{% elif message.role == 'assistant' %}{{ 'Answer:\\n' }}{% endif %}"
    "{{ message.content + ('' if loop.last else '\\n\\n') }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '\\n\\nAnswer:\\n' }}{% endif %}"
)
"""A chat template for base models. Of 20 easy questions Gemma 3 270M answers 12 in this form, and 1
between lines that say User and Assistant: it repeats the question."""


class Token(Struct, frozen=True):
    """A token that may come next, and how probable it is; `text` is empty if it ends the answer.

    All control tokens end it: none of them is text.
    """

    id: int
    text: bytes
    p: float


class Voice(Protocol):
    """One request as one model reads it; `usage` and `seconds` are what that took so far.

    Usage is unknown while a look ahead is under way, and stays so if it was cut off. `calls` is
    set when the voice is closed, by the meter if there is one.
    """

    usage: Usage
    seconds: float
    calls: tuple[Call, ...]

    async def candidates(self, said: str, path: Sequence[int]) -> tuple[Token, ...]:
        """The likeliest next tokens after the answer `said` and then the tokens `path`."""
        ...


Open = Callable[[Request], AbstractAsyncContextManager[Voice]]


def opener(model: object) -> Open | None:
    """How to open a voice of `model`; None if it has none, as a remote model or a mind."""
    voice: Open | None = getattr(model, "voice", None)
    return voice


async def read(name: str, body: Body, ask: Ask, clean: Clean, prefix: str) -> LlamaVoice:
    """The voice of the chat `body`; `prefix` is what the tokenizer itself puts before a prompt.

    The prompt is evaluated on the way, so the first look ahead finds it in the server's cache.
    """
    calm = {**body.get("chat_template_kwargs", {}), "enable_thinking": False}
    voice = LlamaVoice(name, ask, clean)
    told = await voice.run({**body, **_ONE, **_TELL, "chat_template_kwargs": calm})
    voice.prompt = told["prompt"].removeprefix(prefix)
    voice.plain = voice.prompt.endswith(_TURN)
    return voice


class LlamaVoice:
    """A Voice over llama.cpp's server; `ask` sends it a body and gives its chunks."""

    def __init__(self, name: str, ask: Ask, clean: Clean) -> None:
        self._name = name
        self._ask = ask
        self._clean = clean
        self.prompt = ""
        self.plain = False
        self.usage = NO_USAGE
        self.seconds = 0.0
        self.calls: tuple[Call, ...] = ()

    async def candidates(self, said: str, path: Sequence[int]) -> tuple[Token, ...]:
        """See Voice."""
        told = await self.run({"prompt": [self.prompt + self._clean(said), *path], **_ONE})
        drawn = told.get("logprobs", {}).get("content")
        if not drawn:
            raise Broken(self._name, "llama.cpp told no probabilities")
        return tuple(
            Token(rival["id"], self._text(rival["bytes"]), math.exp(rival["logprob"]))
            for rival in drawn[0]["top_logprobs"]
        )

    def _text(self, told: Sequence[int]) -> bytes:
        """A base model does not end its turn: it leaves a line blank and asks the next question."""
        text = bytes(told)
        return b"" if self.plain and text.startswith(_BREAK) else text

    async def run(self, body: Body) -> dict[str, Any]:
        """What the server tells in answer to `body`; adds to usage and seconds."""
        before, self.usage = self.usage, Usage()
        began = time.monotonic()
        try:
            told = await _told(self._ask(body))
        except (Overloaded, Rejected, TooLong):
            self.usage = before  # it was never taken up
            raise
        finally:
            self.seconds += time.monotonic() - began
        self.usage = before + _used(told["timings"], first=not self.prompt)
        return told


def _used(timings: Mapping[str, int], *, first: bool) -> Usage:
    """At first the prompt; then what was read of the answer, and one token looked ahead.

    The last token that a look ahead reads was itself looked ahead to, so it is not counted again.
    """
    read, cached = timings["prompt_n"], timings["cache_n"] if first else 0
    return Usage(
        prompt_tokens=read + cached if first else max(0, read - 1),
        completion_tokens=0 if first else 1,
        cached_tokens=cached,
        reasoning_tokens=0,
    )


async def prefix(ask: Ask) -> str:
    """What the tokenizer puts before every prompt, such as <bos>.

    A rendered prompt comes back with it, and must be sent without, or it would be read twice.
    """
    told = await _told(ask({"prompt": _NEEDLE, **_ONE, **_TELL}))
    return str(told["prompt"]).removesuffix(_NEEDLE)


async def _told(answer: AsyncGenerator[Chunk]) -> dict[str, Any]:
    """The fields of all chunks and of what is in them, the last of each name."""
    told: dict[str, Any] = {}
    async with aclosing(answer) as chunks:
        async for chunk in chunks:
            for part in (chunk, chunk.get("__verbose", {}), *chunk.get("choices", ())):
                told |= {key: value for key, value in part.items() if value}
    return told
