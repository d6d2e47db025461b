"""Opens the traces of a process, if its operators have enabled them."""

from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, TypeAlias

from domain.traces import Tracer
from settings import Settings, SettingsError, variable_of

if TYPE_CHECKING:
    from opentelemetry.sdk.trace.export import SpanExporter

Exporters: TypeAlias = "list[Callable[[], SpanExporter]]"


def find_exporters() -> Exporters:
    """Find the configured exporters. Raise SettingsError if OpenTelemetry is not installed."""
    variable = variable_of(Settings, "traces")
    try:
        from tracing import opening  # noqa: PLC0415 - most installations do not have it
    except ImportError as error:
        needed = f"{variable} needs OpenTelemetry: install requirements/otel.txt."
        raise SettingsError([needed]) from error
    try:
        return opening.find_exporters()
    except opening.UnknownExporter as error:
        raise SettingsError([f"{variable}: {error}"]) from error


async def open_tracer(stack: AsyncExitStack) -> Tracer:
    exporters = find_exporters()
    from tracing import opening  # noqa: PLC0415 - it is installed

    return await stack.enter_async_context(opening.open_tracer(exporters))
