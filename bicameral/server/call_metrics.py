"""What is counted of every call of a member: how it ended, its tokens, its time, its cost.

`gen_ai_*` are the metrics of OpenTelemetry's semantic conventions for generative AI, which are
still in development, as Prometheus spells them; a model goes by its configured name.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence

from bicameral.model import Model
from bicameral.server.exposition import head, histogram, series
from bicameral.types import Card, Modality
from bicameral.usage import Call

BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)
# The boundaries that OpenTelemetry advises.
SECONDS = tuple(round(0.01 * 2**n, 2) for n in range(14))
TOKENS = tuple(4**n for n in range(14))

_BOTH = tuple(sorted({*BUCKETS, *SECONDS}))
_OPERATIONS = {
    Modality.TEXT: "chat",
    Modality.EMBEDDING: "embeddings",
    Modality.PERCEPT: "perceive",
}
_KINDS = ("prompt", "completion", "cached", "reasoning")
_ERRORS = {"failed": {"error_type": "_OTHER"}, "abandoned": {"error_type": "cancelled"}}


class _Counts:
    """The calls of one member that ended alike; `cost` is integer nano-dollars."""

    __slots__ = (
        "asked",
        "cost",
        "count",
        "estimated",
        "estimated_cost",
        "mismatches",
        "said",
        "seconds",
        "time",
        "tokens",
        "unknown",
        "unpriced",
    )

    def __init__(self) -> None:
        self.count = self.cost = self.unpriced = self.unknown = self.mismatches = 0
        self.estimated = [0, 0]
        self.estimated_cost = 0
        self.tokens = [0, 0, 0, 0]
        self.asked = [0] * (len(TOKENS) + 1)
        self.said = [0] * (len(TOKENS) + 1)
        self.seconds = [0] * (len(_BOTH) + 1)
        self.time = 0.0


class Calls:
    """Counters of calls, by member and how they ended: as many as there are configured names."""

    def __init__(self) -> None:
        self._counts: dict[tuple[str, str], _Counts] = {}
        self._cards: dict[str, Card] = {}

    def add(self, call: Call) -> None:
        """Count a call that has ended."""
        counts = self._counts.get((call.model, call.ended))
        if counts is None:
            counts = self._counts[call.model, call.ended] = _Counts()
        counts.count += 1
        if call.seconds is not None:
            counts.seconds[bisect_left(_BOTH, call.seconds)] += 1
            counts.time += call.seconds
        if call.cost is None:
            counts.unpriced += 1
        else:
            counts.cost += call.cost
        if call.mismatch:
            counts.mismatches += 1
        if call.estimate is None:
            _reported(counts, call)
        else:
            _estimated(counts, call)

    def lines(self, models: Mapping[str, Model]) -> Iterator[str]:
        """All of it; `models` are those of the config, which tell what a member is."""
        self._cards |= {name: model.card for name, model in models.items()}
        groups = sorted(self._counts.items())
        yield from _simple(groups)
        yield from _tokens(groups)
        yield from head("bicameral_call_seconds", "histogram", "Seconds that calls took.")
        for (model, ended), counts in groups:
            buckets = _within(counts.seconds, BUCKETS)
            labels = {"model": model, "ended": ended}
            yield from histogram(
                "bicameral_call_seconds", BUCKETS, buckets, f"{counts.time:.6f}", **labels
            )
        yield from self._gen_ai(groups)

    def _gen_ai(self, groups: Sequence[tuple[tuple[str, str], _Counts]]) -> Iterator[str]:
        name = "gen_ai_client_token_usage"
        yield from head(name, "histogram", "Tokens that a call took in or gave out.")
        for model in dict.fromkeys(model for (model, _), _ in groups):
            same = [counts for (other, _), counts in groups if other == model]
            labels = self._labels(model)
            for place, kind, field in ((0, "input", "asked"), (1, "output", "said")):
                buckets = [
                    sum(some) for some in zip(*(getattr(c, field) for c in same), strict=True)
                ]
                total = sum(counts.tokens[place] for counts in same)
                yield from histogram(name, TOKENS, buckets, total, **labels, gen_ai_token_type=kind)
        name = "gen_ai_client_operation_duration_seconds"
        yield from head(name, "histogram", "Seconds that a call took.")
        for (model, ended), counts in groups:
            labels = {**self._labels(model), **_ERRORS.get(ended, {})}
            buckets = _within(counts.seconds, SECONDS)
            yield from histogram(name, SECONDS, buckets, f"{counts.time:.6f}", **labels)

    def _labels(self, model: str) -> dict[str, str]:
        card = self._cards.get(model)
        return {
            "gen_ai_operation_name": "chat" if card is None else _operation(card),
            "gen_ai_provider_name": "bicameral" if card is None else card.engine,
            "gen_ai_request_model": model,
        }


def _reported(counts: _Counts, call: Call) -> None:
    """The tokens that the model reported; of what it did not report it says so."""
    usage, tokens = call.usage, counts.tokens
    prompt, completion = usage.prompt_tokens, usage.completion_tokens
    if prompt is None or completion is None:
        counts.unknown += 1
    if prompt is not None:
        tokens[0] += prompt
        counts.asked[bisect_left(TOKENS, prompt)] += 1
    if completion is not None:
        tokens[1] += completion
        counts.said[bisect_left(TOKENS, completion)] += 1
    if usage.cached_tokens:
        tokens[2] += usage.cached_tokens
    if usage.reasoning_tokens:
        tokens[3] += usage.reasoning_tokens


def _estimated(counts: _Counts, call: Call) -> None:
    usage = call.usage if call.estimate is None else call.estimate
    counts.estimated[0] += usage.prompt_tokens or 0
    counts.estimated[1] += usage.completion_tokens or 0
    counts.estimated_cost += call.cost or 0


def _simple(groups: Sequence[tuple[tuple[str, str], _Counts]]) -> Iterator[str]:
    yield from head("bicameral_calls_total", "counter", "Calls of members, by how they ended.")
    for (model, ended), counts in groups:
        yield series("bicameral_calls_total", counts.count, model=model, ended=ended)
    for name, field, what in (
        ("cost_dollars", "cost", "What calls cost, estimates included."),
        ("estimated_cost_dollars", "estimated_cost", "The part of the cost that is estimated."),
        ("unpriced_calls", "unpriced", "Calls of which nobody knows what they cost."),
        ("unmetered_calls", "unknown", "Calls whose tokens are not known."),
        ("mismatches", "mismatches", "Calls that another model answered than was asked for."),
    ):
        yield from head(f"bicameral_{name}_total", "counter", what)
        for model, total in _by_model(groups, field).items():
            shown = _dollars(total) if field in ("cost", "estimated_cost") else total
            yield series(f"bicameral_{name}_total", shown, model=model)


def _tokens(groups: Sequence[tuple[tuple[str, str], _Counts]]) -> Iterator[str]:
    name = "bicameral_call_tokens_total"
    yield from head(name, "counter", "Tokens that calls reported; estimates have their own kind.")
    for model in dict.fromkeys(model for (model, _), _ in groups):
        same = [counts for (other, _), counts in groups if other == model]
        for place, kind in enumerate(_KINDS):
            yield series(name, sum(c.tokens[place] for c in same), model=model, kind=kind)
        for place, kind in enumerate(("estimated_prompt", "estimated_completion")):
            yield series(name, sum(c.estimated[place] for c in same), model=model, kind=kind)


def _by_model(groups: Sequence[tuple[tuple[str, str], _Counts]], field: str) -> dict[str, int]:
    totals: dict[str, int] = {}
    for (model, _), counts in groups:
        totals[model] = totals.get(model, 0) + getattr(counts, field)
    return totals


def _within(counts: Sequence[int], bounds: Sequence[float]) -> list[int]:
    """The counts of the buckets of both kinds, put together into those of `bounds`."""
    found = [0] * (len(bounds) + 1)
    for bound, count in zip((*_BOTH, float("inf")), counts, strict=True):
        found[bisect_left(bounds, bound)] += count
    return found


def _dollars(nano: int) -> str:
    """Exactly: a float would lose nano-dollars."""
    return f"{nano // 10**9}.{nano % 10**9:09d}"


def _operation(card: Card) -> str:
    found = (_OPERATIONS[kind] for kind in _OPERATIONS if kind in card.emits)
    return next(found, "generate_content")
