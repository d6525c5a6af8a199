"""A plan as frozen values: what goes where, what it will do, and what else there was."""

from __future__ import annotations

import msgspec

from bicameral.chips.forecast import Spread
from bicameral.chips.workload import Goal, Load, Way

# What an alternative says that comes to the same placement as the one chosen.
SAME = "comes to the same"


class Figure(msgspec.Struct, frozen=True):
    """One number, its band, and how it is known; classes are never mixed.

    A band end is None where it is not known: a measurement states none, power has no lower one.
    """

    value: float
    low: float | None
    high: float | None
    way: Way


class Money(msgspec.Struct, frozen=True):
    """Nano-dollars with a band, and how well what they rest on is known (prices are exact)."""

    value: int
    low: int | None
    high: int | None
    way: Way


class Group(msgspec.Struct, frozen=True, kw_only=True):
    """Replicas alike: of `model`, doing `does`, on `chips` chips in all.

    `places`: requests that each runs at once at most. `arrivals` and `capacity`: requests a second
    of each. `busy`: the share of the places in use. `first`, `token`: seconds in the mean, and
    `_at` the goal's percentile; an encoder's first is its own time, and it has no token. Memory of
    each chip in GB of 10^9: None where the model was measured and its shape is not known.
    """

    model: str
    does: str
    pool: str
    chip: str
    layout: str
    replicas: int
    chips: int
    places: int
    arrivals: float
    running: float
    busy: float
    capacity: Figure
    first: Figure
    first_at: Figure
    token: Figure | None
    token_at: Figure | None
    weights_gb: float | None
    cache_gb: float | None
    usable_gb: float | None
    source: str


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """What who asks a model will see, over all its replicas and all stages before them.

    Means are weighted with the requests; at the percentile it is the slowest group's figure.
    """

    model: str
    requests_per_hour: float
    first: Figure
    first_at: Figure
    token: Figure
    token_at: Figure


class Cut(msgspec.Struct, frozen=True, kw_only=True):
    """What is handed from chips to chips of a request; None: nobody said how large it is."""

    what: str
    bytes_each: float | None
    bytes_s: float | None


class Alternative(msgspec.Struct, frozen=True, kw_only=True):
    """Another way to serve the same: nano-dollars and joules (at most) for 1,000 requests.

    `seconds`: of the mean answer. Unknown, or if it cannot take the load: None.
    """

    name: str
    fits: bool
    chips: int | None = None
    cost: int | None = None
    energy: float | None = None
    seconds: float | None = None
    gap: float = 0.0
    note: str = ""


class Reason(msgspec.Struct, frozen=True):
    """One choice in words."""

    of: str
    why: str


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """A placement that takes the load within the goal, as far as is known.

    `requests`: the requests an hour that it can take. `cost`: nano-dollars, `energy`: joules for
    1,000 requests; the energy is that of full power all the time (measured, else the thermal design
    power), so an upper estimate, known as well as `energy_trust` says. `chosen` names the
    alternative that this is.
    `gap`: the part by which a better plan could be at most.
    """

    source: str
    load: Load
    goal: Goal
    chosen: str
    groups: tuple[Group, ...]
    seen: tuple[Seen, ...]
    cuts: tuple[Cut, ...]
    requests: Figure
    chips: int
    cost: Money | None
    energy: Figure | None
    energy_trust: str
    gap: float
    alternatives: tuple[Alternative, ...]
    reasons: tuple[Reason, ...]
    notes: tuple[str, ...]


def figure(spread: Spread, way: Way) -> Figure:
    """A spread with its class; what was measured has no band here."""
    if way != "modelled":
        return Figure(spread.value, None, None, way)
    return Figure(spread.value, spread.low, spread.high, way)
