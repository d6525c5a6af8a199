"""Where spans and metrics go, and whose child a request's span is: what the OTEL_* variables say.

Sent by OTLP over HTTP, as soon as OTEL_EXPORTER_OTLP_ENDPOINT is set and the extra `telemetry` is
installed; there is nothing about it in the config.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from bicameral.ledger.spans import OURS, SERVED, Traces

log = logging.getLogger("bicameral.ledger")

App = Callable[..., Awaitable[None]]

ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"


@asynccontextmanager
async def opened() -> AsyncIterator[Traces | None]:
    """What sends to where the environment's OTEL_* say, all of it before the block is left.

    None if OTEL_EXPORTER_OTLP_ENDPOINT is not set, or what is needed is not installed.
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
        ending = asyncio.to_thread(tracers.shutdown), asyncio.to_thread(meters.shutdown)
        await asyncio.gather(*ending)


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
