from __future__ import annotations

import pytest
from msgspec.structs import replace

from bicameral.chips.catalogue import shipped
from bicameral.chips.chip import Trust
from bicameral.chips.forecast import Forecast, forecast
from bicameral.chips.forecast import shipped as coefficients
from bicameral.chips.network import of_config
from bicameral.chips.roofline import Layout, Load, Precision, terms
from bicameral.errors import ConfigError
from tests.chips.shapes import LLAMA_8B, LLAMA_70B

BF16 = Precision(weights="bf16", experts="bf16")
FP8 = Precision(weights="fp8", experts="fp8")
SMALL, LARGE = of_config("8B", LLAMA_8B), of_config("70B", LLAMA_70B)
SOME = Load(concurrency=4, read=1024, written=1024)


def large(id: str, ways: int, load: Load = SOME) -> Forecast:
    return forecast(LARGE, shipped().chips[id], FP8, Layout(tensor=ways), load)


@pytest.mark.parametrize("ways", [1, 2, 4, 8])
def test_a_token_takes_longer_than_at_the_speed_of_light(ways: int) -> None:
    setting = (FP8, Layout(tensor=ways), SOME)
    light = terms(LARGE, shipped().chips["h200-sxm"], *setting)[0]
    found = large("h200-sxm", ways).token
    assert light.step + light.reading < found.value < 5 * (light.step + light.reading)
    assert found.low < found.value < found.high


def test_the_faster_chip_is_forecast_faster() -> None:
    found = [large(id, 2).token.value for id in ("b200-sxm", "h200-sxm", "h100-sxm")]
    assert found == sorted(found)


def test_more_requests_give_more_tokens_each_later() -> None:
    few, many = large("h200-sxm", 2), large("h200-sxm", 2, replace(SOME, concurrency=64))
    assert many.throughput.value > few.throughput.value
    assert many.token.value > few.token.value
    assert few.throughput.low < few.throughput.value < few.throughput.high


def test_throughput_is_what_those_that_run_give() -> None:
    found = large("h200-sxm", 2)
    life = found.first.value + 1023 * found.token.value
    assert found.throughput.value == pytest.approx(4 * 1024 / life)


def test_groups_that_attend_alone_run_all_that_is_asked() -> None:
    load = Load(concurrency=64, read=1024, written=1024)
    found = forecast(SMALL, shipped().chips["h200-sxm"], BF16, Layout(data=4), load)
    assert (found.running, found.chips) == (64, 4)


def test_what_is_larger_than_anything_measured_is_said() -> None:
    wide = Load(concurrency=4096, read=64, written=64)
    found = forecast(SMALL, shipped().chips["h200-sxm"], BF16, Layout(data=16), wide)
    assert sum("was fitted on" in note for note in found.notes) == 2


def test_what_memory_holds_back_is_said() -> None:
    found = large("h100-sxm", 2, Load(concurrency=512, read=8000, written=1000))
    assert found.running < 60
    assert any("others wait" in note for note in found.notes)


def test_an_unseen_generation_has_the_other_band_and_says_so() -> None:
    seen = shipped().chips["h100-sxm"]
    found = forecast(LARGE, replace(seen, generation="next"), FP8, Layout(tensor=2), SOME)
    band = coefficients().token_band.unseen
    assert found.token.low == pytest.approx(found.token.value * band[0])
    assert any("generation 'next'" in note for note in found.notes)
    assert not large("h100-sxm", 2).notes


def test_facts_in_doubt_widen_the_band() -> None:
    sure = shipped().chips["h100-sxm"]
    assert sure.bandwidth_gbs
    heard = replace(sure, bandwidth_gbs=replace(sure.bandwidth_gbs, trust=Trust.REMEMBERED))
    narrow = forecast(SMALL, sure, BF16, Layout(), SOME)
    wide = forecast(SMALL, heard, BF16, Layout(), SOME)
    assert wide.token.value == narrow.token.value
    assert wide.token.low < narrow.token.low
    assert wide.token.high > narrow.token.high
    assert wide.notes == ("NVIDIA H100 SXM, memory bandwidth: remembered",)


def test_no_forecast_of_a_kind_that_was_never_fitted() -> None:
    with pytest.raises(ConfigError, match="measure 2 x Intel Xeon 6980P"):
        forecast(SMALL, shipped().chips["xeon-6980p-2s"], BF16, Layout(), SOME)


def test_one_set_of_coefficients_serves_all_chips() -> None:
    """They are two flat tables of numbers: no chip, engine or model has its own."""
    known = coefficients()
    assert all(isinstance(getattr(known.token, n), float) for n in known.token.__struct_fields__)
    assert all(getattr(known.token, n) >= 0 for n in known.token.__struct_fields__)
    assert known.token_band.seen[0] < 1 < known.token_band.seen[1]
