from __future__ import annotations

import pytest

from bicameral.chips.catalogue import Catalogue, read, shipped
from bicameral.chips.chip import Fact, Trust
from bicameral.errors import ConfigError

SOURCES = '[sources]\npage = "a page"\n'
ROW = """
[[chip]]
id = "{id}"
name = "A chip"
vendor = "someone"
source = "page"
trust = "official"
{cells}
"""


def one(cells: str, id: str = "some") -> Catalogue:
    return read(SOURCES + ROW.format(id=id, cells=cells))


def test_the_shipped_catalogue_is_accepted_and_every_cell_is_sourced() -> None:
    catalogue = shipped()
    assert len(catalogue.chips) > 50
    for chip in catalogue.chips.values():
        cells = [getattr(chip, f) for f in chip.__struct_fields__] + list(chip.peaks)
        facts = [cell for cell in cells if isinstance(cell, Fact)]
        assert facts, chip.id
        assert all(fact.source in catalogue.sources for fact in facts)


def test_a_chip_is_found_by_id_name_or_alias() -> None:
    found = {shipped().chip(n).id for n in ("h100-sxm", "NVIDIA H100 SXM", "nvidia h100-sxm-80gb")}
    assert found == {"h100-sxm"}
    with pytest.raises(ConfigError, match="did you mean 'h100-sxm'"):
        shipped().chip("h100-smx")


def test_dense_and_sparse_peaks_are_apart() -> None:
    chip = shipped().chip("h100-sxm")
    assert chip.rate("bf16").value == 989
    assert chip.rate("fp4").value == 989  # no fp4: unpacked and multiplied in bf16
    assert not chip.native("fp4")
    assert shipped().chip("b300-sxm").rate("int8").value == 153


@pytest.mark.parametrize(
    ("id", "cells", "why"),
    [
        ("h100-sxm", "dense = { bf16 = 1979 }", "sparse peak; dense is 989"),
        ("l40s", "dense = { bf16 = 362, fp8 = 1466 }", "sparse peak; dense is 733"),
        ("rtx-4090", "dense = { fp8 = 1321 }", "sparse peak"),
        ("gb200", "dense = { bf16 = 4500 }", "sparse peak"),
        ("new", "dense = { bf16 = 1000, fp8 = 4000 }", "over twice bf16"),
        ("new", "dense = { fp8 = 1000, fp4 = 4000 }", "over three times fp8"),
        ("new", "dense = { bf16 = 800 }\nsparse = { bf16 = 800 }", "about half the sparse"),
        ("new", "bandwidth_gbs = 3.35", "is it in TB/s"),
        ("new", "bandwidth_gbs = 3350000", "is it in MB/s"),
        ("new", "memory_gb = 81920", "is it in MB"),
        ("new", "memory_gb = 0.08", "is it in TB"),
        ("new", "dense = { bf16 = 0.989 }", "is it in PFLOP/s"),
        ("new", "dense = { bf16 = 989000 }", "is it in GFLOP/s"),
        ("new", "power_w = 0.7", "is it in kW"),
        ("br100", "bandwidth_gbs = 2300", "link to other chips"),
        ("new", "bandwidth_gbs = 900\nlink_gbs = 900", "one is the other's"),
        ("new", "bandwidth_gbs = 1600\nlink_gbs = 1000", "over half the memory's"),
        ("ascend-910c", "dense = { bf16 = 400 }", "one die's, but the row is per card"),
        ("bi-v150", 'per = "die"\nmemory_gb = 64', "whole card's, but the row is per die"),
        ("arc-pro-b60", 'per = "die"\nmemory_gb = 48', "whole card's, but the row is per die"),
        ("new", 'per = "board"', "per board is ambiguous"),
        ("b300-sxm", "dense = { bf16 = 2250, int8 = 7500 }", "int8 is cut to 153"),
        ("gb300", "dense = { bf16 = 2500, int8 = 4500 }", "almost no int8"),
        ("graphcore-gc200", "power_w = 1500", "M2000 machine of four"),
        ("new", "dense = { bf12 = 100 }", "unknown number format 'bf12'"),
        ("new", 'memory_gb = { value = 80, source = "hearsay" }', "not under \\[sources\\]"),
        ("new", 'memory_gb = { value = 80, trust = "sure" }', "trust"),
        ("new", "memory = 80", "memory"),
    ],
)
def test_a_trap_is_refused_with_its_reason(id: str, cells: str, why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        one(cells, id)


def test_a_cell_without_source_or_trust_is_refused() -> None:
    row = '[[chip]]\nid = "x"\nname = "X"\nvendor = "v"\nmemory_gb = 80\n'
    with pytest.raises(ConfigError, match="say where it is from"):
        read(SOURCES + row)
    with pytest.raises(ConfigError, match="has no trust"):
        read(SOURCES + row + 'source = "page"\n')


def test_two_rows_of_one_id_are_refused() -> None:
    row = ROW.format(id="x", cells="memory_gb = 80")
    with pytest.raises(ConfigError, match="two rows"):
        read(SOURCES + row + row)


def test_what_is_less_sure_may_be_further_off() -> None:
    sure = Fact(value=100, source="page", trust=Trust.OFFICIAL)
    heard = Fact(value=100, source="page", trust=Trust.REPORTED)
    disputed = Fact(value=100, source="page", trust=Trust.REPORTED, doubt=True)
    stated = Fact(value=100, source="page", trust=Trust.REPORTED, low=40, high=100)
    assert sure.span == (100, 100)
    assert heard.span == pytest.approx((90, 110))
    assert disputed.span == pytest.approx((70, 130))
    assert stated.span == (40, 100)
    assert "bf16 peak: measured, disputed" in shipped().chip("gb10").doubts()
    assert shipped().chip("h200-sxm").doubts() == ()
    assert "memory bandwidth: reported, disputed" in shipped().chip("ascend-910b").doubts()


def test_what_is_unknown_is_named() -> None:
    chip = one("memory_gb = 80").chips["some"]
    with pytest.raises(ConfigError, match="bandwidth_gbs of A chip is unknown"):
        chip.fact("bandwidth_gbs")
    with pytest.raises(ConfigError, match="no dense fp8 or bf16 peak"):
        chip.rate("fp8")
