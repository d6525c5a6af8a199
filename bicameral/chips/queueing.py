"""How long requests wait for a free place in a replica: a queue with several places (M/G/c).

Requests come at random (Poisson) and go to one replica, evenly; a replica has `places`, as many as
it runs at once. The chance to wait is Erlang's C formula; the wait of those who do is taken as
exponential, slowed or hastened by how much the service times vary (Allen and Cunneen's correction;
Allen, Probability, Statistics and Queueing Theory, 2nd ed., 1990). Exact for exponential services.
"""

from __future__ import annotations

import math

import msgspec

# Fuller than this no replica is planned: waits grow without bound from there, and the service
# times themselves are only forecast.
FULLEST = 0.9
_HALVINGS = 24


class Waiting(msgspec.Struct, frozen=True):
    """`delayed`: the share of requests that wait; `decay`: 1 over their mean wait, in 1/s."""

    delayed: float
    decay: float

    @property
    def mean(self) -> float:
        """Seconds that the average request waits."""
        return self.delayed / self.decay if self.delayed else 0.0

    def within(self, percentile: float) -> float:
        """Seconds that `percentile` per cent of the requests wait at most."""
        beyond = 1 - percentile / 100
        return math.log(self.delayed / beyond) / self.decay if self.delayed > beyond else 0.0


def erlang_c(places: int, offered: float) -> float:
    """The share of arrivals that find all places taken; `offered` = arrivals x service < places."""
    blocked = 1.0
    for n in range(1, places + 1):
        blocked = offered * blocked / (n + offered * blocked)
    return blocked / (1 - offered / places * (1 - blocked))


def waiting(
    places: int,
    arrivals: float,
    service: float,
    variation: float,
    *,
    running: float | None = None,
) -> Waiting:
    """The wait at `arrivals` a second, each `service` seconds long when all places are taken.

    `variation`: the service's variance over its squared mean. `running`: how many places are taken
    in the mean, where that is less, as services are shorter when fewer run. Raises ValueError if
    more comes than goes.
    """
    offered = arrivals * service
    if offered >= places:
        raise ValueError(f"{offered:g} requests at once do not go into {places} places")
    spare = (places - offered) / service
    taken = offered if running is None else min(offered, running)
    return Waiting(erlang_c(places, taken), 2 * spare / (1 + variation))


def most_arrivals(
    places: int, service: float, variation: float, *, within: float | None, percentile: float
) -> float:
    """Requests a second such that `percentile` per cent of them wait at most `within` seconds.

    At most FULLEST of what the places can take, which is also the answer where no wait is named.
    """
    most = FULLEST * places / service
    if within is None:
        return most

    def kept(arrivals: float) -> bool:
        return waiting(places, arrivals, service, variation).within(percentile) <= within

    if kept(most):
        return most
    low, high = 0.0, most
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if kept(middle) else (low, middle)
    return low
