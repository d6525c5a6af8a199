"""What a prompt looks like, as numbers: hashed n-grams, static word vectors, a few counts.

Words and pairs of words, known by their hashes, are weighted by tf-idf and projected by a fitted
SVD (latent semantic analysis); a CJK character is a word. Static vectors come from wordllama
where it is installed. Everything is arrays: nothing to unpickle, nothing to download.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property, lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from bicameral.errors import ConfigError

Array = NDArray[np.float32]

VOCABULARY = 24_000
STATIC = 256
_CJK = "\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af"
_WORD = re.compile(rf"[{_CJK}]|[^\W\d_{_CJK}]+|\d+|[^\w\s]")
# A longer prompt shows what it is about at its two ends.
_HEAD, _TAIL = 2000, 1000
_OPTION = re.compile(r"^\s*\(?([A-Za-z]|\d{1,2})[).:]\s", re.MULTILINE)
_CODE = re.compile(r"```|\bdef |\breturn\b|[{};]\s*$|\bimport |#include", re.MULTILINE)
_LATEX = re.compile(r"\\[a-zA-Z]+|\$")


@dataclass(frozen=True)
class Features:
    """Turns prompts into vectors. `static`: it was fitted with wordllama and needs it."""

    grams: NDArray[np.uint32]  # V: the hashes it knows
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

    @cached_property
    def _rows(self) -> dict[int, int]:
        return {int(gram): row for row, gram in enumerate(self.grams)}

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
        wide = self.project.shape[1]
        where, weight = self.weighted(text)
        if len(where):
            part = weight @ self.project[where]
            # Soft: a prompt of unknown words stays near 0, it is not blown up to unit length.
            row[:wide] = part / np.sqrt(part @ part + self.soft * self.soft)
        if self.static:
            part = static(text) - self.centre
            row[wide : wide + STATIC] = part / (np.sqrt(part @ part) + 1e-6)
        far = np.clip((counts(text) - self.mean) * self.scale, -self.bound, self.bound)
        row[self.text :] = far

    def weighted(self, text: str) -> tuple[NDArray[np.intp], Array]:
        """Rows of the grams it knows and their tf-idf, as a part of the whole text's length."""
        rows, found = self._rows, grams(text)
        known = [(row, n) for gram, n in found.items() if (row := rows.get(gram)) is not None]
        where = np.array([row for row, _ in known], dtype=np.intp)
        times = np.array([n for _, n in known], dtype=np.float32)
        weight = (1 + np.log(times)) * self.idf[where]
        length = weight @ weight + (len(found) - len(known)) * self.rare * self.rare
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


def grams(text: str) -> dict[int, int]:
    """How often each word and each pair of neighbouring words occurs, by their hashes."""
    words = [_code(word) for word in _WORD.findall(text.lower())]
    found = dict(Counter(words))
    for pair, times in Counter(pairwise(words)).items():
        found[(pair[0] * 0x9E3779B1 + pair[1]) & 0xFFFFFFFF] = times
    return found


@lru_cache(maxsize=1 << 16)
def _code(word: str) -> int:
    # What a number is matters less than how long it is.
    shape = "0" * min(len(word), 4) if word.isdecimal() else word
    return crc32(shape.encode("utf-8", "replace"))


def counts(text: str) -> Array:
    """What can be counted: lengths, shares of kinds of characters, options, code, formulas."""
    data = np.frombuffer(text.encode("utf-8", "replace"), dtype=np.uint8)
    kinds = np.bincount(data, minlength=256)
    size = max(1, len(text))
    digits, upper = kinds[48:58].sum(), kinds[65:91].sum()
    words = text.count(" ") + 1
    signs = sum(kinds[ord(c)] for c in "+-*/=<>^_")
    return np.array(
        [
            np.log1p(len(text)),
            np.log1p(words),
            np.log1p(digits),
            digits / size,
            signs / size,
            upper / size,
            np.log1p(kinds[10]),
            kinds[128:].sum() / max(1, len(data)),
            len(text) / words,
            kinds[63] > 0,
            np.log1p(len(_OPTION.findall(text))),
            np.log1p(len(_CODE.findall(text))),
            np.log1p(len(_LATEX.findall(text))),
            np.log1p(kinds[40]),
        ],
        dtype=np.float32,
    )


def static(text: str) -> Array:
    """The mean of the static vectors of the text's tokens; zeros for an empty text."""
    encode, table = _static()
    tokens = encode(text.encode("utf-8", "replace").decode("utf-8"), add_special_tokens=False).ids
    if not tokens:
        return np.zeros(STATIC, dtype=np.float32)
    mean: Array = table[tokens].mean(axis=0, dtype=np.float32)
    return mean


def has_static() -> bool:
    """Whether wordllama is installed."""
    from importlib.util import find_spec

    return find_spec("wordllama") is not None


@cache
def _static() -> tuple[Any, Any]:
    """The tokenizer and the table of wordllama, from the package itself."""
    try:
        import wordllama
    except ImportError as error:
        raise ConfigError(
            "these estimates were fitted with wordllama, which is not installed: "
            "run `pip install 'bicameral[embed-fast]'`"
        ) from error
    # Weights and tokenizer are in the package; left alone, load() asks a model hub first.
    model = wordllama.WordLlama.load(
        cache_dir=Path(wordllama.__file__).parent, disable_download=True
    )
    return model.tokenizer.encode, model.embedding
