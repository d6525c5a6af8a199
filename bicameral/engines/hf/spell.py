"""Tokens to text as they come: nothing is said that later tokens would change.

A character may take several tokens, and text may turn out to be the beginning of a stop.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from msgspec import Struct

from bicameral.types import TokenLogprob

_UNFINISHED = "\ufffd"  # what a tokenizer writes for bytes that are no whole character yet
_LONGEST = 8  # tokens; a character has four bytes at most, so what is longer is no text at all


class Spelling:
    """The text of single tokens, as it reads inside an answer."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._texts: dict[int, str] = {}
        # A first token may lose the space before it, so each is read after another one.
        self._before = tokenizer.encode("a", add_special_tokens=False)[-1:]
        self._prefix = len(self.text(self._before, special=True))

    def text(self, tokens: Sequence[int], *, special: bool = False) -> str:
        """What `tokens` say; control tokens say nothing, or with `special` their names."""
        said: str = self._tokenizer.decode(
            tokens, skip_special_tokens=not special, clean_up_tokenization_spaces=False
        )
        return said

    def one(self, token: int) -> str:
        """The text of one token, control tokens by name."""
        if token not in self._texts:
            whole = self.text([*self._before, token], special=True)
            self._texts[token] = whole[self._prefix :]
        return self._texts[token]


class _Growing:
    """The text of a growing answer, in whole characters.

    Only the tokens since the last two clean ends are read again; the ones before the last serve
    tokenizers that write a token differently where it comes first.
    """

    def __init__(self, spelling: Spelling) -> None:
        self._spelling = spelling
        self._tokens: list[int] = []
        self._fresh = 0

    def add(self, token: int) -> str:
        """What is new and whole."""
        self._tokens.append(token)
        return self._new(patient=len(self._tokens) - self._fresh < _LONGEST)

    def rest(self) -> str:
        """What is left, whole or not."""
        return self._new(patient=False)

    def _new(self, *, patient: bool) -> str:
        before = self._spelling.text(self._tokens[: self._fresh])
        whole = self._spelling.text(self._tokens)
        if len(whole) <= len(before) or (patient and whole.endswith(_UNFINISHED)):
            return ""
        self._tokens = self._tokens[self._fresh :]
        self._fresh = len(self._tokens)
        return whole[len(before) :]


class Piece(Struct, frozen=True):
    """The next text of the answer, with the tokens that begin in it; `stopped`: it was the last.

    `thought`: it is what the net thinks before it answers.
    """

    text: str = ""
    logprobs: tuple[TokenLogprob, ...] = ()
    stopped: bool = False
    thought: bool = False


class Speech:
    """Makes pieces of tokens, up to the first of the texts `stops`, which is left out."""

    def __init__(self, spelling: Spelling, stops: Sequence[str]) -> None:
        self._growing = _Growing(spelling)
        self._stops = stops
        self._held = ""
        self._logprobs: list[tuple[int, TokenLogprob]] = []

    def add(self, token: int, logprob: TokenLogprob | None) -> Piece:
        """What may be said after `token`."""
        if logprob:
            self._logprobs.append((len(self._held), logprob))
        self._held += self._growing.add(token)
        return self._cut() or self._said(len(self._held) - self._doubtful())

    def end(self) -> Piece:
        """What is left to say."""
        self._held += self._growing.rest()
        if found := self._cut():
            return found
        last = self._said(len(self._held))
        silent = tuple(logprob for _, logprob in self._logprobs)
        return Piece(last.text, last.logprobs + silent)

    def _cut(self) -> Piece | None:
        found = [at for stop in self._stops if (at := self._held.find(stop)) >= 0]
        if not found:
            return None
        text = self._held[: min(found)]
        kept = tuple(logprob for start, logprob in self._logprobs if start < len(text))
        return Piece(text, kept, stopped=True)

    def _doubtful(self) -> int:
        """How many characters at the end may be the beginning of a stop."""
        held = self._held
        lengths = [
            size
            for stop in self._stops
            for size in range(1, min(len(stop), len(held) + 1))
            if held.endswith(stop[:size])
        ]
        return max(lengths, default=0)

    def _said(self, length: int) -> Piece:
        """The first `length` characters, with the tokens that begin in them."""
        ready = tuple(logprob for start, logprob in self._logprobs if start < length)
        later = [(start - length, it) for start, it in self._logprobs if start >= length]
        text, self._held, self._logprobs = self._held[:length], self._held[length:], later
        return Piece(text, ready)
