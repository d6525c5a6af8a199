"""A Whisper without weights: a tokenizer of five words, and a net that follows a script."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

WORDS = {word: number for number, word in enumerate(("a", "b", "c", "d", "?"))}
SPECIAL = (
    "<|endoftext|>", "<|startoftranscript|>", "<|en|>", "<|zh|>", "<|transcribe|>",
    "<|startofprev|>", "<|notimestamps|>",
)  # fmt: skip
END, BEGIN, EN, ZH, TASK, BEFORE, ZERO = (*range(5, 11), 12)


def at(seconds: float) -> int:
    """The timestamp that long after the window's begin."""
    return ZERO + round(seconds / 0.02)


class Scripted:
    """What CTranslate2's Whisper offers; each attempt takes the next of `script`, else "a"."""

    is_multilingual = True
    n_mels = 80

    def __init__(self) -> None:
        self.script: list[tuple[list[int], Any, float]] = []
        self.prompts: list[list[int]] = []
        self.degrees: list[float] = []

    def encode(self, values: Any) -> Any:
        assert values.shape == [1, 80, 3000]
        return values

    def detect_language(self, _encoded: Any) -> list[list[tuple[str, float]]]:
        return [[("<|zh|>", 0.9), ("<|en|>", 0.1)]]

    def generate(self, _encoded: Any, prompts: list[list[int]], **how: Any) -> list[Any]:
        self.prompts += prompts
        self.degrees.append(how.get("sampling_temperature", 0.0))
        said = self.script.pop(0) if self.script else ([at(0), 0, at(30)], -0.1, 0.0)
        tokens, logprob, silence = said
        if isinstance(logprob, Exception):
            raise logprob
        score = logprob * (len(tokens) + 1) / max(1, len(tokens))
        return [SimpleNamespace(sequences_ids=[tokens], scores=[score], no_speech_prob=silence)]

    def align(self, _encoded: Any, _start: Any, texts: list[list[int]], _frames: int) -> list[Any]:
        return [SimpleNamespace(text_token_probs=[0.5 if t else 0.25 for t in texts[0]])]


@contextmanager
def scripted_whisper() -> Iterator[tuple[str, Scripted]]:
    """A folder that the whisper engine opens for a while, and the net it then gets."""
    import ctranslate2
    from tokenizers import Tokenizer, models, pre_tokenizers

    tokenizer = Tokenizer(models.WordLevel(WORDS, unk_token="?"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.add_special_tokens(list(SPECIAL))
    net = Scripted()
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        tokenizer.save(str(Path(folder) / "tokenizer.json"))
        patch.setattr(ctranslate2.models, "Whisper", lambda *_, **__: net)
        yield folder, net
