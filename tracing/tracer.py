"""Spans as OpenTelemetry has them, in the trace that the current task follows."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Final
from uuid import uuid4

from opentelemetry.context import Context
from opentelemetry.trace import (
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    Tracer,
    set_span_in_context,
)
from opentelemetry.trace import Span as OpenTelemetrySpan

from domain import traces
from domain.traces import Trace, current_trace, use_trace

_NOTHING: Final = Context()
REQUEST_ID: Final = "darkroom.request.id"


class OpenTelemetryTracer:
    """See `domain.traces.Tracer`. Of an error only its type is recorded: a message may contain a
    prompt.
    """

    def __init__(self, tracer: Tracer) -> None:
        self._tracer = tracer

    @contextmanager
    def span(
        self, name: str, facts: Mapping[str, str | int], *, outwards: bool, inwards: bool
    ) -> Iterator[traces.Span]:
        outer = current_trace()
        request_id = outer.request_id if outer is not None else uuid4().hex
        kind = SpanKind.SERVER if inwards else SpanKind.CLIENT if outwards else SpanKind.INTERNAL
        span = self._tracer.start_span(
            name,
            _context_of(outer),
            kind,
            {**facts, REQUEST_ID: request_id},
            record_exception=False,
            set_status_on_exception=False,
        )
        traced = _TracedSpan(span)
        try:
            with use_trace(Trace(request_id, _traceparent_of(span))):
                yield traced
        except BaseException as error:
            traced.fail(type(error).__name__)
            raise
        finally:
            span.end()


class _TracedSpan:
    def __init__(self, span: OpenTelemetrySpan) -> None:
        self._span = span

    def add(self, facts: Mapping[str, str | int]) -> None:
        self._span.set_attributes(facts)

    def fail(self, reason: str) -> None:
        self._span.set_attribute("error.type", reason)
        self._span.set_status(Status(StatusCode.ERROR))


def _context_of(trace: Trace | None) -> Context:
    """The context in which a span belongs to a trace."""
    if trace is None or trace.traceparent is None:
        return _NOTHING
    _, trace_id, span_id, flags = trace.traceparent.split("-")
    parent = SpanContext(int(trace_id, 16), int(span_id, 16), True, TraceFlags(int(flags, 16)))
    return set_span_in_context(NonRecordingSpan(parent), _NOTHING)


def _traceparent_of(span: OpenTelemetrySpan) -> str:
    made = span.get_span_context()
    return f"00-{made.trace_id:032x}-{made.span_id:016x}-{made.trace_flags:02x}"
