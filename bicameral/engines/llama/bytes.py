"""What a local model would say next, as bytes: what joins models of different tokenizers.

A `Voice` is one request as one model reads it. llama.cpp's server renders the request by the
model's own chat template once; after that each look ahead is a completion of one token over the
rendered prompt, of which the server has all but the end in its cache.
"""

from __future__ import annotations

import math
import time
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, aclosing
from typing import Any, Protocol

from msgspec import Struct

from bicameral.engines.llama.wire import Chunk, Clean
from bicameral.errors import Overloaded, Rejected, TooLong
from bicameral.types import NO_USAGE, Call, Request, Usage

Body = Mapping[str, Any]
Ask = Callable[[Body], AsyncGenerator[Chunk]]

_CANDIDATES = 64
_NEEDLE = "x"  # any token that every vocabulary has
# The server tells nothing of a step whose drawn token ends inside a character. What it tells are
# the probabilities before biases, so the draw is pinned to a token that is whole.
_PINNED = {"max_tokens": 1, "temperature": 0, "logit_bias": [[_NEEDLE, 1000]]}


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


class LlamaVoice:
    """A Voice over llama.cpp's server; `ask` sends it a body and gives its chunks."""

    def __init__(self, ask: Ask, clean: Clean) -> None:
        self._ask = ask
        self._clean = clean
        self._prompt = ""
        self.usage = NO_USAGE
        self.seconds = 0.0
        self.calls: tuple[Call, ...] = ()

    async def read(self, body: Body, prefix: str) -> None:
        """Have the chat `body` rendered; `prefix` is what the tokenizer itself puts before it.

        The prompt is evaluated on the way, so the first look ahead finds it in the cache.
        """
        thinking = {**body.get("chat_template_kwargs", {}), "enable_thinking": False}
        last = await self._run({**body, **_PINNED, "chat_template_kwargs": thinking, **_TELL})
        self._prompt = last["__verbose"]["prompt"].removeprefix(prefix)

    async def candidates(self, said: str, path: Sequence[int]) -> tuple[Token, ...]:
        """See Voice."""
        text = self._prompt + self._clean(said)
        return _tokens(await self._run({"prompt": [text, *path], **_PINNED, **_STREAM}))

    async def _run(self, body: Body) -> dict[str, Any]:
        """The fields of all chunks, the last of a name; usage counts what was read and drawn.

        The token that a look ahead adds to the path before was drawn then, so it is not counted
        again as read.
        """
        told: dict[str, Any] = {}
        before, self.usage = self.usage, Usage()
        began = time.monotonic()
        try:
            async with aclosing(self._ask(body)) as chunks:
                async for chunk in chunks:
                    told |= {key: value for key, value in chunk.items() if value}
                    for choice in chunk.get("choices", ()):
                        told["logprobs"] = choice.get("logprobs") or told.get("logprobs")
        except (Overloaded, Rejected, TooLong):
            self.usage = before  # it was never taken up
            raise
        finally:
            self.seconds += time.monotonic() - began
        self.usage = before + _used(told, first=before is NO_USAGE)
        return told


_STREAM = {
    "stream": True,
    "stream_options": {"include_usage": True},
    "return_progress": True,
    "n_probs": _CANDIDATES,
}
_TELL = {"verbose": True}


async def prefix(ask: Ask) -> str:
    """What the tokenizer puts before every prompt, such as <bos>; the rendered prompt has it too.

    Left there, it would be read twice.
    """
    async with aclosing(ask({"prompt": _NEEDLE, **_PINNED, **_STREAM, **_TELL})) as chunks:
        told = [chunk["__verbose"]["prompt"] async for chunk in chunks if "__verbose" in chunk]
    return str(told[-1]).removesuffix(_NEEDLE)


def _tokens(told: Mapping[str, Any]) -> tuple[Token, ...]:
    (drawn,) = told["logprobs"]["content"]
    return tuple(
        Token(rival["id"], bytes(rival["bytes"]), math.exp(rival["logprob"]))
        for rival in drawn["top_logprobs"]
    )


def _used(told: Mapping[str, Any], *, first: bool) -> Usage:
    timings = told["timings"]
    read = timings["prompt_n"]
    if not first:
        return Usage(
            prompt_tokens=max(0, read - 1),
            completion_tokens=timings["predicted_n"],
            cached_tokens=0,
            reasoning_tokens=0,
        )
    cached = timings["cache_n"]
    return Usage(
        prompt_tokens=read + cached, completion_tokens=0, cached_tokens=cached, reasoning_tokens=0
    )
