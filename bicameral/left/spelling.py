"""Answers by the byte: what a local model would say next, whatever its tokens, and what is drawn.

A model's probability of a next byte is the weight of all its token sequences that spell what was
said and then that byte (exact byte-level marginalisation, arXiv 2410.09303; covers, 2506.14123).
Nearly all of it lies on one or two sequences, so the rare ones are left out.
"""

from __future__ import annotations

import codecs
import random
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence

from msgspec import Struct

from bicameral.engines.llama.voice import Token, Voice
from bicameral.types import Sampling

END = -1
"""Stands where a next byte is expected for the end of the answer."""

Shares = Mapping[int, float]
"""The probability of each next byte, and of END."""

# What the end of a text may share a token with: a word with the space before it, a number, marks,
# two characters of a script without spaces, or a run of blanks.
_TAIL = re.compile(
    r" ?(?:[A-Za-z]{1,24}|\d{1,8}|[^\x00-\x7f]{1,2}|[^\sA-Za-z\d\x80-\U0010ffff]{1,4})\Z|\s+\Z"
)
_TAIL_SIZE = 32


class Cover(Struct, frozen=True):
    """One way in which a model's tokens may spell what was said; `mass` is its probability.

    The tokens of `path` end `pending` bytes before the end of it, and each of `tokens` may come
    next: it begins with those bytes and goes on. None: not looked up yet, and nothing is pending.
    """

    mass: float
    path: tuple[int, ...] = ()
    pending: int = 0
    tokens: tuple[Token, ...] | None = None

    @property
    def weight(self) -> float:
        """The probability of this way with any of `tokens` after it."""
        return self.mass if self.tokens is None else self.mass * sum(t.p for t in self.tokens)


def following(covers: Sequence[Cover]) -> Shares:
    """The probability of each next byte, and of END; empty if there are no covers."""
    shares: defaultdict[int, float] = defaultdict(float)
    for cover in covers:
        for token in cover.tokens or ():
            shares[token.text[cover.pending] if token.text else END] += cover.mass * token.p
    total = sum(shares.values())
    return {byte: share / total for byte, share in shares.items()} if total else {}


def after(covers: Sequence[Cover], byte: int, rare: float) -> list[Cover]:
    """The covers of one byte more; one that ends with a token and is `rare` or less is left out."""
    grown: list[Cover] = []
    for cover in covers:
        at = cover.pending
        fits = [t for t in cover.tokens or () if len(t.text) > at and t.text[at] == byte]
        ended = [t for t in fits if len(t.text) == at + 1]
        grown += [Cover(cover.mass * t.p, (*cover.path, t.id)) for t in ended]
        if longer := tuple(t for t in fits if len(t.text) > at + 1):
            grown.append(Cover(cover.mass, cover.path, at + 1, longer))
    total = sum(cover.weight for cover in grown)
    return [
        Cover(cover.mass / total, cover.path, cover.pending, cover.tokens)
        for cover in grown
        if cover.tokens is not None or cover.mass > rare * total
    ]


def mixed(views: Sequence[tuple[float, Shares]]) -> Shares:
    """The mean of several, each with its weight."""
    total = sum(weight for weight, _ in views)
    shares: defaultdict[int, float] = defaultdict(float)
    for weight, view in views:
        for byte, p in view.items():
            shares[byte] += weight / total * p
    return shares


def likeliest(shares: Shares) -> int:
    """The byte, or END, of the largest share."""
    return max(shares, key=lambda byte: (shares[byte], -byte))


def drawn(shares: Shares, sampling: Sampling, dice: random.Random) -> int:
    """A byte, or END: the likeliest if there is no temperature; it and top_p apply to each byte."""
    if not sampling.temperature:
        return likeliest(shares)
    best = max(shares.values())
    sharp = {b: (p / best) ** (1 / sampling.temperature) for b, p in sorted(shares.items())}
    room = (1.0 if sampling.top_p is None else sampling.top_p) * sum(sharp.values())
    kept: dict[int, float] = {}
    for byte in sorted(sharp, key=lambda b: -sharp[b]):
        if kept and sum(kept.values()) >= room:
            break
        kept[byte] = sharp[byte]
    return dice.choices(list(kept), list(kept.values()))[0]


