"""The trace of a request, in documents that are worked on after the request has ended."""

from domain.traces import Trace, current_trace
from storage.mongo.collections import Document


def trace_field() -> Document:
    """The field of a document that the current request writes. None is written for no request."""
    trace = current_trace()
    return {} if trace is None else {"trace": _write(trace)}


def read_trace(document: Document) -> Trace | None:
    found = document.get("trace")
    return found and Trace(found["requestId"], found.get("traceparent"))


def _write(trace: Trace) -> Document:
    written = {"requestId": trace.request_id}
    return written if trace.traceparent is None else {**written, "traceparent": trace.traceparent}
