"""What a plan may choose from: the options of every model in every pool, those worth a thought."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby

import msgspec

from bicameral.chips.halves import halves
from bicameral.chips.impossible import why_not
from bicameral.chips.layouts import Option, encoders, encoding, search
from bicameral.chips.replica import Encoding
from bicameral.chips.whole import Column, Room
from bicameral.chips.workload import Pool, Workload
from bicameral.errors import ConfigError

# Of the options of one kind that trade speed for load, so many are kept.
_KEPT = 5


class Candidates(msgspec.Struct):
    """Options, and what was said on the way: why others are none, and what to know of these."""

    options: list[Option]
    refused: dict[str, list[str]]
    notes: list[str]


def candidates(work: Workload) -> Candidates:
    """All options; raises ChipError or ConfigError if some model has none."""
    made = Candidates([], {m.name: [] for m in work.models}, [])
    for pool in open_pools(work):
        inline = _encoders(work, pool, made)
        for model in work.answering:
            found = search(work, model, pool, inline)
            made.options += found.options
            made.refused[model.name] += found.refused
            made.notes += found.notes
    for model in (*work.answering, *work.encoders):
        if not any(model.name in option.covers for option in made.options):
            raise why_not(work, model, made.refused[model.name])
    return made


def open_pools(work: Workload) -> list[Pool]:
    """The pools that have any chips."""
    return [pool for pool in work.pools if pool.count]


def _encoders(work: Workload, pool: Pool, made: Candidates) -> dict[str, Encoding]:
    """Adds the pool's options to encode; gives what encoding takes beside other work."""
    inline = {}
    for encoder in work.encoders:
        found = encoders(work, encoder, pool)
        made.options += found.options
        made.refused[encoder.name] += found.refused
        made.notes += found.notes
        if found.taken is not None:
            inline[encoder.name] = encoding(found, work, encoder)
    return inline


def halves_of(work: Workload) -> list[Option]:
    """The options to read prompts here and write answers there; none without a network's speed."""
    found = [halves(work, m, pool) for m in work.answering for pool in open_pools(work)]
    options = [option for each in found for option in each.options]
    return options if len({o.does for o in options}) == 2 else []


def worth_a_thought(work: Workload, options: Sequence[Option]) -> list[Option]:
    """Without those that another of the same kind beats at everything that counts."""

    def kind(option: Option) -> tuple[str, str, tuple[str, ...]]:
        return option.pool, option.does, option.covers

    ordered = sorted((o for o in options if o.planned() > 0), key=kind)
    every = [list(group) for _, group in groupby(ordered, key=kind)]
    if work.goal.minimise == "latency":
        return [o for group in every for o in _fast(group)]
    return [o for group in every for o in _frugal(group)]


def _frugal(options: Sequence[Option]) -> list[Option]:
    """More chips must take more a chip: else several smaller replicas do it."""
    kept: list[Option] = []
    for option in sorted(options, key=lambda o: (o.chips, -o.planned())):
        each = option.planned() / option.chips
        if all(each > other.planned() / other.chips * (1 + 1e-9) for other in kept):
            kept.append(option)
    return kept


def _fast(options: Sequence[Option]) -> list[Option]:
    """Those that no other beats in both speed and load of a chip, spread over the range."""
    kept: list[Option] = []
    for option in sorted(options, key=lambda o: (seconds(o), -o.planned() / o.chips)):
        each = option.planned() / option.chips
        if all(each > other.planned() / other.chips * (1 + 1e-9) for other in kept):
            kept.append(option)
    if len(kept) <= _KEPT:
        return kept
    step = (len(kept) - 1) / (_KEPT - 1)
    return [kept[round(i * step)] for i in range(_KEPT)]


def seconds(option: Option) -> float:
    """Of one request in a full replica."""
    return option.late + option.replica.at(float(option.places)).life(option.held.written).value


def price(work: Workload, chips: int, option: Option | None, pool: Pool) -> int:
    """What is to be least, for one replica (or node) of so many chips; whole and never below 0.

    Of latency it is the replica's part of the mean: its seconds, for the share of all requests
    that it can take. Of what costs alike, fewer chips are less. Raises ConfigError if the pool
    does not say it.
    """
    objective = work.goal.minimise
    if objective == "latency":
        if option is None:
            raise ValueError("a node is as slow as what it runs")
        share = min(1.0, option.planned() / work.load.rate)
        return round(share * seconds(option) * 1e6) + chips
    if objective == "energy":
        if pool.chip.power_w is None:
            raise ConfigError(f"power_w of {pool.chip.name} is unknown: minimise cost or latency")
        return round(pool.chip.power_w.value * 1000) * chips
    if pool.price is None:
        raise ConfigError(
            f'[[chips]] {pool.name} price_per_hour: is missing; "0" if it is paid for anyway, or '
            "minimise energy or latency"
        )
    return (pool.price + 1) * chips


def columns(
    work: Workload,
    options: Sequence[Option],
    rows: Sequence[str],
    parts: Mapping[str, Sequence[str]],
) -> list[Column]:
    """The options for the integer programme; `parts`: rows that a model's name stands for."""
    pools = {pool.name: (i, pool) for i, pool in enumerate(open_pools(work))}
    made = []
    for option in options:
        index, pool = pools[option.pool]
        covered = {row for name in option.covers for row in parts.get(name, (name,))}
        made.append(
            Column(
                index,
                option.chips,
                price(work, option.chips, option, pool),
                tuple(option.planned() if row in covered else 0.0 for row in rows),
            )
        )
    return made


def rooms(work: Workload) -> list[Room]:
    """How many chips blocks of each size may take in each pool."""
    return [
        Room(tuple((2**n, pool.room(2**n)) for n in range(pool.per_node.bit_length())))
        for pool in open_pools(work)
    ]
