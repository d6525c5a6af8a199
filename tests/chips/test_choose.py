from __future__ import annotations

import datetime
from typing import Any

import pytest
from msgspec.structs import replace

from bicameral.chips.catalogue import shipped
from bicameral.chips.choose import Asked, Candidates, candidates, choose
from bicameral.chips.find import Found, Look
from bicameral.chips.network import of_config
from bicameral.chips.probes.device import Blind, Device
from bicameral.chips.workload import Measured
from bicameral.errors import ChipError, ConfigError
from tests.chips.shapes import DEEPSEEK_V3, LLAMA_8B, LLAMA_70B

CUDA = {"cuda": "CUDA_VISIBLE_DEVICES", "cpu": ""}
CPU = Found(device=Device(vendor="cpu", name="A CPU", index=0, told_by="cpu", kind="cpu"))


def card(index: int, row: str = "", free: float | None = None, **more: Any) -> Found:
    chip = shipped().chip(row) if row else None
    name = more.pop("name", row)
    device = Device(vendor="nvidia", name=name, index=index, told_by="nvidia-smi", free_gb=free)
    return Found(device=device, chip=chip, **more)


def seen(*found: Found, blind: tuple[Blind, ...] = (), **narrowed: str) -> Look:
    return Look(found=(CPU, *found), blind=blind, narrowed=narrowed)


def here(*found: Found, **narrowed: str) -> Candidates:
    return candidates(seen(*found, **narrowed), CUDA)


def asked(shape: dict[str, Any] | None = LLAMA_8B, *measured: Measured) -> Asked:
    network = None if shape is None else of_config("m", shape)
    return Asked(name="m", network=network, measured=measured)


def measured(chip: str, token: float, **more: Any) -> Measured:
    return Measured(
        model="m",
        chip=chip,
        date=datetime.date(2026, 11, 1),
        source="our lab",
        input=500,
        output=100,
        first_token_s=0.1,
        token_s=token,
        **more,
    )


@pytest.mark.parametrize("order", [("h100-sxm", "h200-sxm", "a30"), ("a30", "h200-sxm")])
def test_the_fastest_chip_is_taken_wherever_it_stands(order: tuple[str, ...]) -> None:
    chosen = choose(asked(), here(*(card(n, row) for n, row in enumerate(order))))
    assert chosen.chip == "cuda:1"
    assert "h200-sxm: " in chosen.reason
    assert "modelled; next best cuda:0, " in chosen.reason


def test_one_chip_is_taken_without_a_plan() -> None:
    assert choose(asked(None), here(card(3, "a30"))).chip == "cuda:3"
    assert choose(asked(None), here(card(0, name="Unheard Of"))).chip == "cuda:0"
    assert choose(asked(None), here()).chip == "cpu"


def test_a_cpu_is_taken_only_if_it_was_measured() -> None:
    among = here(card(0, "a30"), card(1, "h100-sxm"))
    assert choose(asked(), among).chip == "cuda:1"
    fast = choose(asked(LLAMA_8B, measured("cpu", 0.0001)), among)
    assert fast.chip == "cpu"
    assert "A CPU: 0.1 s and 0.1 ms a token, measured; next best cuda:1" in fast.reason
    assert choose(asked(LLAMA_8B, measured("cpu", 0.1)), among).chip == "cuda:1"


def test_a_measurement_beats_the_forecast_of_the_same_chip() -> None:
    among = here(card(0, "a30"), card(1, "h100-sxm"))
    assert choose(asked(LLAMA_8B, measured("h100-sxm", 9.0)), among).chip == "cuda:0"
    named = measured("cuda:0", 0.0001, precision="int4")
    assert choose(asked(LLAMA_8B, named), among).chip == "cuda:0"


def test_what_was_measured_elsewhere_is_left_out() -> None:
    among = here(card(0, "a30"), card(1, "h100-sxm"))
    assert choose(asked(LLAMA_8B, measured("b200-sxm", 0.0001)), among).chip == "cuda:1"
    with pytest.raises(ConfigError, match=r"measured: no chip 'b200-sxn' .*'b200-sxm'"):
        choose(asked(LLAMA_8B, measured("b200-sxn", 0.0001)), among)


def test_measurements_of_all_chips_need_no_network() -> None:
    among = here(card(0, "a30"), card(1, "h100-sxm"))
    rows = measured("a30", 0.01), measured("h100-sxm", 0.02)
    assert choose(asked(None, *rows), among).chip == "cuda:0"


