"""Tokens to text: whole characters, stops that lie across tokens, and which token said what."""

from __future__ import annotations

import random

import pytest

from bicameral.engines.hf.spell import Piece, Speech, Spelling
from bicameral.types import TokenLogprob
from tests.engines import nets

pytest.importorskip("transformers", reason="needs `make torch`: see the Makefile")

WORDS = nets.tokenizer()


def pieces(text: str | list[int], *stops: str) -> list[Piece]:
    """What is said of `text`, token by token, then at the end."""
    tokens = WORDS.encode(text) if isinstance(text, str) else text
    spelling = Spelling(WORDS)
    speech, said = Speech(spelling, stops), []
    for token in tokens:
        said.append(speech.add(token, TokenLogprob(spelling.one(token), 0.0)))
        if said[-1].stopped:
            return said
    return [*said, speech.end()]


def told(said: list[Piece]) -> str:
    return "".join(logprob.token for piece in said for logprob in piece.logprobs)


def test_a_character_of_several_tokens_is_said_whole() -> None:
    assert [piece.text for piece in pieces("a北b")] == ["a", "", "", "北", "b", ""]
    assert [len(piece.logprobs) for piece in pieces("a北b")] == [1, 0, 0, 3, 1, 0]


def test_half_a_character_is_said_at_the_end_or_when_it_can_be_none() -> None:
    half = WORDS.encode("北")[:2]
    assert [piece.text for piece in pieces(half)] == ["", "", "\ufffd"]
    never = [piece.text for piece in pieces(half[:1] * 12)]
    assert "".join(never) == "\ufffd" * 12
    assert sum(map(bool, never)) > 1


def test_what_may_be_a_stop_is_held_back() -> None:
    said = pieces("an end enough", "enough", "never")
    assert [piece.text for piece in said[:5]] == ["a", "", "n ", "", ""]
    assert "".join(piece.text for piece in said) == told(said) == "an end "
    assert said[-1].stopped


def test_a_stop_that_does_not_come_is_said() -> None:
    said = pieces("an en", "enough")
    assert "".join(piece.text for piece in said) == told(said) == "an en"
    assert not said[-1].stopped


def test_control_tokens_say_nothing_and_are_told() -> None:
    end = WORDS.eos_token_id
    said = pieces([*WORDS.encode("a"), end, end])
    assert "".join(piece.text for piece in said) == "a"
    assert told(said) == "a<|end|><|end|>"


def cut(text: str, stops: tuple[str, ...]) -> int:
    """Where the stop begins that is complete first, the longest of them if several are."""
    for end in range(len(text) + 1):
        found = [end - len(stop) for stop in stops if text[:end].endswith(stop)]
        if found:
            return min(found)
    return len(text)


@pytest.mark.parametrize("seed", range(20))
def test_whatever_comes_is_what_the_tokenizer_says_up_to_the_first_stop(seed: int) -> None:
    chance = random.Random(seed)
    text = "".join(chance.choices("ab北 ", k=60))
    stops = tuple("".join(chance.choices("ab北 ", k=chance.randint(2, 6))) for _ in range(3))
    at = cut(text, stops)
    said = pieces(text, *stops)
    assert "".join(piece.text for piece in said) == text[:at]
    tokens = len(WORDS.encode(text[:at]))
    assert sum(len(piece.logprobs) for piece in said) == tokens
