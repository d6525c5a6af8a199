"""One chip as frozen values: every fact carries its source and how far it may be trusted."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Literal

import msgspec

from bicameral.errors import ConfigError

DTYPES = ("bf16", "fp8", "fp4", "int8", "int4", "int2")
Per = Literal["card", "die", "board", "system"]
Kind = Literal["matrix", "sram", "cpu", "neuromorphic"]


class Trust(Enum):
    """How a fact is known, from best to worst."""

    MEASURED = "measured"
    OFFICIAL = "official"
    REPORTED = "reported"
    REMEMBERED = "remembered"


# How far off a fact may be where nobody states a range: assumptions, not measurements.
_SPREAD = {
    Trust.MEASURED: 0.0,
    Trust.OFFICIAL: 0.0,
    Trust.REPORTED: 0.1,
    Trust.REMEMBERED: 0.3,
}
_DOUBT = 0.3


class Fact(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One number in the unit that its field names, where it is from, and how it is known.

    `low` and `high` are a stated range. `doubt`: a single low-trust table, or sources disagree.
    """

    value: float
    source: str
    trust: Trust
    low: float | None = None
    high: float | None = None
    doubt: bool = False

    @property
    def span(self) -> tuple[float, float]:
        """The range that the number may lie in: as stated, or by its trust."""
        off = max(_SPREAD[self.trust], _DOUBT if self.doubt else 0.0)
        low = self.value * (1 - off) if self.low is None else self.low
        high = self.value * (1 + off) if self.high is None else self.high
        return min(low, self.value), max(high, self.value)


class Peak(Fact, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A peak rate in TFLOP/s (integers: TOP/s), with or without structured sparsity."""

    dtype: str
    sparse: bool


class Chip(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One chip; what nobody trustworthy states is None.

    `per` says what the numbers are for. `dies`: how many of them one card carries. Memory in GB of
    10^9 bytes, bandwidth and link in GB/s of 10^9 (the link per chip, one direction), power in W.
    `achieved_gbs` is what a benchmark reached; forecasts go by the nominal, as what chips reach of
    it is fitted.
    """

    id: str
    name: str
    vendor: str
    generation: str = ""
    year: int | None = None
    per: Per = "card"
    kind: Kind = "matrix"
    dies: int = 1
    peaks: tuple[Peak, ...] = ()
    memory_gb: Fact | None = None
    bandwidth_gbs: Fact | None = None
    achieved_gbs: Fact | None = None
    link_gbs: Fact | None = None
    power_w: Fact | None = None
    price_usd: Fact | None = None
    neurons: Fact | None = None
    synapses: Fact | None = None
    pj_per_synop: Fact | None = None
    aliases: tuple[str, ...] = ()
    note: str = ""

    def dense(self, dtype: str) -> Peak | None:
        """The dense peak for `dtype`, if it is known."""
        return next((p for p in self.peaks if p.dtype == dtype and not p.sparse), None)

    def native(self, dtype: str) -> bool:
        """Whether the chip computes in `dtype`; else weights in it are unpacked to bf16."""
        return self.dense(dtype) is not None

    def rate(self, dtype: str) -> Peak:
        """The dense peak at which weights of `dtype` are multiplied.

        Raises ConfigError if the catalogue knows no peak to multiply them at.
        """
        found = self.dense(dtype) or self.dense("bf16")
        if found is None:
            raise ConfigError(f"no dense {dtype} or bf16 peak of {self.name} is known: measure it")
        return found

    def fact(self, field: str) -> Fact:
        """The fact named `field`; raises ConfigError where it is unknown."""
        found = getattr(self, field)
        if found is None:
            raise ConfigError(f"{field} of {self.name} is unknown: measure it, or add a source")
        assert isinstance(found, Fact)
        return found

    def doubts(self) -> tuple[str, ...]:
        """What a forecast rests on that is not measured or official, in words."""
        named: Mapping[str, Fact | None] = {
            "memory": self.memory_gb,
            "memory bandwidth": self.bandwidth_gbs,
            "link": self.link_gbs,
        } | {f"{p.dtype} peak": p for p in self.peaks if not p.sparse}
        return tuple(
            f"{what}: {fact.trust.value}{', disputed' if fact.doubt else ''}"
            for what, fact in named.items()
            if fact and (fact.doubt or fact.trust in (Trust.REPORTED, Trust.REMEMBERED))
        )

    def pushed(self, way: Literal["low", "high"]) -> Chip:
        """This chip with every rate at the low or high end of what it may be."""
        end = 0 if way == "low" else 1
        push = {
            name: msgspec.structs.replace(fact, value=fact.span[end])
            for name in ("bandwidth_gbs", "link_gbs")
            if (fact := getattr(self, name))
        }
        peaks = tuple(msgspec.structs.replace(p, value=p.span[end]) for p in self.peaks)
        return msgspec.structs.replace(self, peaks=peaks, **push)
