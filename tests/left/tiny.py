"""Local models of a few tokens: small enough to check an ensemble by brute force."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from contextlib import asynccontextmanager

from bicameral.engines.llama.voice import Token
from bicameral.left.spelling import END
from bicameral.types import Card, Feature, Price, Reach, Usage

FIRST = (b"", b"a", b"b", b"ab", b"aba", b"ba")
SECOND = (b"", b"a", b"b", b"bb", b"bab")


class Tiny:
    """A local model of a few tokens, the empty one its end; which is likely hangs on the path."""

    def __init__(self, name: str, tokens: Sequence[bytes], *, price: Price | None = None, **card):
        self.tokens = tokens
        self.looks = self.running = 0
        self.fails_after: tuple[int, Exception] | None = None
        self.delay = 0.0
        free = price or Price(input=0, output=0)
        features = frozenset({Feature.SEED, Feature.STOP})
        card = {"reach": Reach.DEVICE, "features": features, **card}
        self.card = Card(name=name, engine="tiny", price=free, **card)

    async def run(self, request):
        raise AssertionError("an ensemble does not ask for whole answers")
        yield

    @asynccontextmanager
    async def voice(self, request):
        self.running += 1
        try:
            yield TinyVoice(self)
        finally:
            self.running -= 1

    def after(self, path: tuple[int, ...]) -> tuple[Token, ...]:
        dice = random.Random(f"{self.card.name} {path}")
        weights = [dice.random() ** 2 + 0.01 for _ in self.tokens]
        return tuple(
            Token(i, text, weight / sum(weights))
            for i, (text, weight) in enumerate(zip(self.tokens, weights, strict=True))
        )

    # By brute force, over every way to cut a text into tokens.

    def spells(self, said: bytes, path: tuple[int, ...] = ()) -> float:
        """The probability that what it says begins with `said`."""
        if not said:
            return 1.0
        total = 0.0
        for token in self.after(path):
            if token.text.startswith(said):
                total += token.p
            elif token.text and said.startswith(token.text):
                total += token.p * self.spells(said[len(token.text) :], (*path, token.id))
        return total

    def says(self, said: bytes, path: tuple[int, ...] = ()) -> float:
        """The probability that it says just `said`."""
        return sum(
            token.p
            * (self.says(said[len(token.text) :], (*path, token.id)) if token.text else not said)
            for token in self.after(path)
            if said.startswith(token.text)
        )

    def following(self, said: bytes) -> dict[int, float]:
        """The probability of each next byte, and of the end."""
        alphabet = {byte for text in self.tokens for byte in text}
        shares = {byte: self.spells(said + bytes([byte])) for byte in alphabet}
        shares[END] = self.says(said)
        return {byte: p / self.spells(said) for byte, p in shares.items() if p}


class TinyVoice:
    def __init__(self, model: Tiny):
        self.model = model
        self.usage = Usage(prompt_tokens=1, completion_tokens=0, cached_tokens=0)
        self.seconds = 0.5
        self.calls = ()

    async def candidates(self, said: str, path: Sequence[int]) -> tuple[Token, ...]:
        await asyncio.sleep(self.model.delay)
        if self.model.fails_after and self.model.looks >= self.model.fails_after[0]:
            raise self.model.fails_after[1]
        self.model.looks += 1
        self.usage += Usage(prompt_tokens=0, completion_tokens=1, cached_tokens=0)
        return self.model.after((*self.cut(said.encode()), *path))

    def cut(self, said: bytes) -> tuple[int, ...]:
        path = []
        while said:
            fits = [t for t in self.model.tokens if t and said.startswith(t)]
            best = max(fits, key=len, default=b"")
            path.append(self.model.tokens.index(best) if fits else -1)
            said = said[len(best) or 1 :]
        return tuple(path)


class Sayer(Tiny):
    """Says `text`, surely (or as sure as `p`), in these tokens; the rest goes to `other`."""

    def __init__(self, name: str, said: Sequence[bytes], *, p: float = 1.0, other: bytes = b"?"):
        super().__init__(name, (b"", *dict.fromkeys(said), other))
        self.path = (*(self.tokens.index(piece) for piece in said), 0)
        self.p = p

    def after(self, path):
        at = len(path)
        right = self.path[at] if path == self.path[:at] and at < len(self.path) else 0
        wrong = len(self.tokens) - 1
        return (Token(right, self.tokens[right], self.p),) + (
            (Token(wrong, self.tokens[wrong], 1 - self.p),) if self.p < 1 else ()
        )
