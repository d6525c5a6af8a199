"""Plays a plan's replicas through, request by request, to check what it assumed of their queues.

Discrete events from a seed: the same seed gives the same figures. Requests come at random
(Poisson) and go to the replica with the fewest; a replica runs at most as many as planned, others
wait in order; each token takes as long as forecast (or measured) with so many running. So what is
checked is the queueing, not the forecast. Alike replicas stand for all: a few of each group are
played.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from heapq import heappop, heappush
from random import Random

import msgspec

from bicameral.chips.operating import Asked
from bicameral.chips.outcome import Running, running
from bicameral.chips.replica import Replica
from bicameral.chips.solving import Solution
from bicameral.chips.workload import Tokens, Workload

REQUESTS = 4000
# At most so many replicas of a group, and places in them, are played.
_REPLICAS = 4
_PLACES = 1000
# Nothing counts until so many lives of requests in a full replica have passed, and then for how
# many more at least: nearly full replicas come to rest slowly.
_WARM = 6
_COUNTED = 8
# A simulated figure above the planned one by this part breaks the plan's assumption.
_OFF = 0.2


class Percentiles(msgspec.Struct, frozen=True):
    """Of seconds."""

    mean: float
    p50: float
    p90: float
    p99: float
    at: float


class Simulated(msgspec.Struct, frozen=True, kw_only=True):
    """What the requests of one group saw; `at` in the percentiles is the goal's.

    `played` of its `replicas`. `planned_first`, `planned_token`: the plan's seconds at the goal's
    percentile. `fails`: where the plan's assumption does not hold, in words.
    """

    model: str
    does: str
    pool: str
    layout: str
    replicas: int
    played: int
    requests: int
    first: Percentiles
    token: Percentiles | None
    busy: float
    planned_busy: float
    planned_first: float
    planned_token: float | None
    fails: tuple[str, ...]


def simulate(
    work: Workload, solution: Solution, *, seed: int = 0, requests: int = REQUESTS
) -> tuple[Simulated, ...]:
    """Every group of the solution, each with `requests` or more that count."""
    return tuple(
        _group(work, run, Random(f"{seed} {i}"), requests)  # noqa: S311
        for i, run in enumerate(running(work, solution))
        if run.arrivals
    )


def _group(work: Workload, run: Running, random: Random, requests: int) -> Simulated:
    option = run.taken.option
    count = min(run.taken.replicas, _REPLICAS, max(1, _PLACES // option.places))
    arrivals = run.arrivals * option.served * count
    life = option.replica.at(float(option.places)).life(option.held.written).value
    counted = max(requests, int(_COUNTED * life * arrivals))
    lengths = work.load.written if option.does in ("all", "decode") else None
    played = _Play(option.replica, option.places, count, lengths, random)
    seen = played.run(arrivals, int(_WARM * life * arrivals), counted)
    return _told(work, run, count, seen, played.busy)


class _Request(msgspec.Struct):
    came: float
    written: int
    number: int
    began: float = 0.0
    first: float = 0.0


class _Server:
    """One replica: who reads, who writes and who waits."""

    def __init__(self, replica: Replica, places: int) -> None:
        self.replica, self.places = replica, places
        self.reading: list[tuple[float, int, _Request]] = []
        self.writing: list[tuple[float, int, _Request]] = []
        self.waiting: deque[_Request] = deque()
        self.now = self.written = self.filled = 0.0

    @property
    def running(self) -> int:
        return len(self.reading) + len(self.writing)

    def pace(self) -> float:
        """Seconds that a token of each takes with so many running."""
        return self.replica.at(float(max(1, self.running))).token.value

    def next(self) -> float:
        """When something ends here if nobody comes."""
        read = self.reading[0][0] if self.reading else float("inf")
        if not self.writing:
            return read
        return min(read, self.now + (self.writing[0][0] - self.written) * self.pace())

    def advance(self, now: float) -> None:
        """Everyone who writes gets on by the same number of tokens."""
        passed = now - self.now
        self.filled += passed * self.running
        if self.writing:
            self.written += passed / self.pace()
        self.now = now

    def admit(self, request: _Request) -> None:
        self.waiting.append(request)
        self.fill()

    def fill(self) -> None:
        """Takes up who waits, as long as there is a place."""
        while self.waiting and self.running < self.places:
            request = self.waiting.popleft()
            request.began = self.now
            first = self.replica.at(float(self.running + 1)).first.value
            heappush(self.reading, (self.now + first, request.number, request))

    def end(self) -> _Request | None:
        """What ends now: a prompt is read, or an answer written, which is given back."""
        if self.reading and self.reading[0][0] <= self.now:
            return self._read()
        if not self.writing:
            return None
        self.written = self.writing[0][0]
        done = heappop(self.writing)[2]
        self.fill()
        return done

    def _read(self) -> _Request | None:
        request = heappop(self.reading)[2]
        request.first = self.now
        if request.written <= 1:
            self.fill()
            return request
        heappush(self.writing, (self.written + request.written - 1, request.number, request))
        return None


class _Play:
    """Some replicas, the requests that come to them, and the clock."""

    def __init__(
        self, replica: Replica, places: int, count: int, lengths: Tokens | None, random: Random
    ) -> None:
        self.servers = [_Server(replica, places) for _ in range(count)]
        self.lengths, self.random, self.places = lengths, random, places
        self.busy = 0.0

    def run(self, arrivals: float, warm: int, requests: int) -> list[tuple[float, float | None]]:
        """Seconds to the first token and between tokens of each request that counts."""
        found: dict[int, tuple[float, float | None]] = {}
        came, coming = 0, self.random.expovariate(arrivals)
        self._begin(0.0)
        while len(found) < requests:
            server = min(self.servers, key=_Server.next)
            now = min(coming, server.next())
            if now == coming:
                if came == warm:
                    self._begin(now)
                self._arrive(now, came)
                came, coming = came + 1, now + self.random.expovariate(arrivals)
                continue
            server.advance(now)
            done = server.end()
            if done and warm <= done.number < warm + requests:
                found[done.number] = _seconds(done, now)
        passed = sum(s.now - self.began for s in self.servers)
        self.busy = sum(s.filled for s in self.servers) / (passed * self.places)
        return [found[number] for number in sorted(found)]

    def _begin(self, now: float) -> None:
        """From now on it counts how full the replicas are."""
        self.began = now
        for server in self.servers:
            server.advance(now)
            server.filled = 0.0

    def _arrive(self, now: float, number: int) -> None:
        server = min(self.servers, key=lambda s: s.running + len(s.waiting))
        server.advance(now)
        server.admit(_Request(now, self._length(), number))

    def _length(self) -> int:
        """Tokens of an answer; where only the mean is known, they vary as the plan assumes."""
        if self.lengths is None:
            return 1
        if self.lengths.variation is None:
            return max(1, round(self.random.expovariate(1 / self.lengths.mean)))
        counts, shares = zip(*self.lengths.counts, strict=True)
        return max(1, round(float(self.random.choices(counts, shares)[0])))


def _seconds(request: _Request, now: float) -> tuple[float, float | None]:
    steps = request.written - 1
    token = (now - request.first) / steps if steps > 0 else None
    return request.first - request.came, token


def percentiles(seconds: Sequence[float], at: float) -> Percentiles:
    """Of at least one; the nearest rank."""
    ordered = sorted(seconds)

    def rank(percent: float) -> float:
        return ordered[min(len(ordered) - 1, int(percent / 100 * len(ordered)))]

    return Percentiles(sum(ordered) / len(ordered), rank(50), rank(90), rank(99), rank(at))


def _told(
    work: Workload,
    run: Running,
    played: int,
    seen: Sequence[tuple[float, float | None]],
    busy: float,
) -> Simulated:
    option, does, at = run.taken.option, run.does, work.goal.percentile
    first = percentiles([first for first, _ in seen], at)
    tokens = [token for _, token in seen if token is not None]
    token = percentiles(tokens, at) if tokens else None
    return Simulated(
        model=option.model,
        does=option.does,
        pool=option.pool,
        layout=option.words,
        replicas=run.taken.replicas,
        played=played,
        requests=len(seen),
        first=first,
        token=token,
        busy=busy,
        planned_busy=does.busy,
        planned_first=does.first_at.value,
        planned_token=does.token_at.value if token else None,
        fails=tuple(_fails(option.held, run, first, token, at)),
    )


def _fails(
    held: Asked, run: Running, first: Percentiles, token: Percentiles | None, at: float
) -> list[str]:
    does, said = run.does, []
    both = [("first token", first, does.first_at.value, held.first)]
    if token:
        both.append(("token", token, does.token_at.value, held.token))
    for name, found, planned, goal in both:
        if found.at > planned * (1 + _OFF):
            said.append(f"p{at:g} of the {name}: {found.at:.3g} s, planned {planned:.3g} s")
        if goal is not None and found.at > goal:
            said.append(f"p{at:g} of the {name}: {found.at:.3g} s misses the goal of {goal:.3g} s")
    return said
