"""Where spans and metrics go, and whose child a request's span is: what the OTEL_* variables say.

Sent by OTLP over HTTP, as soon as OTEL_EXPORTER_OTLP_ENDPOINT is set and the extra `telemetry` is
installed; there is nothing about it in the config.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from bicameral.ledger.spans import OURS, SERVED, Traces

log = logging.getLogger("bicameral.ledger")

App = Callable[..., Awaitable[None]]

ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
PATIENCE = 5.0


@asynccontextmanager
async def opened() -> AsyncIterator[Traces | None]:
    """What sends to where the environment's OTEL_* say, all of it before the block is left.

    Unless that takes more than five seconds: nobody waits for a collector that is down. None if
    OTEL_EXPORTER_OTLP_ENDPOINT is not set, or what is needed is not installed.
    """
    if not os.environ.get(ENDPOINT) or os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true":
        yield None
        return
    try:
        providers = _providers()
    except ModuleNotFoundError:
        log.warning("%s is set, but nothing is sent: pip install 'bicameral[telemetry]'", ENDPOINT)
        yield None
        return
    tracers, meters = providers
    try:
        yield Traces(tracers.get_tracer(OURS), meters.get_meter(OURS))
    finally:
        await _ended(tracers.shutdown, meters.shutdown)


async def _ended(*endings: Callable[[], None]) -> None:
    """Send what waits, in threads that keep nobody from leaving."""
    threads = [threading.Thread(target=ending, daemon=True) for ending in endings]
    for thread in threads:
        thread.start()
    end = time.monotonic() + PATIENCE
    for thread in threads:
        await asyncio.to_thread(thread.join, max(0.0, end - time.monotonic()))
    if any(thread.is_alive() for thread in threads):
        log.warning("the collector does not answer: the last spans and metrics are lost")


def incoming(app: App) -> App:
    """The ASGI `app`, its requests' spans being children of what their traceparent names."""
    from opentelemetry import context, propagate

    async def traced(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await app(scope, receive, send)
            return
        carrier = {k.decode("latin-1"): v.decode("latin-1") for k, v in scope["headers"]}
        found = propagate.extract(carrier, context=context.Context())
        token = context.attach(context.set_value(SERVED, True, found))
        try:
            await app(scope, receive, send)
        finally:
            context.detach(token)

    return traced


def _providers() -> tuple[Any, Any]:
    """ModuleNotFoundError if the SDK or its exporter is not installed."""
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    resource = Resource.create()
    if str(resource.attributes.get("service.name", "")).startswith("unknown_service"):
        resource = resource.merge(Resource({"service.name": OURS}))
    tracers = TracerProvider(resource=resource, shutdown_on_exit=False)
    tracers.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    readers = [PeriodicExportingMetricReader(OTLPMetricExporter())]
    return tracers, MeterProvider(readers, resource=resource, shutdown_on_exit=False)
