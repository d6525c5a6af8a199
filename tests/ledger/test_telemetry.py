"""What the OTEL_* variables say is done: sent over HTTP to a collector, or nothing at all."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from bicameral.brain import Brain
from bicameral.config import parse
from bicameral.ledger import telemetry

CONFIG = '[models.echo]\nengine = "scripted"\n'
Posts = list[tuple[str, bytes]]


@contextmanager
def collector() -> Iterator[tuple[str, Posts]]:
    """A collector on loopback: its URL and what was posted to it."""
    posts: Posts = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            posts.append((self.path, self.rfile.read(int(self.headers["content-length"]))))
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", posts
        server.shutdown()
        thread.join()


async def test_all_of_it_is_sent_before_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("opentelemetry.sdk")
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    with collector() as (url, posts):
        monkeypatch.setenv(telemetry.ENDPOINT, url)
        async with (
            telemetry.opened() as traces,
            Brain.open(parse(CONFIG, "test"), note=traces.note if traces else None) as brain,
        ):
            assert traces is not None
            await brain.ask("hello")
    sent = dict(posts)
    assert sorted(sent) == ["/v1/metrics", "/v1/traces"]
    (found,) = ExportTraceServiceRequest.FromString(sent["/v1/traces"]).resource_spans
    service = {a.key: a.value.string_value for a in found.resource.attributes}["service.name"]
    assert service == "bicameral"
    assert [span.name for scope in found.scope_spans for span in scope.spans] == ["chat echo"]


async def test_nobody_waits_for_a_collector_that_is_down(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(telemetry, "PATIENCE", 0.05)
    over = threading.Event()
    try:
        async with asyncio.timeout(10):
            await telemetry._ended(lambda: None, lambda: over.wait() and None)
    finally:
        over.set()


@pytest.mark.parametrize("off", [{}, {"OTEL_SDK_DISABLED": "true", telemetry.ENDPOINT: "http://x"}])
async def test_it_is_off_unless_it_is_asked_for(
    off: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(telemetry.ENDPOINT, raising=False)
    for name, value in off.items():
        monkeypatch.setenv(name, value)
    async with telemetry.opened() as traces:
        assert traces is None


def test_off_it_loads_nothing() -> None:
    code = (
        "import asyncio, sys\n"
        "from bicameral.ledger import telemetry\n"
        "async def main():\n"
        "    async with telemetry.opened() as traces:\n"
        "        print(traces, 'opentelemetry' in sys.modules)\n"
        "asyncio.run(main())\n"
    )
    command = [sys.executable, "-c", code]
    out = subprocess.run(command, capture_output=True, text=True, check=True, env={})
    assert out.stdout == "None False\n"
