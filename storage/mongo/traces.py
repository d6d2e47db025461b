"""The trace of a request, in documents that are processed after the request has ended."""

from domain.traces import Trace, current_trace
from storage.mongo.collections import Document


def trace_field() -> Document:
    """The field for the current request's trace; empty if there is no request."""
    trace = current_trace()
    return {} if trace is None else {"trace": _write(trace)}


def read_trace(document: Document) -> Trace | None:
    found = document.get("trace")
    return found and Trace(found["requestId"], found.get("traceparent"))


def _write(trace: Trace) -> Document:
    written = {"requestId": trace.request_id}
    return written if trace.traceparent is None else {**written, "traceparent": trace.traceparent}
