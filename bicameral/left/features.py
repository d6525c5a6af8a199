"""What a prompt looks like, as numbers: hashed n-grams, static word vectors, a few counts.

Words and pairs of words, known by their hashes, are weighted by tf-idf and projected by a fitted
SVD (latent semantic analysis); a CJK character is a word. Static vectors come from wordllama
where it is installed. Everything is arrays: nothing to unpickle, nothing to download.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from itertools import chain
from typing import Any
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from bicameral.engines import static as wordllama
from bicameral.errors import ConfigError

Array = NDArray[np.float32]

VOCABULARY = 24_000
STATIC = 256
_CJK = "\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af"
_WORD = re.compile(rf"[{_CJK}]|[^\W\d_{_CJK}]+|\d+|[^\w\s]")
# A longer prompt shows what it is about at its two ends.
_HEAD, _TAIL = 2000, 1000
_OPTION = re.compile(r"^ *\(?(?:[A-Za-z]|\d{1,2})[).:] ", re.MULTILINE)
_SIGNS = [ord(c) for c in "+-*/=<>^_"]
_CURLY = [ord(c) for c in "{};"]
_LATEX = [ord(c) for c in "\\$"]
_CODE = ("def ", "return", "import ", "#include", "```", "class ")


@dataclass(frozen=True)
class Features:
    """Turns prompts into vectors. `static`: it was fitted with wordllama and needs it."""

    grams: NDArray[np.uint32]  # V: the hashes it knows, ascending
    idf: Array  # V
    rare: float  # the idf of a word it does not know
    project: Array  # V x D
    soft: float
    static: bool
    centre: Array  # STATIC
    mean: Array  # of the counts
    scale: Array
    bound: float  # counts further from the usual say no more than these

    def __post_init__(self) -> None:
        if self.static:
            _static()

    @property
    def text(self) -> int:
        """How many numbers, the first ones, tell what it says; the rest are counts."""
        return int(self.project.shape[1]) + STATIC * self.static

    @property
    def size(self) -> int:
        """Numbers per prompt."""
        return self.text + len(self.mean)

    def __call__(self, prompts: Sequence[str]) -> Array:
        """One row per prompt."""
        out = np.zeros((len(prompts), self.size), dtype=np.float32)
        for row, prompt in zip(out, prompts, strict=True):
            self._fill(row, shortened(prompt))
        return out

    def _fill(self, row: Array, text: str) -> None:
        wide, words = self.project.shape[1], _WORD.findall(text)
        where, weight = self.weighted(words)
        if len(where):
            part = weight @ self.project[where]
            # Soft: a prompt of unknown words stays near 0, it is not blown up to unit length.
            row[:wide] = part / np.sqrt(part @ part + self.soft * self.soft)
        if self.static:
            part = static(words) - self.centre
            row[wide : wide + STATIC] = part / (np.sqrt(part @ part) + 1e-6)
        far = (counts(text, len(words)) - self.mean) * self.scale
        row[self.text :] = np.clip(far, -self.bound, self.bound)

    def weighted(self, words: Sequence[str]) -> tuple[NDArray[np.intp], Array]:
        """Rows of the grams it knows and their tf-idf, as a part of the whole text's length."""
        found, times = grams(words)
        row = np.minimum(np.searchsorted(self.grams, found), max(0, len(self.grams) - 1))
        known = (
            self.grams[row] == found if len(self.grams) else np.zeros(len(found), dtype=np.bool_)
        )
        where = row[known]
        weight = (1 + np.log(times[known].astype(np.float32))) * self.idf[where]
        length = weight @ weight + (len(found) - len(where)) * self.rare * self.rare
        return where, weight / np.sqrt(length + 1e-9)

    def pack(self) -> dict[str, Any]:
        """Arrays and JSON values from which `unpack` makes it again; half precision suffices."""
        return {
            "grams": self.grams,
            "idf": self.idf,
            "rare": self.rare,
            "project": self.project.astype(np.float16),
            "soft": self.soft,
            "static": self.static,
            "centre": self.centre,
            "mean": self.mean,
            "scale": self.scale,
            "bound": self.bound,
        }

    @classmethod
    def unpack(cls, parts: dict[str, Any]) -> Features:
        """The inverse of `pack`. Raises ConfigError if wordllama is needed and missing."""
        return cls(**{**parts, "project": parts["project"].astype(np.float32)})


def shortened(text: str) -> str:
    """Both ends of a long text, so that the work is bounded."""
    return text if len(text) <= _HEAD + _TAIL else f"{text[:_HEAD]}\n{text[-_TAIL:]}"


def split(text: str) -> list[str]:
    """Words, numbers, signs and CJK characters, of both ends of a long text."""
    found: list[str] = _WORD.findall(shortened(text))
    return found


def grams(words: Sequence[str]) -> tuple[NDArray[np.uint32], NDArray[np.intp]]:
    """The hashes of words and of pairs of neighbouring words, and how often each occurs."""
    codes = np.fromiter(map(_code, words), dtype=np.uint32, count=len(words))
    pairs = codes[:-1] * np.uint32(0x9E3779B1) + codes[1:]
    return np.unique(np.concatenate([codes, pairs]), return_counts=True)


@lru_cache(maxsize=1 << 16)
def _code(word: str) -> int:
    # What a number is matters less than how long it is.
    shape = "0" * min(len(word), 4) if word.isdecimal() else word.lower()
    return crc32(shape.encode("utf-8", "replace"))


def counts(text: str, words: int) -> Array:
    """What can be counted: lengths, shares of kinds of characters, options, code, formulas."""
    data = np.frombuffer(text.encode("utf-8", "replace"), dtype=np.uint8)
    kinds = np.bincount(data, minlength=256).astype(np.float32)
    size = max(1, len(text))
    digits = kinds[48:58].sum()
    amounts = (
        len(text),
        words,
        digits,
        kinds[10],  # lines
        len(_OPTION.findall(text)),
        sum(text.count(mark) for mark in _CODE) + kinds[_CURLY].sum(),
        kinds[_LATEX].sum(),
        kinds[40],  # brackets
    )
    shares = (
        digits / size,
        kinds[_SIGNS].sum() / size,
        kinds[65:91].sum() / size,
        kinds[128:].sum() / max(1, len(data)),
        len(text) / max(1, words) / 10,
        float(kinds[63] > 0),  # a question mark
    )
    return np.concatenate([np.log1p(np.array(amounts)), shares]).astype(np.float32)


def static(words: Sequence[str]) -> Array:
    """The mean of the static vectors of the words' tokens; zeros without any."""
    table = _static()[1]
    tokens = list(chain.from_iterable(map(_tokens, words)))
    if not tokens:
        return np.zeros(STATIC, dtype=np.float32)
    mean: Array = table[tokens].mean(axis=0, dtype=np.float32)
    return mean


@lru_cache(maxsize=1 << 16)
def _tokens(word: str) -> tuple[int, ...]:
    # Word by word, as most words come again and the tokenizer is the slowest part.
    clean = word.encode("utf-8", "replace").decode("utf-8")
    return tuple(_static()[0](clean, add_special_tokens=False).ids)


def has_static() -> bool:
    """Whether wordllama is installed."""
    from importlib.util import find_spec

    return find_spec("wordllama") is not None


@cache
def _static() -> tuple[Any, Any]:
    """The tokenizer and the table of wordllama, from the package itself."""
    try:
        model = wordllama.load()
    except ImportError as error:
        raise ConfigError(
            "these estimates were fitted with wordllama, which is not installed: "
            "run `pip install 'bicameral[embed-fast]'`"
        ) from error
    return model.tokenizer.encode, model.embedding