def test_a_chip_that_has_too_little_memory_free_is_not_taken() -> None:
    among = here(card(0, "a30", free=24.0), card(1, "h200-sxm", free=9.0))
    assert choose(asked(), among).chip == "cuda:0"


def test_of_chips_alike_the_one_with_most_free_memory_is_taken() -> None:
    among = here(*(card(n, "h100-sxm", free=free) for n, free in enumerate((40.0, 79.0, 60.0))))
    assert choose(asked(), among).chip == "cuda:1"
    assert choose(asked(None), among).chip == "cuda:1"
    assert choose(asked(), among, {"cuda:1"}).chip == "cuda:2"
    assert choose(asked(None), among, {"cuda:1"}).chip == "cuda:2"


def test_a_busy_chip_is_taken_if_no_other_will_do() -> None:
    among = here(card(0, "a30"), card(1, "h200-sxm"))
    assert choose(asked(), among, {"cuda:1"}).chip == "cuda:0"
    fp8 = replace(asked(LLAMA_70B).precision, weights="fp8", experts="fp8")
    large = replace(asked(LLAMA_70B), precision=fp8)
    assert choose(large, among, {"cuda:1"}).chip == "cuda:1"
    assert choose(asked(), among, {"cuda:0", "cuda:1"}).chip == "cuda:1"


def test_what_is_larger_than_all_memory_is_refused_in_the_planners_words() -> None:
    among = here(card(0, "h100-sxm"), card(1, "h200-sxm"))
    with pytest.raises(
        ChipError, match=r"\[models.m\] chip = \"auto\".*its weights take 1,3\d\d GB, but all"
    ):
        choose(asked(DEEPSEEK_V3), among)


def test_what_needs_several_chips_is_refused_with_what_each_lacks() -> None:
    among = here(card(0, "h100-sxm"), card(1, "h200-sxm"))
    with pytest.raises(ChipError, match="m needs 141 GB on each of 1 NVIDIA H200"):
        choose(asked(LLAMA_70B), among)


def test_unlike_chips_cannot_be_compared_without_a_network() -> None:
    among = here(card(0, "a30"), card(1, "h100-sxm"))
    with pytest.raises(ConfigError, match=r"give network, .*or name the chip"):
        choose(asked(None), among)


def test_chips_that_the_catalogue_does_not_know_are_named() -> None:
    among = here(card(0, name="Odd 1"), card(1, name="Odd 2"))
    with pytest.raises(ConfigError, match=r"knows none of cuda:0 \(Odd 1\), cuda:1 \(Odd 2\)"):
        choose(asked(), among)


def test_without_a_chip_it_says_why_each_was_left_out() -> None:
    blind = Blind(tool="nvidia-smi", vendor="nvidia", why="Driver/library version mismatch")
    with pytest.raises(ChipError, match=r"nvidia-smi: Driver/library .*A CPU: this server does"):
        choose(asked(), candidates(seen(blind=(blind,)), {"cuda": ""}))


def test_only_what_programs_started_from_here_see_is_a_candidate() -> None:
    cards = card(0, "h200-sxm"), card(1, "a30"), card(2, "a30")
    among = here(*cards, CUDA_VISIBLE_DEVICES="1, 2")
    assert [c.name for c in among.every] == ["cpu", "cuda:1", "cuda:2"]
    assert among.left_out == ("cuda:0 is hidden by CUDA_VISIBLE_DEVICES",)
    among = here(*cards, CUDA_VISIBLE_DEVICES="GPU-8f1c")
    assert [c.name for c in among.every] == ["cpu"]
    assert "otherwise than by number" in among.left_out[0]
    assert [c.name for c in here(*cards, CUDA_VISIBLE_DEVICES="").every] == ["cpu"]


def test_a_card_that_only_the_bus_tells_of_is_none() -> None:
    dark = Device(vendor="nvidia", name="NVIDIA GPU 2684", index=0, told_by="/sys")
    among = here(Found(device=dark))
    assert [c.name for c in among.every] == ["cpu"]
    assert among.left_out == ("NVIDIA GPU 2684: only the PCI bus tells of it",)


def test_a_die_has_its_part_of_the_card() -> None:
    whole = next(c for c in shipped().chips.values() if c.dies == 2 and c.per == "card")
    (_, die) = here(card(0, whole.id, parts=2)).every
    assert die.chip
    assert die.chip.fact("memory_gb").value == whole.fact("memory_gb").value / 2
    assert die.chip.peaks[0].value == whole.peaks[0].value / 2
