"""Counters and histograms in Prometheus' text format; a count costs well under a microsecond."""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator, Mapping
from types import MappingProxyType

from bicameral.errors import AllFailed, BicameralError, ModelError
from bicameral.model import Model
from bicameral.server.call_metrics import BUCKETS, Calls
from bicameral.server.exposition import CONTENT_TYPE as CONTENT_TYPE
from bicameral.server.exposition import head, histogram, series
from bicameral.types import Call, Usage

_NOBODY: Mapping[str, Model] = MappingProxyType({})


class Histogram:
    """Seconds in buckets."""

    def __init__(self) -> None:
        self.counts = [0] * (len(BUCKETS) + 1)
        self.sum = 0.0

    def add(self, seconds: float) -> None:
        """Count one observation."""
        self.counts[bisect_left(BUCKETS, seconds)] += 1
        self.sum += seconds


class Metrics:
    """What the server counts. `model` is always a configured name, so the labels are bounded."""

    def __init__(self) -> None:
        self.requests: dict[tuple[str, str, int], int] = defaultdict(int)
        self.seconds: dict[tuple[str, str], Histogram] = defaultdict(Histogram)
        self.first: dict[tuple[str, str], Histogram] = defaultdict(Histogram)
        self.tokens: dict[tuple[str, str], int] = defaultdict(int)
        self.unmetered: dict[str, int] = defaultdict(int)
        self.errors: dict[tuple[str, str], int] = defaultdict(int)
        self.calls = Calls()

    def called(self, call: Call, booking: str = "") -> None:
        """Count a call of a member that has ended: the `note` of Brain.open."""
        self.calls.add(call)

    def used(self, model: str, usage: Usage) -> None:
        """Count the tokens of an answer; one whose tokens are unknown is counted as that."""
        if usage.total_tokens is None:
            self.unmetered[model] += 1
            return
        self.tokens[model, "prompt"] += usage.prompt_tokens or 0
        self.tokens[model, "completion"] += usage.completion_tokens or 0

    def failed(self, error: BicameralError) -> None:
        """Count the models' failures behind `error`."""
        if isinstance(error, AllFailed):
            for failure in error.failures.values():
                self.failed(failure)
        elif isinstance(error, ModelError):
            self.errors[error.model, type(error).__name__] += 1

    def text(
        self,
        in_flight: int,
        dropped: int,
        *,
        models: Mapping[str, Model] = _NOBODY,
        ledger: tuple[bool, int] | None = None,
        videos: Mapping[str, int] | None = None,
    ) -> str:
        """All of it, as Prometheus scrapes it.

        `ledger`: whether the book can be written, and how many entries wait for that; None if
        there is none. `videos`: how many jobs there are of each status, None if none are taken.
        """
        lines = [
            *self._gauges(in_flight, dropped, ledger),
            *_videos(videos),
            *self._requests(),
            *_seconds("request_seconds", "Seconds to the end.", self.seconds),
            *_seconds("first_token_seconds", "Seconds to the first event.", self.first),
            *self.calls.lines(models),
        ]
        return "\n".join(lines) + "\n"

    def _gauges(
        self, in_flight: int, dropped: int, ledger: tuple[bool, int] | None
    ) -> Iterator[str]:
        yield from head("bicameral_in_flight", "gauge", "Requests being answered.")
        yield series("bicameral_in_flight", in_flight)
        name = "bicameral_journal_dropped_total"
        yield from head(name, "counter", "Decisions that were not kept.")
        yield series(name, dropped)
        if ledger is None:
            return
        up, waiting = ledger
        yield from head("bicameral_ledger_up", "gauge", "Whether the ledger can be written.")
        yield series("bicameral_ledger_up", int(up))
        yield from head("bicameral_ledger_waiting", "gauge", "Entries not written yet.")
        yield series("bicameral_ledger_waiting", waiting)

    def _requests(self) -> Iterator[str]:
        yield from head("bicameral_requests_total", "counter", "Requests answered.")
        for (route, model, status), count in self.requests.items():
            yield series(
                "bicameral_requests_total", count, route=route, model=model, status=str(status)
            )
        yield from head("bicameral_tokens_total", "counter", "Tokens the models reported.")
        for (model, kind), count in self.tokens.items():
            yield series("bicameral_tokens_total", count, model=model, kind=kind)
        name = "bicameral_unmetered_total"
        yield from head(name, "counter", "Answers whose tokens are not known.")
        for model, count in self.unmetered.items():
            yield series(name, count, model=model)
        name = "bicameral_model_errors_total"
        yield from head(name, "counter", "Failures that ended a request.")
        for (model, kind), count in self.errors.items():
            yield series(name, count, model=model, kind=kind)


def _videos(counts: Mapping[str, int] | None) -> Iterator[str]:
    """The queue's length is the number of those whose status is queued."""
    if counts is None:
        return
    yield from head("bicameral_videos", "gauge", "Jobs of /v1/videos that are kept, by status.")
    for status, count in counts.items():
        yield series("bicameral_videos", count, status=status)


def _seconds(name: str, what: str, groups: dict[tuple[str, str], Histogram]) -> Iterator[str]:
    yield from head(f"bicameral_{name}", "histogram", what)
    for (route, model), counted in groups.items():
        total = f"{counted.sum:.6f}"
        labels = {"route": route, "model": model}
        yield from histogram(f"bicameral_{name}", BUCKETS, counted.counts, total, **labels)
