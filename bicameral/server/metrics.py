"""Counters and histograms in Prometheus' text format; a count costs well under a microsecond."""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator

from bicameral.errors import AllFailed, BicameralError, ModelError
from bicameral.types import Usage

BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


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

    def text(self, in_flight: int, dropped: int) -> str:
        """All of it, as Prometheus scrapes it."""
        return "\n".join(self._lines(in_flight, dropped)) + "\n"

    def _lines(self, in_flight: int, dropped: int) -> Iterator[str]:
        yield from _head("in_flight", "gauge", "Requests being answered.")
        yield f"bicameral_in_flight {in_flight}"
        yield from _head("journal_dropped_total", "counter", "Decisions that were not kept.")
        yield f"bicameral_journal_dropped_total {dropped}"
        yield from _head("requests_total", "counter", "Requests answered.")
        for (route, model, status), count in self.requests.items():
            labels = _labels(route=route, model=model, status=str(status))
            yield f"bicameral_requests_total{labels} {count}"
        yield from _head("tokens_total", "counter", "Tokens the models reported.")
        for (model, kind), count in self.tokens.items():
            yield f"bicameral_tokens_total{_labels(model=model, kind=kind)} {count}"
        yield from _head("unmetered_total", "counter", "Answers whose tokens are not known.")
        for model, count in self.unmetered.items():
            yield f"bicameral_unmetered_total{_labels(model=model)} {count}"
        yield from _head("model_errors_total", "counter", "Failures that ended a request.")
        for (model, kind), count in self.errors.items():
            yield f"bicameral_model_errors_total{_labels(model=model, kind=kind)} {count}"
        yield from _histograms("request_seconds", "Seconds to the end.", self.seconds)
        yield from _histograms("first_token_seconds", "Seconds to the first event.", self.first)


def _head(name: str, kind: str, what: str) -> tuple[str, str]:
    return f"# HELP bicameral_{name} {what}", f"# TYPE bicameral_{name} {kind}"


def _histograms(name: str, what: str, series: dict[tuple[str, str], Histogram]) -> Iterator[str]:
    yield from _head(name, "histogram", what)
    for (route, model), histogram in series.items():
        total = 0
        for bound, count in zip((*BUCKETS, "+Inf"), histogram.counts, strict=True):
            total += count
            labels = _labels(route=route, model=model, le=str(bound))
            yield f"bicameral_{name}_bucket{labels} {total}"
        yield f"bicameral_{name}_sum{_labels(route=route, model=model)} {histogram.sum:.6f}"
        yield f"bicameral_{name}_count{_labels(route=route, model=model)} {total}"


def _labels(**labels: str) -> str:
    pairs = (f'{name}="{_escape(value)}"' for name, value in labels.items())
    return "{" + ",".join(pairs) + "}"


def _escape(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
