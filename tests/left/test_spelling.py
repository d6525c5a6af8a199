"""A model by the byte is just what its tokens are, by brute force; and bytes become text."""

from __future__ import annotations

import random

import pytest

from bicameral.left.spelling import END, Spelled, Speller, drawn, likeliest, mixed
from bicameral.types import Sampling
from tests.left.tiny import FIRST, SECOND, Sayer, Tiny, TinyVoice


@pytest.mark.parametrize("said", [b"", b"a", b"ab", b"abab", b"babba", b"aabbabab"])
@pytest.mark.parametrize("tokens", [FIRST, SECOND])
async def test_the_next_byte_is_that_of_all_ways_to_cut_what_was_said(said, tokens):
    model = Tiny("m", tokens)
    speller = Speller(TinyVoice(model), rare=0)
    for size in range(len(said) + 1):
        found = await speller.next(bytearray(said[:size]))
    assert found == pytest.approx(model.following(said), abs=1e-12)


async def test_rare_ways_to_cut_are_left_out_and_hardly_missed():
    model = Tiny("m", FIRST)
    speller = Speller(TinyVoice(model), rare=0.02)
    said = bytearray()
    while len(said) < 12:
        found = await speller.next(said)
        wanted = model.following(bytes(said))
        assert sum(abs(found.get(b, 0) - p) for b, p in wanted.items()) < 0.2
        said.append(likeliest({b: p for b, p in wanted.items() if b != END}))
    everything = Tiny("m", FIRST)
    speller = Speller(TinyVoice(everything), rare=0)
    for size in range(len(said) + 1):
        await speller.next(said[:size])
    assert model.looks < everything.looks


async def test_who_listened_reads_what_was_said_and_covers_only_its_last_word():
    model = Sayer("m", [b"the", b" sun", b" rise", b"s"])
    speller = Speller(TinyVoice(model), rare=0)
    assert await speller.next(bytearray(b"the sun ri")) == {ord("s"): 1.0}
    assert model.looks == 1  # " ri" can only be " rise" after "the sun"
    assert await speller.next(bytearray(b"the sun rise")) == {ord("s"): 1.0}
    assert model.looks == 2


async def test_who_knows_no_word_for_it_goes_on_from_the_whole_text():
    model = Tiny("m", (b"", b"x", b"y"))
    speller = Speller(TinyVoice(model), rare=0)
    assert await speller.next(bytearray(b"xx")) == pytest.approx(
        {t.text[0] if t.text else END: t.p for t in model.after((1, 1))}
    )


def test_a_mean_has_its_weights_and_knows_all_bytes():
    found = mixed([(1.0, {97: 0.5, 98: 0.5}), (3.0, {97: 1.0})])
    assert found == {97: 0.875, 98: 0.125}


def test_draws_follow_the_shares_the_temperature_and_top_p():
    shares, dice = {97: 0.6, 98: 0.3, END: 0.1}, random.Random(1)

    def counts(sampling):
        draws = [drawn(shares, sampling, dice) for _ in range(4000)]
        return [draws.count(byte) / len(draws) for byte in shares]

    assert counts(Sampling()) == [1, 0, 0]
    assert counts(Sampling(temperature=1)) == pytest.approx([0.6, 0.3, 0.1], abs=0.04)
    sharp = [0.36 / 0.46, 0.09 / 0.46, 0.01 / 0.46]
    assert counts(Sampling(temperature=0.5)) == pytest.approx(sharp, abs=0.04)
    assert counts(Sampling(temperature=1, top_p=0.8)) == pytest.approx([2 / 3, 1 / 3, 0], abs=0.04)
    assert counts(Sampling(temperature=1, top_p=0)) == [1, 0, 0]


def test_what_may_begin_a_stop_sequence_waits():
    text = Spelled(("END",))
    for byte in b"an EN":
        text.add(byte)
    assert text.take() == "an "
    text.add(ord("T"))
    assert text.take() == "ENT"
