"""Requests, and the calls made for them, as OpenTelemetry spans and metrics.

By the conventions for generative AI (gen_ai.*), as far as they have been released; what they have
no name for is bicameral.*. A request is one span, and each call of a member a child of it, made
when the call ends. Names, numbers and kinds of failure only: no text of the user's or of a
model's, no message of an error, which may quote one, and no key.
"""

from __future__ import annotations

import os
import time
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from msgspec.structs import replace

from bicameral.model import Model
from bicameral.types import Card, Done, Event, Modality, Request
from bicameral.usage import Call, Ended, Usage, total_cost

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.metrics import Histogram, Meter
    from opentelemetry.trace import Span, SpanKind, Tracer

Run = Callable[[Request], AsyncGenerator[Event]]
Attributes = dict[str, Any]

OURS = "bicameral"
SERVED = "bicameral.served"
# As the conventions advise.
_SECONDS = [0.01 * 2**power for power in range(14)]
_FIRST = [
    0.001,
    0.005,
    0.01,
    0.02,
    0.04,
    0.06,
    0.08,
    0.1,
    0.25,
    0.5,
    0.75,
    1.0,
    2.5,
    5.0,
    7.5,
    10.0,
]
_TOKENS = [float(4**power) for power in range(14)]
_OPERATIONS = {
    Modality.TEXT: "chat",
    Modality.EMBEDDING: "embeddings",
    Modality.PERCEPT: "perceive",
    Modality.IMAGE: "generate_content",
    Modality.AUDIO: "generate_content",
    Modality.VIDEO: "generate_content",
}
_OUTPUTS = {Modality.TEXT: "text", Modality.IMAGE: "image", Modality.AUDIO: "speech"}


class Traces:
    """Makes a span of every request that it follows and every call that it is told of."""

    def __init__(self, tracer: Tracer, meter: Meter) -> None:
        self.tracer = tracer
        self._asked: dict[str, _Asked] = {}
        histogram = meter.create_histogram
        self._tokens = histogram(
            "gen_ai.client.token.usage",
            unit="{token}",
            description="Number of input and output tokens used.",
            explicit_bucket_boundaries_advisory=_TOKENS,
        )
        self._call = _seconds(histogram, "gen_ai.client.operation.duration", "of a member's call")
        self._request = _seconds(histogram, "gen_ai.server.request.duration", "of a request")
        self._first = _seconds(
            histogram, "gen_ai.server.time_to_first_token", "to its first token", _FIRST
        )

    async def follow(
        self, run: Run, request: Request, name: str, models: Mapping[str, Model]
    ) -> AsyncGenerator[Event]:
        """The events of `run(request)`, under a span; the request gets a booking if it has none.

        `name` is the model asked, one of `models`; another name is the client's own text, and gets
        no span. Its parent is the current span, if there is one.
        """
        if name not in models:
            async with aclosing(run(request)) as events:
                async for event in events:
                    yield event
            return
        request = replace(request, booking=request.booking or os.urandom(12).hex())
        with _Asked(self, request, name, models) as asked:
            async with aclosing(run(request)) as events:
                async for event in events:
                    asked.saw(event)
                    yield event

    def note(self, call: Call, booking: str) -> None:
        """A span of `call`, which has just ended, under its request's if that has not."""
        from opentelemetry import trace

        asked = self._asked.get(booking)
        member = asked.models.get(call.model) if asked else None
        about = _about_call(call, member.card if member else None)
        ended, end = _ended(call), time.time_ns()
        span = self.tracer.start_span(
            f"{about['gen_ai.operation.name']} {about['gen_ai.request.model']}",
            context=asked.context if asked else None,
            kind=trace.SpanKind.CLIENT,
            start_time=end - round((call.seconds or 0.0) * 1e9),
            attributes=about | _spent(call) | _failure(ended, "_OTHER"),
        )
        if ended == "failed":
            span.set_status(trace.StatusCode.ERROR)
        span.end(end)
        self._count(call, about, _failure(ended, "_OTHER"))

    def _count(self, call: Call, about: Attributes, failure: Attributes) -> None:
        if call.seconds is not None:
            self._call.record(call.seconds, about | failure)
        usage = _usage(call)
        for kind, tokens in (("input", usage.prompt_tokens), ("output", usage.completion_tokens)):
            if tokens is not None:
                self._tokens.record(tokens, about | {"gen_ai.token.type": kind})

    def _opened(self, asked: _Asked) -> None:
        self._asked[asked.request.booking] = asked

    def _closed(self, asked: _Asked, about: Attributes, seconds: float) -> None:
        self._asked.pop(asked.request.booking, None)
        self._request.record(seconds, about)
        if asked.first is not None and asked.done is not None:
            self._first.record(asked.first, about)