class Speller:
    """One voice by the byte, through the covers of what was said after a base text.

    Whoever goes on after others have spoken for a while reads what they said in one go.
    """

    def __init__(self, voice: Voice, rare: float) -> None:
        self._voice = voice
        self._rare = rare
        self._base = ""
        self._covers: list[Cover] = [Cover(1.0)]
        self._heard = 0
        self._lost = False

    @property
    def ended(self) -> bool:
        """Whether what was heard most likely ends with a token, so the next byte takes a look."""
        return self._lost or self._likeliest.tokens is None

    @property
    def tokens(self) -> int:
        """How many tokens have ended since the base, most likely."""
        return len(self._likeliest.path)

    @property
    def _likeliest(self) -> Cover:
        return max(self._covers, key=lambda cover: cover.weight, default=Cover(1.0))

    def hear(self, said: bytearray) -> None:
        """Follow what was said as far as that takes no look ahead."""
        for byte in said[self._heard :]:
            self._lost = self._lost or any(cover.tokens is None for cover in self._covers)
            if self._lost:
                return
            self._covers = after(self._covers, byte, self._rare)
            self._heard += 1
            self._lost = not self._covers

    async def next(self, said: bytearray) -> Shares:
        """The probability of each byte after `said`, and of END; empty: none of its tokens fits."""
        self.hear(said)
        if self._lost:
            await self._catch_up(bytes(said))
        await self._look()
        return following(self._covers)

    async def _catch_up(self, said: bytes) -> None:
        """Take all but the last word as the base, and cover that; if no token fits, take all."""
        text = said.decode(errors="ignore")  # it may end inside a character
        tail = _TAIL.search(text[-_TAIL_SIZE:])
        for base in (text[: len(text) - len(tail[0])] if tail else text, text):
            self._base, self._covers = base, [Cover(1.0)]
            for byte in said[len(base.encode()) :]:
                await self._look()
                self._covers = after(self._covers, byte, self._rare)
            if self._covers:
                break
        self._heard, self._lost = len(said), not self._covers

    async def _look(self) -> None:
        """Look ahead from each cover that ends with a token."""
        for i, cover in enumerate(self._covers):
            if cover.tokens is None:
                found = await self._voice.candidates(self._base, cover.path)
                total = sum(token.p for token in found)
                tokens = tuple(Token(t.id, t.text, t.p / total) for t in found)
                self._covers[i] = Cover(cover.mass, cover.path, 0, tokens)


class Spelled:
    """Bytes to text: whole characters, up to where a stop sequence begins."""

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = stops
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._held = ""
        self.stopped = False

    def goes_on(self, byte: int) -> bool:
        """Whether `byte` may come next; END may not inside a character."""
        begun = self._decoder.getstate()[0]
        if byte == END or (not begun and byte < 0x80):
            return not begun
        try:
            codecs.getincrementaldecoder("utf-8")().decode(begun + bytes([byte]))
        except UnicodeDecodeError:
            return False
        return True

    def add(self, byte: int) -> None:
        """Take the next byte."""
        self._held += self._decoder.decode(bytes([byte]))
        starts = [at for stop in self._stops if (at := self._held.find(stop)) >= 0]
        if starts:
            self._held, self.stopped = self._held[: min(starts)], True

    def take(self, *, last: bool = False) -> str:
        """What can be said now: what may begin a stop sequence waits, unless it is the last."""
        wait = 0 if last or self.stopped else max(map(self._begun, self._stops), default=0)
        size = len(self._held) - wait
        said, self._held = self._held[:size], self._held[size:]
        return said

    def _begun(self, stop: str) -> int:
        """How much of `stop` stands at the end."""
        sizes = range(min(len(stop), len(self._held)), 0, -1)
        return next((size for size in sizes if self._held.endswith(stop[:size])), 0)
