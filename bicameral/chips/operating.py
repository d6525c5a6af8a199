"""At which point to run a replica: how many requests at once, how many a second, how fast then.

Each replica is a queue of its own (queueing.py): requests are dealt to replicas at random, which no
router does worse than. The service time is that of a request among as many as may run.
"""

from __future__ import annotations

from math import sqrt
from statistics import NormalDist

import msgspec

from bicameral.chips.forecast import Spread
from bicameral.chips.queueing import Waiting, most_arrivals, waiting
from bicameral.chips.replica import Replica, Speed
from bicameral.chips.workload import Goal, Tokens

_HALVINGS = 30
_STEPS = 16
# Fewer places than fit may take more: the first token waits for less. These parts are tried.
_PARTS = (1.0, 0.75, 0.5, 0.25)


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """What one replica is held to. `first`: what is left of the goal for it, None: no goal.

    `written`: tokens of the mean answer. `variation`: of the service times, as of those tokens;
    where only their mean is known, 1.
    """

    first: float | None
    token: float | None
    percentile: float
    sure: bool
    written: float
    variation: float


class Point(msgspec.Struct, frozen=True):
    """So many requests at once at most, and the requests a second that this takes in the goal."""

    places: int
    rate: Spread


class Predicted(msgspec.Struct, frozen=True, kw_only=True):
    """What requests will see: in the mean, and at the goal's percentile.

    `running`: requests at once in the mean; `busy`: the share of the places that they take.
    """

    running: float
    busy: float
    first: Spread
    first_at: Spread
    token: Spread
    token_at: Spread


def asked(goal: Goal, written: Tokens, *, before: float = 0.0) -> Asked:
    """What a replica is held to when `before` seconds of the first token's goal are spent."""
    first = None if goal.first_token_s is None else goal.first_token_s - before
    return Asked(
        first=first,
        token=goal.token_s,
        percentile=goal.percentile,
        sure=goal.sure,
        written=written.mean,
        variation=1.0 if written.variation is None else written.variation,
    )


def seen(spread: Spread, sure: bool) -> float:
    """The figure that is held against a goal."""
    return spread.high if sure else spread.value


def keeps(speed: Speed, held: Asked) -> bool:
    """Whether a request that runs so is fast enough."""
    first, token = seen(speed.first, held.sure), seen(speed.token, held.sure)
    return (held.first is None or first <= held.first) and (
        held.token is None or token <= held.token
    )


def most_places(replica: Replica, held: Asked) -> int:
    """The most requests at once that are all fast enough; 0: not even one is."""
    if not keeps(replica.at(1.0), held):
        return 0
    low, high = 1, replica.most
    while low < high:
        middle = (low + high + 1) // 2
        if keeps(replica.at(float(middle)), held):
            low = middle
        else:
            high = middle - 1
    return low


def points(replica: Replica, held: Asked) -> list[Point]:
    """The ways to run it within the goal, the most places first; none if it is too slow."""
    most = most_places(replica, held)
    tried = dict.fromkeys(max(1, int(most * part)) for part in _PARTS) if most else {}
    return [Point(places, rate(replica, places, held)) for places in tried]


def rate(replica: Replica, places: int, held: Asked) -> Spread:
    """Requests a second of a replica with so many places, and the band that its speed gives."""
    speed = replica.at(float(places))
    life = speed.life(held.written)
    within = None if held.first is None else held.first - seen(speed.first, held.sure)

    def taken(service: float) -> float:
        return most_arrivals(
            places, service, held.variation, within=within, percentile=held.percentile
        )

    value = min(taken(life.value), _settled(replica, places, held))
    return Spread(value, value * life.value / life.high, value * life.value / life.low)


def _settled(replica: Replica, places: int, held: Asked) -> float:
    """Requests a second at which places stay free at the percentile, though more run more slowly.

    How many run varies about its mean n with the variance n / (1 - n S'/S), S being how long a
    request runs among n: the linear approximation of dn/dt = arrivals - n/S. Half of those who may
    miss the goal are left for what it leaves out. Small replicas, where it says little, are not
    held to it.
    """
    if held.first is None or places < _STEPS:
        return float("inf")
    sure = _deviations(50 + held.percentile / 2)
    for k in range(_STEPS, 1, -1):
        n = places * k / _STEPS
        life, margin = _margin(replica, n, held.written)
        if margin > 0 and n + sure * sqrt(n / margin) <= places:
            return n / life
    least = places / _STEPS
    return least / replica.at(least).life(held.written).value


def _margin(replica: Replica, running: float, written: float) -> tuple[float, float]:
    """How long a request runs among so many, and 1 - n S'/S: near 0 a crowd hardly disperses."""
    less = max(1.0, running * (1 - 1 / _STEPS))
    life, shorter = (replica.at(max(1.0, n)).life(written).value for n in (running, less))
    if running <= less:
        return life, 1.0
    return life, 1 - running / life * (life - shorter) / (running - less)


def _deviations(percentile: float) -> float:
    return NormalDist().inv_cdf(percentile / 100)


def predicted(replica: Replica, places: int, arrivals: float, held: Asked) -> Predicted:
    """What requests see when `arrivals` a second come to each replica of so many places."""
    running = _running(replica, places, arrivals, held)
    margin = _margin(replica, max(1.0, running), held.written)[1]
    # A margin of nothing would let the crowd grow without bound: see _settled.
    spread = sqrt(max(running, 1e-9) / max(margin, 1e-3))
    crowded = max(1.0, min(float(places), running + _deviations(held.percentile) * spread))
    speed, slow = replica.at(max(1.0, running)), replica.at(crowded)
    full = replica.at(float(places)).life(held.written)
    queue = waiting(places, arrivals, full.value, held.variation, running=running)
    if places >= _STEPS:
        taken = 1 - NormalDist(running, spread).cdf(places)
        queue = Waiting(max(queue.delayed, taken), queue.decay)
    late = queue.within(held.percentile)
    return Predicted(
        running=running,
        busy=running / places,
        first=_later(speed.first, queue.mean, full),
        first_at=_later(replica.at(float(places)).first if late else slow.first, late, full),
        token=speed.token,
        token_at=slow.token,
    )


def _later(first: Spread, wait: float, life: Spread) -> Spread:
    """With the wait, which is as much shorter or longer as requests run shorter or longer."""
    low, high = wait * life.low / life.value, wait * life.high / life.value
    return Spread(first.value + wait, first.low + low, first.high + high)


def _running(replica: Replica, places: int, arrivals: float, held: Asked) -> float:
    """How many run in the mean (Little's law): they are as slow as so many are."""
    low, high = 0.0, float(places)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        life = replica.at(max(1.0, middle)).life(held.written).value
        low, high = (middle, high) if arrivals * life > middle else (low, middle)
    return high
