"""What a run would spend on a chip: always a range, with its source, and with idle power.

energy = synaptic operations x published picojoules + idle power x seconds of the run. Published
constants leave out what they leave out (host, memory, input and output, cooling), differ by the
task they come from, and none was measured here: a range is between the lowest and the highest
constant known, not a bound on the truth.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from importlib.resources import files
from typing import Any

from msgspec import Struct

from bicameral.config import Closed, convert
from bicameral.engines.spike.execute import Count

Range = tuple[float, float]
_FILE = "chips.toml"


class Chip(Closed, frozen=True, kw_only=True):
    """A row of chips.toml. None: not known."""

    name: str
    source: str
    trust: str
    pj: Range | None = None
    idle_watts: Range | None = None
    idle_source: str = ""
    cores: int | None = None
    neurons: int | None = None
    synapses: int | None = None
    neurons_per_core: int | None = None


class Energy(Struct, frozen=True, kw_only=True):
    """Joules of a run on a chip, from low to high; None: the chip's figure is not published.

    `operations` is for the events that were there, `dense` for as many operations as a dense net
    does; `idle` comes on top of either.
    """

    chip: str
    operations: Range | None
    dense: Range | None
    idle: Range | None
    seconds: float
    source: str
    trust: str

    @property
    def total(self) -> Range | None:
        """Operations and idle power; None where one of them is not known."""
        if self.operations is None or self.idle is None:
            return None
        return self.operations[0] + self.idle[0], self.operations[1] + self.idle[1]


class Limit(Closed, frozen=True, kw_only=True):
    """Above this share of the operations of a dense net, `against` is cheaper."""

    against: str
    share: float
    source: str


class Breakeven(Struct, frozen=True, kw_only=True):
    """The share of dense operations that was done, and the share above which dense is cheaper."""

    share: float
    limit: Limit

    @property
    def dense_is_cheaper(self) -> bool:
        """True where the run was above the limit."""
        return self.share > self.limit.share


def chips() -> Mapping[str, Chip]:
    """The catalogue, by key."""
    rows = _catalogue()["chips"]
    return {k: convert(row, Chip, _FILE, f"chips.{k}") for k, row in rows.items()}


def limits() -> tuple[Limit, ...]:
    """When dense is cheaper, against each kind of dense that somebody compared with."""
    return tuple(convert(row, Limit, _FILE, "limits") for row in _catalogue()["limits"])


def _catalogue() -> dict[str, Any]:
    text = files("bicameral.engines.spike").joinpath(_FILE).read_text(encoding="utf-8")
    return tomllib.loads(text)


def estimate(counts: Iterable[Count], chip: Chip, dt: float) -> Energy:
    """What the counted steps, of `dt` seconds each, would spend on the chip."""
    rows = tuple(counts)
    synops, dense = sum(row.synops for row in rows), sum(row.dense for row in rows)
    seconds = max((row.steps for row in rows), default=0) * dt
    idle = chip.idle_watts
    return Energy(
        chip=chip.name,
        operations=_joules(synops, chip.pj),
        dense=_joules(dense, chip.pj),
        idle=None if idle is None else (idle[0] * seconds, idle[1] * seconds),
        seconds=seconds,
        source=" ".join(filter(None, (chip.source, chip.idle_source))),
        trust=chip.trust,
    )


def breakeven(counts: Iterable[Count]) -> tuple[Breakeven, ...]:
    """Whether events paid in the counted steps, against each kind of dense."""
    rows = tuple(counts)
    dense = sum(row.dense for row in rows)
    share = sum(row.synops for row in rows) / dense if dense else 0.0
    return tuple(Breakeven(share=share, limit=limit) for limit in limits())


def _joules(operations: int, pj: Range | None) -> Range | None:
    return None if pj is None else (operations * pj[0] * 1e-12, operations * pj[1] * 1e-12)
