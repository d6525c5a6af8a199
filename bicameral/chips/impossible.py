"""Why a workload cannot be planned: one message that says what is in the way, and what to do."""

from __future__ import annotations

from collections.abc import Sequence

from bicameral.chips.chip import Chip
from bicameral.chips.layouts import layouts, sizes, weights
from bicameral.chips.roofline import Load, terms
from bicameral.chips.workload import Model, Pool, Workload
from bicameral.errors import BicameralError, ChipError, ConfigError

_SHOWN = 4


def why_not(work: Workload, model: Model, refused: Sequence[str]) -> BicameralError:
    """The error for a model that no pool can serve within the goal."""
    where = f"{work.source}: {model.name}"
    if model.network is None and not any(row.model == model.name for row in work.measured):
        return ConfigError(
            f"{where}: it has neither a network to forecast nor a [[measured]] row: give one"
        )
    too_large = _too_large(work, model)
    if too_large:
        return ChipError(f"{where}: {too_large}")
    too_soon = _too_soon(work, model)
    if too_soon:
        return ChipError(f"{where}: {too_soon}")
    shown = list(dict.fromkeys(refused))[:_SHOWN]
    more = f"; and {len(refused) - _SHOWN} more" if len(refused) > _SHOWN else ""
    return ChipError(
        f"{where}: no chip of the pools serves it within the goal: {'; '.join(shown)}{more}. "
        "Loosen the goal, or add chips or [[measured]] rows (a CPU is planned by those only)"
    )


def _too_large(work: Workload, model: Model) -> str:
    """Where the weights are larger than all memory together, as far as that is known."""
    pools = [pool for pool in work.pools if pool.count]
    if model.network is None or not all(pool.chip.memory_gb for pool in pools):
        return ""
    least = min(weights(model, p) for p in model.precisions)
    memory = [p.chip.memory_gb.value * p.count for p in pools if p.chip.memory_gb]
    if least <= sum(memory) * 1e9:
        return ""
    return (
        f"its weights take {least / 1e9:,.0f} GB, but all chips together have only "
        f"{sum(memory):,.0f} GB: take smaller weights or more chips"
    )


def _too_soon(work: Workload, model: Model) -> str:
    """Where a goal is below what the fastest chips could do at the speed of light."""
    lights = [light for pool in work.pools for light in _lights(work, model, pool)]
    if not lights:
        return ""
    token = min((token, chips) for token, _, chips in lights)
    first = min((first, chips) for _, first, chips in lights)
    goals = (
        (work.goal.token_s, "token_s", token),
        (work.goal.first_token_s, "first_token_s", first),
    )
    for wanted, name, (light, chips) in goals:
        if wanted is not None and wanted < light:
            return (
                f"[goal] {name}: {wanted:g} s is below what is possible: at the speed of light "
                f"{chips} needs {light:.3g} s"
            )
    return ""


def _lights(work: Workload, model: Model, pool: Pool) -> list[tuple[float, float, str]]:
    """Seconds of a token and of a first token of one request alone, on ideal chips."""
    if model.network is None or not pool.count:
        return []
    load = Load(concurrency=1, read=work.load.read.mean, written=work.load.written.mean)
    chip: Chip = pool.chip.pushed("high")
    found = []
    for size in sizes(pool):
        for precision in model.precisions:
            for layout in layouts(model, size):
                try:
                    token, first = terms(model.network, chip, precision, layout, load)
                except ConfigError:
                    continue
                name = f"{size} x {pool.chip.name}"
                found.append((token.step, first.own + first.step, name))
    return found
