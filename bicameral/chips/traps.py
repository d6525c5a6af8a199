"""Refuses rows of the catalogue that repeat a mistake found in published tables of chips."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from bicameral.chips.chip import DTYPES, Chip, Fact

# What published tables got wrong: (chip, what, the wrong number, why). Within 1 %.
_KNOWN = (
    ("h100-sxm", "bf16", 1979, "it is the sparse peak; dense is 989"),
    ("h100-sxm", "fp8", 3958, "it is the sparse peak; dense is 1,978"),
    ("h200-sxm", "bf16", 1979, "it is the sparse peak; dense is 989"),
    ("h200-sxm", "fp8", 3958, "it is the sparse peak; dense is 1,978"),
    ("gh200", "bf16", 1979, "it is the sparse peak; dense is 989"),
    ("b100", "bf16", 3500, "it is the sparse peak; dense is half of it"),
    ("b200-sxm", "bf16", 4500, "it is the sparse peak; dense is 2,250"),
    ("gb200", "bf16", 4500, "it is a sparse peak; dense is 2,500"),
    ("gb200", "bf16", 5000, "it is the sparse peak; dense is 2,500"),
    ("l40s", "fp8", 1466, "it is the sparse peak; dense is 733"),
    ("l40s", "int8", 1466, "it is the sparse peak; dense is 733"),
    ("rtx-4090", "fp8", 1321, "it is the sparse peak"),
    ("b300-sxm", "int8", 7500, "int8 is cut to 153 on this chip"),
    ("gb300", "int8", 7500, "int8 is cut to 165 on this chip"),
    ("br100", "bandwidth_gbs", 2300, "it is the link to other chips; memory has 1,640"),
    ("mtt-s5000", "bf16", 100, "it is the older S4000's"),
    ("graphcore-gc200", "power_w", 1500, "it is the M2000 machine of four"),
    ("graphcore-bow", "power_w", 1250, "it is the Bow-2000 machine of four"),
    ("northpole", "power_w", 672, "it is a system of 16 cards"),
)
# What is sold with two dies, and what one of them has: (chip, what, one die's, the card's).
_TWO_DIES = (
    ("ascend-910c", "bf16", 400, 800),
    ("mi250", "bf16", 181, 362),
    ("mi250x", "bf16", 191.5, 383),
    ("bi-v150", "memory_gb", 32, 64),
    ("bi-v150", "power_w", 175, 350),
    ("arc-pro-b60", "memory_gb", 24, 48),
    ("arc-pro-b60", "bf16", 98.3, 196.6),
)
# Dies that lost int8: their rate against bf16 must stay a fraction.
_NO_INT8 = ("b300", "gb300")
# Sane ranges, and what a number outside them looks like: (field, least, most, below, above).
_RANGES = (
    ("bandwidth_gbs", 20.0, 20_000.0, "TB/s", "MB/s, or a whole rack's"),
    ("achieved_gbs", 20.0, 20_000.0, "TB/s", "MB/s, or a whole rack's"),
    ("link_gbs", 1.0, 5_000.0, "TB/s", "Gbit/s or MB/s"),
    ("memory_gb", 2.0, 4_096.0, "TB", "MB"),
    ("power_w", 5.0, 3_000.0, "kW", "mW, or a whole system's"),
)
_SRAM = {"bandwidth_gbs": (5e3, 3e7), "memory_gb": (0.1, 64.0), "power_w": (5.0, 3e4)}
_PEAK = (5.0, 30_000.0)


def traps(chip: Chip, sources: Mapping[str, str]) -> Iterator[str]:
    """What is wrong with this row, each as one sentence; nothing if it may be used."""
    yield from _unsourced(chip, sources)
    yield from _known(chip)
    yield from _dies(chip)
    yield from _sparse(chip)
    yield from _integers(chip)
    yield from _units(chip)
    yield from _link(chip)


def _facts(chip: Chip) -> Iterator[tuple[str, Fact]]:
    """Every fact of the row by its name; dense peaks by their dtype."""
    for peak in chip.peaks:
        yield (f"sparse {peak.dtype}" if peak.sparse else peak.dtype), peak
    for name in chip.__struct_fields__:
        if isinstance(fact := getattr(chip, name), Fact):
            yield name, fact


def _is(value: float, other: float) -> bool:
    return abs(value - other) <= 0.01 * other


def _unsourced(chip: Chip, sources: Mapping[str, str]) -> Iterator[str]:
    for what, fact in _facts(chip):
        if fact.source not in sources:
            yield f"{what}: the source '{fact.source}' is not under [sources]; say what it is"
    for peak in chip.peaks:
        if peak.dtype not in DTYPES:
            yield f"unknown number format '{peak.dtype}'; known: {', '.join(DTYPES)}"


def _known(chip: Chip) -> Iterator[str]:
    named = dict(_facts(chip))
    for id, what, wrong, why in _KNOWN:
        if chip.id == id and what in named and _is(named[what].value, wrong):
            yield f"{what} {named[what].value:g} is wrong: {why}"


def _dies(chip: Chip) -> Iterator[str]:
    """A card of two dies: its numbers must be of what `per` says."""
    named = dict(_facts(chip))
    for id, what, one, both in _TWO_DIES:
        if chip.id != id or what not in named:
            continue
        value = named[what].value
        if chip.per == "die" and _is(value, both):
            yield f"{what} {value:g} is the whole card's, but the row is per die ({one:g})"
        if chip.per == "card" and _is(value, one):
            yield f"{what} {value:g} is one die's, but the row is per card ({both:g})"
    if chip.per == "board":
        yield "per board is ambiguous: enter one chip or die, and how many a board has in `dies`"


def _sparse(chip: Chip) -> Iterator[str]:
    """Sparse peaks sold as dense show: as high as the sparse one, or four times a wider format."""
    dense = {p.dtype: p.value for p in chip.peaks if not p.sparse}
    for peak in chip.peaks:
        if peak.sparse and dense.get(peak.dtype, 0) > 0.75 * peak.value:
            yield f"{peak.dtype}: the dense peak must be about half the sparse {peak.value:g}"
    if {"bf16", "fp8"} <= dense.keys() and dense["fp8"] > 2.2 * dense["bf16"]:
        yield f"fp8 {dense['fp8']:g} is over twice bf16 {dense['bf16']:g}: it looks sparse"
    if {"fp8", "fp4"} <= dense.keys() and dense["fp4"] > 3.2 * dense["fp8"]:
        yield f"fp4 {dense['fp4']:g} is over three times fp8 {dense['fp8']:g}: it looks sparse"


def _integers(chip: Chip) -> Iterator[str]:
    dense = {p.dtype: p.value for p in chip.peaks if not p.sparse}
    for id in _NO_INT8:
        if chip.id.startswith(id) and dense.get("int8", 0) > 0.2 * dense.get("bf16", 0):
            yield f"int8 {dense['int8']:g}: this die has almost no int8 (about 160)"


def _units(chip: Chip) -> Iterator[str]:
    """Numbers outside what such chips have: a unit was swapped."""
    if chip.kind == "neuromorphic":
        return
    named = dict(_facts(chip))
    for field, least, most, low, high in _RANGES:
        if chip.kind == "sram":
            least, most = _SRAM.get(field, (least, most))
        value = named[field].value if field in named else least
        if value < least:
            yield f"{field} {value:g} is too small: is it in {low}?"
        if value > most:
            yield f"{field} {value:g} is too large: is it in {high}?"
    yield from _peak_units(chip)


def _peak_units(chip: Chip) -> Iterator[str]:
    most = _PEAK[1] * (10 if chip.kind == "sram" else 1)
    for peak in chip.peaks:
        if not _PEAK[0] <= peak.value <= most:
            unit = "PFLOP/s" if peak.value < _PEAK[0] else "GFLOP/s"
            yield f"{peak.dtype} {peak.value:g} is no peak in TFLOP/s: is it in {unit}?"


def _link(chip: Chip) -> Iterator[str]:
    """A link's rate entered as the memory's, or both directions of a link as one."""
    memory, link = chip.bandwidth_gbs, chip.link_gbs
    if memory and link and _is(memory.value, link.value):
        yield f"bandwidth_gbs and link_gbs are both {link.value:g}: one is the other's"
    if memory and link and chip.kind == "matrix" and link.value > 0.5 * memory.value:
        yield f"link_gbs {link.value:g} is over half the memory's: both directions, or swapped?"
