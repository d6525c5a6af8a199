"""What is told of requests and calls to OpenTelemetry, over a real Brain with scripted members."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import aclosing
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from bicameral.brain import Brain
from bicameral.config import parse
from bicameral.errors import BicameralError, NotFound
from bicameral.ledger.spans import Traces
from bicameral.ledger.telemetry import incoming
from bicameral.model import Model
from bicameral.types import Request, Sampling

pytest.importorskip("opentelemetry.sdk")
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.semconv._incubating.attributes import gen_ai_attributes
from opentelemetry.trace import SpanKind, StatusCode

CONFIG = """
[models.one]
engine = "scripted"
reply = "yes SECRETREPLY"
owner = "anna"
price_input = "1"
price_output = "2"

[models.two]
engine = "scripted"
reply = "yes SECRETREPLY"
usage = false

[models.bad]
engine = "scripted"
fail = "rejected"

[minds.default]
policy = "vote"
members = ["one", "two"]

[minds.risky]
policy = "vote"
members = ["one", "bad"]
"""
QUESTION = Request.ask(
    "SECRETQUESTION", sampling=Sampling(max_tokens=9, temperature=0.5, stop=("SECRETSTOP",))
)


class Seen:
    """A brain whose requests are followed, and all that was told of them."""

    def __init__(self) -> None:
        self.exporter, self.reader = InMemorySpanExporter(), InMemoryMetricReader()
        tracers = TracerProvider()
        tracers.add_span_processor(SimpleSpanProcessor(self.exporter))
        self._meters = MeterProvider([self.reader])
        self.traces = Traces(tracers.get_tracer("test"), self._meters.get_meter("test"))

    async def ask(
        self, name: str, request: Request = QUESTION, *, most: int = 1000, config: str = CONFIG
    ) -> None:
        async with Brain.open(parse(config, "test"), note=self.traces.note) as brain:
            models: dict[str, Model] = dict(brain.models)
            events = self.traces.follow(partial(brain.run, name=name), request, name, models)
            async with aclosing(events):
                async for _ in events:
                    most -= 1
                    if most <= 0:
                        return

    @property
    def spans(self) -> list[ReadableSpan]:
        return list(self.exporter.get_finished_spans())

    @property
    def parent(self) -> ReadableSpan:
        return next(span for span in self.spans if span.kind is not SpanKind.CLIENT)

    def child(self, member: str) -> ReadableSpan:
        return next(s for s in self.spans if told(s).get("bicameral.member") == member)

    def points(self) -> dict[str, list[Any]]:
        data = self.reader.get_metrics_data()
        scopes = data.resource_metrics[0].scope_metrics if data else []
        return {m.name: list(m.data.data_points) for scope in scopes for m in scope.metrics}

    def close(self) -> None:
        self._meters.shutdown()


def told(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


@pytest.fixture
def seen() -> Iterator[Seen]:
    seen = Seen()
    yield seen
    seen.close()


async def test_a_request_is_a_span_and_its_calls_are_children(seen: Seen) -> None:
    await seen.ask("default")
    parent, child = seen.parent, seen.child("one")
    assert parent.name == "chat default"
    assert parent.kind is SpanKind.INTERNAL
    assert child.name == "chat scripted"
    assert len(seen.spans) == 3
    for span in (child, seen.child("two")):
        assert span.parent is not None
        assert span.parent.span_id == parent.context.span_id
        assert span.start_time <= span.end_time
    words = told(child)
    assert words.pop("gen_ai.response.time_to_first_chunk") >= 0
    assert words == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "scripted",
        "gen_ai.request.model": "scripted",
        "gen_ai.usage.input_tokens": 1,
        "gen_ai.usage.output_tokens": 2,
        "gen_ai.usage.cache_read.input_tokens": 0,
        "gen_ai.usage.reasoning.output_tokens": 0,
        "bicameral.member": "one",
        "bicameral.owner": "anna",
        "bicameral.ended": "finished",
        "bicameral.usage": "reported",
        "bicameral.cost_nano_dollars": 5000,
    }


async def test_the_request_tells_what_was_wanted_and_what_it_came_to(seen: Seen) -> None:
    await seen.ask("default", QUESTION.but(id="req_1"))
    words = told(seen.parent)
    assert words["gen_ai.provider.name"] == "bicameral"
    assert words["gen_ai.request.max_tokens"] == 9
    assert words["gen_ai.request.temperature"] == 0.5
    assert words["gen_ai.output.type"] == "text"
    assert words["gen_ai.response.id"] == "req_1"
    assert words["gen_ai.response.finish_reasons"] == ("stop",)
    assert words["bicameral.policy"] == "vote"
    assert words["bicameral.calls"] == 2
    assert words["bicameral.ended"] == "finished"


async def test_every_name_is_one_of_the_conventions(seen: Seen) -> None:
    await seen.ask("default", QUESTION.but(id="req_1"))
    known = {v for k, v in vars(gen_ai_attributes).items() if k.startswith("GEN_AI")}
    used = {name for span in seen.spans for name in told(span) if name.startswith("gen_ai.")}
    assert len(used) > 10
    assert used <= known


async def test_what_is_unknown_is_not_told_as_0(seen: Seen) -> None:
    await seen.ask("two")
    words = told(seen.child("two"))
    assert "gen_ai.usage.input_tokens" not in words or words["bicameral.usage"] == "estimated"
    assert "bicameral.cost_nano_dollars" not in words
    assert "bicameral.cost_nano_dollars" not in told(seen.parent)


async def test_metrics(seen: Seen) -> None:
    await seen.ask("one")
    points = seen.points()
    tokens = {p.attributes["gen_ai.token.type"]: p.sum for p in points["gen_ai.client.token.usage"]}
    assert tokens == {"input": 1, "output": 2}
    for name in (
        "gen_ai.client.operation.duration",
        "gen_ai.server.request.duration",
        "gen_ai.server.time_to_first_token",
    ):
        assert [point.count for point in points[name]] == [1]


async def test_a_failure_is_told_by_its_kind(seen: Seen) -> None:
    with pytest.raises(BicameralError) as raised:
        await seen.ask("bad")
    kind = type(raised.value).__name__
    assert told(seen.parent)["error.type"] == kind
    assert told(seen.child("bad"))["error.type"] == "_OTHER"
    for span in seen.spans:
        assert (span.status.status_code, span.status.description) == (StatusCode.ERROR, None)
        assert told(span)["bicameral.ended"] == "failed"
        assert not span.events
    (point,) = seen.points()["gen_ai.server.request.duration"]
    assert point.attributes["error.type"] == kind
    assert "gen_ai.server.time_to_first_token" not in seen.points()


async def test_a_member_that_failed_is_no_failure_of_the_request(seen: Seen) -> None:
    await seen.ask("risky")
    assert told(seen.child("bad"))["bicameral.ended"] == "failed"
    assert seen.parent.status.status_code is StatusCode.UNSET


async def test_who_hangs_up_makes_no_error(seen: Seen) -> None:
    await seen.ask("one", most=1)
    for span in (seen.parent, seen.child("one")):
        assert told(span)["bicameral.ended"] == "abandoned"
        assert "error.type" not in told(span)
        assert span.status.status_code is StatusCode.UNSET


async def test_no_text_is_told(seen: Seen) -> None:
    await seen.ask("default")
    await seen.ask("risky")
    data = seen.reader.get_metrics_data()
    said = "".join(span.to_json() for span in seen.spans) + (data.to_json() if data else "")
    assert "scripted" in said
    assert "SECRET" not in said


async def test_a_model_that_is_not_there_gets_no_span(seen: Seen) -> None:
    with pytest.raises(NotFound):
        await seen.ask("SECRETNAME")
    assert seen.spans == []


async def test_a_call_that_ends_after_its_request_is_told_all_the_same(seen: Seen) -> None:
    await seen.ask("one")
    (call,) = [s for s in seen.spans if s.kind is SpanKind.CLIENT]
    assert call.parent is not None
    async with Brain.open(parse(CONFIG, "test"), note=seen.traces.note) as brain:
        await brain.ask("a", mind="two")
    assert seen.child("two").parent is None


async def test_with_a_ledger_too(seen: Seen, tmp_path: Path) -> None:
    ledger = f'\n[ledger]\npath = "{tmp_path / "book.sqlite3"}"\n'
    await seen.ask("default", config=CONFIG + ledger)
    assert seen.child("one").parent is not None
    assert not seen.traces._asked


async def test_the_caller_s_trace_goes_on(seen: Seen) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await seen.ask("one")

    trace, span = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
    headers = [(b"traceparent", f"00-{trace}-{span}-01".encode())]
    await incoming(app)({"type": "http", "headers": headers}, None, None)
    parent = seen.parent
    assert parent.kind is SpanKind.SERVER
    assert parent.parent is not None
    assert f"{parent.parent.span_id:016x}" == span
    assert {f"{one.context.trace_id:032x}" for one in seen.spans} == {trace}
    await seen.ask("one")
    assert f"{seen.spans[-1].context.trace_id:032x}" != trace
