"""Sends spans to a collector, configured by the standard variables of OpenTelemetry.

`OTEL_TRACES_EXPORTER`, `OTEL_EXPORTER_OTLP_…`, `OTEL_TRACES_SAMPLER`, `OTEL_SERVICE_NAME` and the
others are read here and by the SDK, so that they have their usual meaning. What must stay true: a
collector that is away, or that hangs, loses its spans and disturbs nothing else.
"""

import asyncio
import os
import threading
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from importlib.metadata import entry_points
from typing import Final

from opentelemetry.sdk.resources import SERVICE_NAME, OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter

from tracing.tracer import OpenTelemetryTracer

LAST_SECONDS: Final = 2.0
"""How long unsent spans may take at the end."""
_EXPORTERS: Final = "opentelemetry_traces_exporter"
"""The name under which packages offer exporters."""
_OTLP: Final = {"http/protobuf": "otlp_proto_http", "grpc": "otlp_proto_grpc"}


class UnknownExporter(Exception):
    """The message is a sentence for operators."""


def find_exporters() -> list[Callable[[], SpanExporter]]:
    """The exporters that `OTEL_TRACES_EXPORTER` lists. Raise UnknownExporter."""
    names = [name.strip() for name in os.environ.get("OTEL_TRACES_EXPORTER", "otlp").split(",")]
    return [_find_exporter(name) for name in names if name not in {"", "none"}]


@asynccontextmanager
async def open_tracer(
    exporters: Iterable[Callable[[], SpanExporter]],
) -> AsyncIterator[OpenTelemetryTracer]:
    """Send spans until the block ends, from threads of their own."""
    resource = Resource({SERVICE_NAME: "darkroom"}).merge(OTELResourceDetector().detect())
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    for open_exporter in exporters:
        provider.add_span_processor(BatchSpanProcessor(open_exporter()))
    try:
        yield OpenTelemetryTracer(provider.get_tracer("darkroom"))
    finally:
        await _shut_down(provider)


def _find_exporter(name: str) -> Callable[[], SpanExporter]:
    if name == "otlp":
        protocol = (
            os.environ.get("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL")
            or os.environ.get("OTEL_EXPORTER_OTLP_PROTOCOL")
            or "http/protobuf"
        )
        name = _OTLP.get(protocol, protocol)
    found = list(entry_points(group=_EXPORTERS, name=name))
    if not found:
        raise UnknownExporter(f"There is no exporter {name} of traces: is its package installed?")
    exporter: Callable[[], SpanExporter] = found[0].load()
    return exporter


async def _shut_down(provider: TracerProvider) -> None:
    """Send the remaining spans. A collector that hangs does not delay the end of the process."""
    loop, done = asyncio.get_running_loop(), asyncio.Event()

    def shut_down() -> None:
        try:
            provider.shutdown()
        finally:
            with suppress(RuntimeError):  # The loop has not waited for it.
                loop.call_soon_threadsafe(done.set)

    threading.Thread(target=shut_down, name="end of traces", daemon=True).start()
    with suppress(TimeoutError):
        async with asyncio.timeout(LAST_SECONDS):
            await done.wait()
