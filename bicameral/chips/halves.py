"""Prompts read by some chips and answers written by others: what that takes of each, by forecast.

The cache of every prompt moves over the network between nodes. Nothing of the kind was among what
the forecasts were fitted on, which the plan says.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import msgspec

from bicameral.chips.forecast import Spread, shipped
from bicameral.chips.layouts import Found, Option, asked_load, layouts, sizes, words
from bicameral.chips.operating import Asked, asked, points
from bicameral.chips.replica import Forecast, Replica, Setting, Steady, decoding_only
from bicameral.chips.replica import reading_seconds as reading_seconds_of
from bicameral.chips.roofline import BYTES, Precision
from bicameral.chips.workload import Model, Pool, Workload
from bicameral.errors import ConfigError

# The part of a node's network that handing over may take, and of the first token's goal that
# reading may take where others write.
LINK = 0.5
READING = 0.5

NOTE = "reading prompts apart is forecast from parts; nothing of the kind was fitted on"


def halves(work: Workload, model: Model, pool: Pool) -> Found:
    """The ways to only read prompts, or only write answers, in `pool`; none without a network."""
    found = Found([], [], [])
    if model.network is None or pool.network_gbs is None:
        return found
    for size in sizes(pool):
        for precision in model.precisions:
            for layout in layouts(model, size):
                setting = Setting(model.network, pool.chip, precision, layout)
                try:
                    found.options += _both(work, model, pool, setting)
                except ConfigError as error:
                    found.refused.append(f"{pool.name}: {error}")
    return found


def moved_bytes(work: Workload, model: Model, precision: Precision) -> float | None:
    """Bytes of the cache of one prompt; None if the model's shape is not known."""
    if model.network is None:
        return None
    return model.network.kept(work.load.read.mean, BYTES[precision.cache])


def _both(work: Workload, model: Model, pool: Pool, setting: Setting) -> Iterator[Option]:
    moved = moved_bytes(work, model, setting.precision) or 0.0
    link = LINK * (pool.network_gbs or 0.0) * 1e9 * setting.layout.chips / pool.per_node
    longest = work.load.read.longest + work.load.written.longest
    load = asked_load(work)
    seconds = reading_seconds_of(setting, load.read)
    # What the first token waits for besides the arithmetic that keeps others waiting.
    alone = Forecast(setting, load, longest).at(1.0).first.value
    late = max(0.0, alone - seconds.value)
    writes = Forecast(setting, load, longest, known=decoding_only(shipped()))
    reads = Steady(seconds, "modelled", writes.source, writes.notes)
    transfer = moved / link
    half = READING * (work.goal.first_token_s or 0.0)
    writing = asked(work.goal, work.load.written, before=half)
    reading = msgspec.structs.replace(
        asked(work.goal, work.load.written, before=half + late + transfer),
        token=None,
        written=1.0,
        variation=0.0,
    )
    for does, replica, held, more in (
        ("prefill", reads, reading, late + transfer),
        ("decode", writes, writing, 0.0),
    ):
        yield from _options(model, pool, setting, does, replica, held, (moved, more, 1 / transfer))  # type: ignore[arg-type]


def _options(
    model: Model,
    pool: Pool,
    setting: Setting,
    does: Literal["prefill", "decode"],
    replica: Replica,
    held: Asked,
    limits: tuple[float, float, float],
) -> Iterator[Option]:
    moved, late, most = limits
    for point in points(replica, held):
        if point.rate.value <= 0:
            continue
        part = min(1.0, most / point.rate.value)
        yield Option(
            model=model.name,
            pool=pool.name,
            does=does,
            precision=setting.precision.weights,
            layout=setting.layout,
            words=f"{words(setting.layout, setting.precision.weights)} {does}",
            covers=(f"{model.name} {does}",),
            places=point.places,
            rate=Spread(*(part * r for r in msgspec.structs.astuple(point.rate))),
            held=held,
            replica=replica,
            moved=moved,
            late=late,
        )
