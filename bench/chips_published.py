"""The shipped coefficients against results that they were not fitted on: MLPerf and GPUStack."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from chips_data import Lab, Published, lab, mlperf
from chips_models import network
from msgspec.structs import replace

from bicameral.chips.catalogue import shipped
from bicameral.chips.forecast import Coefficients, Forecast, Spread, forecast
from bicameral.chips.roofline import Layout, Load, Precision
from bicameral.errors import ConfigError

# The Server scenario's limits: seconds to the first token, and for each after it (remembered).
_LIMITS = {
    "llama2-70b-99": (2.0, 0.2),
    "llama3.1-405b": (6.0, 0.175),
    "llama3.1-8b": (2.0, 0.1),
    "mixtral-8x7b": (2.0, 0.2),
    "deepseek-r1": (2.0, 0.08),
}
_ALL_AT_ONCE = tuple(2**n for n in range(11))  # no more than was fitted on


@dataclass(frozen=True)
class Said:
    """A published number beside the forecast of it; `forecast` None: not to be had, see `why`."""

    id: str
    chip: str
    what: str
    published: float
    forecast: Spread | None
    why: str = ""
    part: str = ""

    @property
    def ratio(self) -> float:
        """Forecast / published."""
        return self.forecast.value / self.published if self.forecast else math.nan

    @property
    def within(self) -> bool:
        return bool(self.forecast and self.forecast.low <= self.published <= self.forecast.high)


def of_mlperf(known: Coefficients) -> tuple[list[Said], dict[str, int]]:
    """Tokens a second of each accelerator: the best that our planner finds, against the result."""
    results, left = mlperf()
    memo: dict[tuple[object, ...], tuple[Spread | None, str]] = {}
    said = []
    for result in results:
        limits = result.scenario == "Server"
        key = (result.workload, result.chips, result.dtype, limits)
        if key not in memo:
            memo[key] = _best(result, known)
        spread, why = memo[key]
        what = f"{result.workload} {result.dtype} {result.scenario}"
        said.append(
            Said(result.id, result.chips[0], what, result.rate, spread, why, result.scenario)
        )
    return said, dict(left)


def _best(result: Published, known: Coefficients) -> tuple[Spread | None, str]:
    """The layout and batch of the highest throughput per chip within the scenario's limits."""
    best: Forecast | None = None
    why = "no batch keeps the limits"
    for ways in (1, 2, 4, 8):
        for at_once in _ALL_AT_ONCE:
            try:
                found = _one(result, ways, at_once, known)
            except ConfigError as error:
                why = str(error)
                break
            if found.running < at_once:
                break
            if _kept(found, result) and (best is None or _each(found) > _each(best)):
                best = found
    if best is None:
        return None, why
    rate = best.throughput
    return Spread(*(x / best.chips for x in (rate.value, rate.low, rate.high))), ""


def _each(found: Forecast) -> float:
    return found.throughput.value / found.chips


def _kept(found: Forecast, result: Published) -> bool:
    if result.scenario != "Server":
        return True
    first, token = _LIMITS[result.workload]
    return found.first.value <= first and found.token.value <= token


def _one(result: Published, ways: int, at_once: int, known: Coefficients) -> Forecast:
    """Submissions of 8 bits and less keep their cache in 8 bits too: an assumption."""
    dtype = result.dtype or "bf16"
    chip = shipped().chips[result.chips[0]]
    return forecast(
        network(result.model),
        replace(chip, kind="matrix"),  # for CPUs it would refuse; here the error is to be seen
        Precision(weights=dtype, experts=dtype, cache="fp8"),
        Layout(tensor=ways),
        Load(concurrency=at_once, read=result.read, written=result.written),
        known,
    )


def of_lab(known: Coefficients) -> tuple[list[Said], list[Said]]:
    """A token's time, and output tokens a second, of each row of GPUStack's lab."""
    tokens, rates = [], []
    for row in lab():
        token, rate, why = _lab(row, known)
        what = f"{row.row.model} {row.row.stated} {row.row.engine} x{row.row.layout.chips}"
        what += f" {row.row.load.read:.0f}/{row.row.load.written:.0f}"
        part = "burst" if row.saturated else "limited"
        here = (row.row.id, row.row.chip, what)
        tokens.append(Said(*here, row.row.token, token, why, part))
        rates.append(Said(*here, row.rate, rate, why, part))
    return tokens, rates


def _lab(row: Lab, known: Coefficients) -> tuple[Spread | None, Spread | None, str]:
    r = row.row
    try:
        found = forecast(r.network, r.chip_, r.precision, r.layout, r.load, known)
    except ConfigError as error:
        return None, None, str(error)
    return found.token, found.throughput, ""


def table(title: str, said: Sequence[Said], show: Callable[[float], str]) -> Iterator[str]:
    """By chip, then the worst rows, then every row."""
    yield f"\n{title}: {len(said)} rows, {sum(s.forecast is None for s in said)} without a forecast"
    yield f"{'chip':22} {'rows':>4} {'MAPE':>6} {'median':>7} {'ratio':>6} {'in band':>8}"
    chips: dict[str, list[Said]] = defaultdict(list)
    for one in said:
        chips["all"].append(one)
        if shipped().chips[one.chip].kind != "cpu":
            chips["all but CPUs"].append(one)
        chips[f"{one.chip}{' ' + one.part if one.part else ''}"].append(one)
    yield from (_line(chip, rows) for chip, rows in chips.items())
    worst = sorted((s for s in said if s.forecast), key=lambda s: -abs(math.log(s.ratio)))
    yield from sorted({f"no forecast: {s.why}" for s in said if s.why})
    yield "worst:"
    yield from (_row(one, show) for one in worst[:8])
    yield "all:"
    yield from (_row(one, show) for one in said)


def _line(chip: str, rows: Sequence[Said]) -> str:
    ratio = np.array([s.ratio for s in rows if s.forecast])
    if not len(ratio):
        return f"{chip:22} {len(rows):4}      -       -      -        - ({rows[0].why})"
    off = np.abs(ratio - 1)
    inside = np.mean([s.within for s in rows if s.forecast])
    return (
        f"{chip:22} {len(ratio):4} {off.mean():6.1%} {np.median(off):7.1%} "
        f"{np.median(ratio):6.2f} {inside:8.1%}"
    )


def _row(one: Said, show: Callable[[float], str]) -> str:
    if one.forecast is None:
        return f"  {one.id:34} {one.chip:14} {one.what:52} {show(one.published):>9}  - {one.why}"
    f = one.forecast
    band = f"[{show(f.low)}, {show(f.high)}]"
    return (
        f"  {one.id:34} {one.chip:14} {one.what:52} {show(one.published):>9} "
        f"{show(f.value):>9} {band:>20} {one.ratio:5.2f}{'' if one.within else ' outside'}"
    )
