"""Whisper's tokens: languages, prompts, and what it wrote cut into segments by its timestamps."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from msgspec import Struct

from bicameral.engines.media.optional import library
from bicameral.errors import WeightsError

STEP = 0.02  # seconds from one timestamp to the next
CONTEXT = 448  # tokens, half of them for what was said before
_LANGUAGE = re.compile(r"<\|([a-z]{2,3})\|>")


class Piece(Struct, frozen=True):
    """What was said from `start` to `end`, in seconds within the window; its text tokens."""

    start: float
    end: float
    tokens: tuple[int, ...]


class Vocabulary:
    """The tokenizer of a Whisper model that knows many languages."""

    def __init__(self, file: Path) -> None:
        if not file.is_file():
            raise WeightsError(f"{file} is missing: take the tokenizer.json of the same Whisper")
        self._tokenizer: Any = library("tokenizers", extra="hear").Tokenizer.from_file(str(file))
        # A prompt is text: <|en|> in it is six characters, not a language.
        self._tokenizer.encode_special_tokens = True
        self._end = self._special("<|endoftext|>")
        self._zero = self._special("<|notimestamps|>") + 1
        self._before = self._special("<|startofprev|>")
        self._begin = self._special("<|startoftranscript|>")
        self._task = self._special("<|transcribe|>")
        self.languages = self._languages()

    def _special(self, token: str) -> int:
        number = self._tokenizer.token_to_id(token)
        if number is None:
            raise WeightsError(f"the tokenizer has no {token}: is this Whisper, multilingual?")
        return int(number)

    def _languages(self) -> dict[str, int]:
        """Every special token that is a language, by its code."""
        tokens = self._tokenizer.get_vocab(with_added_tokens=True).items()
        between = range(self._begin + 1, self._task)
        found = ((_LANGUAGE.fullmatch(token), number) for token, number in tokens)
        return {match[1]: number for match, number in found if match and number in between}

    def encode(self, text: str) -> list[int]:
        """Plain text, with the space that sets off what follows."""
        return list(self._tokenizer.encode(" " + text.strip(), add_special_tokens=False).ids)

    def text(self, tokens: Sequence[int]) -> str:
        """The text of the tokens, without what is no text."""
        return str(self._tokenizer.decode([t for t in tokens if t < self._end])).strip()

    def start(self, language: str) -> list[int]:
        """What the model is told first: whose language it hears, and to write it down."""
        return [self._begin, self.languages[language], self._task]

    def prompt(self, language: str, before: Sequence[int]) -> list[int]:
        """What was said before, as much as fits, then the start."""
        last = list(before)[-(CONTEXT // 2 - 1) :]
        return [*([self._before, *last] if last else []), *self.start(language)]

    def pieces(self, tokens: Sequence[int], seconds: float) -> tuple[list[Piece], float]:
        """The segments of a window that lasts `seconds`, and how far it was heard out.

        Two timestamps side by side end one segment and begin the next. What comes after the last
        such pair is cut off by the window's end, unless it is closed by a timestamp of its own: it
        is left for the next window.
        """
        marks = [token >= self._zero for token in tokens]
        cuts = [i for i in range(1, len(tokens)) if marks[i - 1] and marks[i]]
        closed = len(tokens) > 1 and marks[-1] and not marks[-2]
        if not cuts:
            end = self._time(tokens[-1], seconds) if closed else seconds
            return self._piece(tokens, end, seconds), seconds
        if closed:
            cuts.append(len(tokens))
        pieces = [
            piece
            for begin, end in pairwise([0, *cuts])
            for piece in self._piece(tokens[begin:end], seconds, seconds)
        ]
        return pieces, seconds if closed else self._time(tokens[cuts[-1] - 1], seconds)

    def _piece(self, tokens: Sequence[int], end: float, seconds: float) -> list[Piece]:
        """The tokens as one segment; none if they are no text or take no time."""
        if not tokens:
            return []
        start = self._time(tokens[0], seconds) if tokens[0] >= self._zero else 0.0
        if tokens[-1] >= self._zero:
            end = self._time(tokens[-1], seconds)
        text = tuple(token for token in tokens if token < self._end)
        return [Piece(start, end, text)] if end > start and self.text(text) else []

    def _time(self, token: int, seconds: float) -> float:
        return min((token - self._zero) * STEP, seconds)