class _Asked:
    """One request while it runs."""

    def __init__(
        self, traces: Traces, request: Request, name: str, models: Mapping[str, Model]
    ) -> None:
        self._traces = traces
        self._name = name
        self.request = request
        self.models = models
        self.first: float | None = None
        self.done: Done | None = None

    def __enter__(self) -> Self:
        from opentelemetry import context, trace

        self._about = _about(_OPERATIONS[self.request.output], OURS, self._name)
        self._began = time.perf_counter()
        self._span: Span = self._traces.tracer.start_span(
            f"{self._about['gen_ai.operation.name']} {self._name}",
            kind=_kind(),
            attributes=self._about | _wanted(self.request),
        )
        self.context: Context = trace.set_span_in_context(self._span, context.Context())
        self._traces._opened(self)
        return self

    def saw(self, event: Event) -> None:
        """Take down when it began to answer, and how it ended."""
        if self.first is None:
            self.first = time.perf_counter() - self._began
        if isinstance(event, Done):
            self.done = event

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """The kind of an error is told, not what it says; to be closed is none."""
        from opentelemetry.trace import StatusCode

        failed = kind is not None and issubclass(kind, Exception) and self.done is None
        ended: Ended = "finished" if self.done else "failed" if failed else "abandoned"
        failure = _failure(ended, kind.__name__ if kind else "")
        said = _said(self.done) if self.done else {}
        self._span.set_attributes({f"{OURS}.ended": ended, **said, **failure})
        if failed:
            self._span.set_status(StatusCode.ERROR)
        self._span.end()
        self._traces._closed(self, self._about | failure, time.perf_counter() - self._began)


# --- what is told -------------------------------------------------------------------------------


def _about(operation: str, provider: str, model: str) -> Attributes:
    return {
        "gen_ai.operation.name": operation,
        "gen_ai.provider.name": provider,
        "gen_ai.request.model": model,
    }


def _about_call(call: Call, card: Card | None) -> Attributes:
    """What its metrics are told apart by as well."""
    emits = card.emits if card else frozenset({Modality.TEXT})
    operation = next(_OPERATIONS[kind] for kind in Modality if kind in emits)
    about = _about(
        operation, card.engine if card else OURS, (card.serves if card else "") or call.model
    )
    if call.served:
        about["gen_ai.response.model"] = call.served
    return about


def _wanted(request: Request) -> Attributes:
    """Not what to stop at: that is the user's text."""
    sampling = request.sampling
    output = "json" if request.format else _OUTPUTS.get(request.output)
    return _known(
        {
            "gen_ai.output.type": output,
            "gen_ai.request.max_tokens": sampling.max_tokens,
            "gen_ai.request.temperature": sampling.temperature,
            "gen_ai.request.top_p": sampling.top_p,
            "gen_ai.request.seed": sampling.seed,
            "gen_ai.request.frequency_penalty": sampling.frequency_penalty,
            "gen_ai.request.presence_penalty": sampling.presence_penalty,
            "gen_ai.request.choice.count": request.n if request.n != 1 else None,
            "gen_ai.request.stream": request.wire.stream if request.wire else None,
            "gen_ai.response.id": request.id or None,
        }
    )


def _said(done: Done) -> Attributes:
    decision = done.decisions[0] if done.decisions else None
    return _tokens(done.usage) | _known(
        {
            "gen_ai.response.finish_reasons": [done.reason],
            "gen_ai.response.model": done.served or done.by or None,
            f"{OURS}.by": done.by or None,
            f"{OURS}.calls": len(done.calls),
            f"{OURS}.cost_nano_dollars": total_cost(done.calls),
            f"{OURS}.policy": decision.policy if decision else None,
        }
    )


def _spent(call: Call) -> Attributes:
    return _tokens(_usage(call)) | _known(
        {
            "gen_ai.response.time_to_first_chunk": call.first_token,
            f"{OURS}.member": call.model,
            f"{OURS}.owner": call.owner or None,
            f"{OURS}.ended": _ended(call),
            f"{OURS}.usage": call.state,
            f"{OURS}.cost_nano_dollars": call.cost,
            f"{OURS}.mismatch": call.mismatch or None,
        }
    )


def _tokens(usage: Usage) -> Attributes:
    return _known(
        {
            "gen_ai.usage.input_tokens": usage.prompt_tokens,
            "gen_ai.usage.output_tokens": usage.completion_tokens,
            "gen_ai.usage.cache_read.input_tokens": usage.cached_tokens,
            "gen_ai.usage.reasoning.output_tokens": usage.reasoning_tokens,
        }
    )


def _known(attributes: Attributes) -> Attributes:
    """Without what is unknown: it is not 0."""
    return {name: value for name, value in attributes.items() if value is not None}


def _usage(call: Call) -> Usage:
    return call.usage if call.estimate is None else call.estimate


def _ended(call: Call) -> Ended:
    if call.ended != "finished" or call.error is None:
        return call.ended
    return "abandoned" if call.error == "abandoned" else "failed"


def _failure(ended: Ended, kind: str) -> Attributes:
    return {"error.type": kind} if ended == "failed" else {}


def _kind() -> SpanKind:
    from opentelemetry import context, trace

    served = context.get_value(SERVED)
    return trace.SpanKind.SERVER if served else trace.SpanKind.INTERNAL


def _seconds(
    histogram: Callable[..., Histogram], name: str, what: str, bounds: list[float] = _SECONDS
) -> Histogram:
    return histogram(
        name,
        unit="s",
        description=f"Seconds {what}.",
        explicit_bucket_boundaries_advisory=bounds,
    )
