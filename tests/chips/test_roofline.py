from __future__ import annotations

import pytest

from bicameral.chips.catalogue import shipped
from bicameral.chips.chip import Chip
from bicameral.chips.network import Network, of_config
from bicameral.chips.roofline import Layout, Load, Precision, Terms, batch, room, terms
from bicameral.errors import ConfigError
from tests.chips.shapes import DEEPSEEK_V3, GPT_OSS, LLAMA_8B, LLAMA_70B

BF16 = Precision(weights="bf16", experts="bf16")
FP8 = Precision(weights="fp8", experts="fp8")
FP4 = Precision(weights="bf16", experts="fp4")
SMALL, LARGE = of_config("8B", LLAMA_8B), of_config("70B", LLAMA_70B)
V3, OSS = of_config("V3", DEEPSEEK_V3), of_config("oss", GPT_OSS)
ALONE = Load(concurrency=1, read=1000, written=100)


def chip(id: str) -> Chip:
    return shipped().chips[id]


def token(
    network: Network, id: str, precision: Precision, layout: Layout, load: Load = ALONE
) -> Terms:
    return terms(network, chip(id), precision, layout, load)[0]


def test_one_sequence_waits_for_the_weights_and_its_cache() -> None:
    weights = 2 * (SMALL.always + SMALL.head)
    cache = 2 * 2 * 32 * 8 * 128 * 1050
    found = token(SMALL, "h100-sxm", BF16, Layout())
    assert found.step == pytest.approx((weights + cache) / 3350e9)
    assert found.reading == found.reductions == found.moved == found.unpacked == 0


def test_a_large_batch_waits_for_arithmetic() -> None:
    many = Load(concurrency=2000, read=8, written=8)
    found = token(SMALL, "h100-sxm", BF16, Layout(), many)
    assert found.step == pytest.approx(2 * 2000 * SMALL.active / 989e12)


def test_others_prompts_are_read_between_the_steps() -> None:
    load = Load(concurrency=11, read=1000, written=100)
    weights = 2 * 1000 * SMALL.always / 989e12
    pairs = 1000**2 * 2 * 32 * 128 * 32 / 989e12
    found = token(SMALL, "h100-sxm", BF16, Layout(), load)
    assert found.reading == pytest.approx((weights + pairs) * 10 / 100)


def test_several_chips_share_the_work_and_must_agree() -> None:
    load = Load(concurrency=4, read=1000, written=100)
    one = token(LARGE, "b200-sxm", FP8, Layout(), load)
    four = token(LARGE, "b200-sxm", FP8, Layout(tensor=4), load)
    assert four.step == pytest.approx(one.step / 4)
    assert four.reductions == pytest.approx(160e-6)
    sent = 2 * 80 * 4 * 8192 * 2 * 2 * 3 / 4
    assert four.moved == pytest.approx(sent / 900e9)


def test_the_cache_cannot_be_split_further_than_its_heads() -> None:
    load = Load(concurrency=64, read=4000, written=100)
    eight = room(V3, chip("h200-sxm"), FP8, Layout(tensor=8), load).sequence
    assert eight == V3.kept(4100, 2.0)
    assert room(LARGE, chip("h200-sxm"), FP8, Layout(tensor=8), load).sequence == pytest.approx(
        LARGE.kept(4100, 2.0) / 8
    )


def test_a_batch_beyond_memory_is_capped() -> None:
    load = Load(concurrency=4096, read=8000, written=1000)
    space = room(SMALL, chip("h100-sxm"), BF16, Layout(), load)
    held = (80e9 * 0.95 - 2 * SMALL.parameters) / SMALL.kept(9000, 2.0)
    assert space.sequences == pytest.approx(held)
    assert batch(SMALL, chip("h100-sxm"), BF16, Layout(), load) == pytest.approx(held)
    same = Load(concurrency=held, read=8000, written=1000)
    assert token(SMALL, "h100-sxm", BF16, Layout(), load) == token(
        SMALL, "h100-sxm", BF16, Layout(), same
    )


def test_weights_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ConfigError, match="70B needs 141 GB on each of 1"):
        token(LARGE, "h100-sxm", BF16, Layout())


def test_experts_are_read_as_the_batch_touches_them() -> None:
    few = token(V3, "h200-sxm", FP8, Layout(tensor=8), ALONE)
    more = token(
        V3, "h200-sxm", FP8, Layout(tensor=8), Load(concurrency=32, read=1000, written=100)
    )
    experts = V3.expert * 256 * (V3.covered(32) - V3.covered(1)) / 8
    cache = 31 * V3.kept(1050, 2.0)
    assert more.step - few.step == pytest.approx((experts + cache) / 4800e9)


def test_groups_that_attend_alone_share_the_experts() -> None:
    load = Load(concurrency=64, read=1000, written=100)
    found = token(V3, "h200-sxm", FP8, Layout(data=8, experts=8), load)
    own = V3.always + 2 * V3.head
    experts = V3.expert * 256 * V3.covered(64) / 8
    assert found.step == pytest.approx((own + experts + 8 * V3.kept(1050, 2.0)) / 4800e9)
    assert found.reductions == found.moved == 0


def test_a_format_that_the_chip_lacks_is_unpacked() -> None:
    old = token(OSS, "h100-sxm", FP4, Layout())
    new = token(OSS, "b200-sxm", FP4, Layout())
    touched = OSS.expert * 128 * OSS.covered(1) * 0.5625
    assert old.unpacked == pytest.approx(touched / 3350e9)
    assert new.unpacked == 0


def test_the_first_token_waits_for_prompts() -> None:
    load = Load(concurrency=5, read=1000, written=100)
    found = terms(SMALL, chip("h100-sxm"), BF16, Layout(), load)[1]
    assert found.before == pytest.approx(4 * found.own)
    assert found.requests == pytest.approx(5e-6)
    longer = terms(
        SMALL, chip("h100-sxm"), BF16, Layout(), Load(concurrency=5, read=8000, written=9)
    )
    assert longer[1].own > 8 * found.own


def test_a_chip_without_the_facts_is_refused() -> None:
    with pytest.raises(ConfigError, match="link_gbs of Apple M3 Ultra is unknown"):
        token(SMALL, "m3-ultra", BF16, Layout(tensor=2))


def test_a_format_that_nobody_knows_is_refused() -> None:
    with pytest.raises(ConfigError, match="unknown number format 'fp3'"):
        Precision(weights="fp3", experts="bf16")


def test_requests_that_write_nothing_are_read_all_the_same() -> None:
    load = Load(concurrency=3, read=1000, written=0)
    found = token(SMALL, "h100-sxm", BF16, Layout(), load)
    assert found.reading == pytest.approx(
        2 * terms(SMALL, chip("h100-sxm"), BF16, Layout(), load)[1].own
    )
