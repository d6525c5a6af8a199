from __future__ import annotations

import json
from pathlib import Path

import pytest

from bicameral.chips.catalogue import shipped
from bicameral.chips.workload import Tokens
from bicameral.chips.workload_file import load, parse
from bicameral.errors import BicameralError, ChipError, ConfigError
from tests.chips.shapes import LLAMA_8B
from tests.chips.work import ENCODER, GOAL, H200, LOAD, MODEL, row, work

TEXT = "\n".join((LOAD, GOAL, MODEL, H200))


def test_the_example_is_a_workload() -> None:
    found = load(Path(__file__).parents[2] / "bench" / "workloads" / "mixed.toml")
    assert sum(pool.count for pool in found.pools) == 8000
    assert sum(model.share for model in found.answering) == pytest.approx(1)
    assert [e.name for e in found.encoders] == ["vision"]


def test_money_is_exact_and_chips_are_of_the_catalogue() -> None:
    (pool,) = work(H200).pools
    assert pool.price == 3_500_000_000
    assert pool.chip is shipped().chips["h200-sxm"]


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("count = 8", "cuont = 8", "did you mean 'count'"),
        ("h200-sxm", "h200-sxn", "did you mean 'h200-sxm'"),
        ("[load]", "[laod]", "did you mean 'load'"),
        ('"3.50"', '"-3.50"', "is no price"),
        ('"3.50"', "3.50", "price_per_hour"),
        ("count = 8", "count = -8", "makes no sense"),
        ("count = 8", "count = 0", "there are none"),
        ("requests_per_hour = 20000", "requests_per_hour = 0", "makes no sense"),
        ("requests_per_hour = 20000", "requests_per_hour = inf", "makes no sense"),
        ("input = 1024", "input = [[100, 0.5], [200, 0.4]]", "shares must be 1"),
        ("token_s = 0.05", "token_s = -1", "makes no sense"),
        ("token_s = 0.05", "percentile = 100", "not between"),
        ("token_s = 0.05", 'minimise = "joy"', "minimise"),
        ('precisions = ["fp8"]', 'precisions = ["fp7"]', "unknown number format"),
        ('precisions = ["fp8"]', "precisions = []", "name at least one"),
        ('name = "small"', 'name = "small"\nshare = 0.5', "add up to 0.5"),
    ],
)
def test_what_makes_no_sense_is_refused_by_name(old: str, new: str, says: str) -> None:
    assert old in TEXT
    with pytest.raises(BicameralError, match=says) as raised:
        parse(TEXT.replace(old, new, 1), "w.toml")
    assert "w.toml" in str(raised.value)
    assert isinstance(raised.value, ConfigError | ChipError)


def test_a_measurement_names_what_there_is() -> None:
    with pytest.raises(ConfigError, match="no such model; did you mean 'small'"):
        work(H200, row("smal", "h200-sxm"))
    with pytest.raises(ConfigError, match="items_s: is missing"):
        work(H200, ENCODER, row("eye", "h200-sxm"))


def test_a_network_is_read_beside_the_file(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(LLAMA_8B), encoding="utf-8")
    file = tmp_path / "w.toml"
    text = '[[models]]\nname = "small"\nnetwork = "config.json"'
    file.write_text("\n".join((LOAD, GOAL, text, H200)), encoding="utf-8")
    (model,) = load(file).models
    assert model.network
    assert model.network.layers == 32
    (tmp_path / "config.json").unlink()
    with pytest.raises(ConfigError, match=r"config\.json"):
        load(file)


def test_chips_found_here_are_a_pool_of_each_kind() -> None:
    h100 = shipped().chips["h100-sxm"]
    text = "\n".join((LOAD, GOAL, MODEL, '[[chips]]\nhere = true\nprice_per_hour = "0"'))
    (pool,) = parse(text, "w.toml", here=lambda: [h100, h100]).pools
    assert (pool.name, pool.count, pool.per_node, pool.price) == ("here:h100-sxm", 2, 2, 0)
    with pytest.raises(ConfigError, match="no chip, count"):
        parse(f"{text}\ncount = 2", "w.toml", here=lambda: [h100])


def test_models_without_a_share_divide_what_is_left() -> None:
    more = MODEL.replace("small", "other").replace("precisions", "share = 0.5\nprecisions")
    found = work(H200, more, MODEL.replace("small", "third"))
    assert {m.name: m.share for m in found.models} == {"small": 0.25, "other": 0.5, "third": 0.25}


def test_lengths_vary_as_given() -> None:
    assert Tokens(((100.0, 1.0),)).variation is None
    known = Tokens(((100.0, 0.5), (300.0, 0.5)))
    assert (known.mean, known.longest, known.variation) == (200, 300, pytest.approx(0.25))


def test_blocks_fit_into_nodes_without_a_gap() -> None:
    (pool,) = work(H200.replace("count = 8", "count = 20\nper_node = 6")).pools
    assert {size: pool.room(size) for size in (1, 2, 4, 8)} == {1: 20, 2: 20, 4: 12, 8: 0}
