"""The id of each request and socket, and the W3C Trace Context that it belongs to.

A client may send both, in headers or in messages of a socket. Malformed values are ignored, since
they would be copied into logs and headers.
"""

import re
from collections.abc import Awaitable, Iterable, Mapping
from secrets import token_hex
from typing import Any, Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from domain.traces import Span, Trace, Tracer, current_trace, span, use_trace

_ID: Final = "x-request-id"
_PARENT: Final = "traceparent"
_NAMES: Final = {name.encode(): name for name in (_ID, _PARENT)}
_START_MESSAGES: Final = {
    *("http.response.start", "websocket.accept"),
    "websocket.http.response.start",  # a refused handshake
}
"""The ASGI messages that carry a response's headers."""
_ROUTES: Final = ("graphql", "objects", "uploads", "logos", "studio", "healthz", "readyz")
_ID_FORM: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/+=@-]{0,127}", re.ASCII)
_PARENT_FORM: Final = re.compile(
    r"(?!ff)(?P<version>[0-9a-f]{2})"
    r"-(?P<context>(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2})(?P<later>-.*)?",
    re.ASCII,
)


class TracedRequests:
    """An ASGI application that gives requests and sockets an id and a trace, and returns them in
    headers.
    """

    def __init__(self, app: ASGIApp, tracer: Tracer | None = None) -> None:
        self._app = app
        self._tracer = tracer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        trace = merge_trace(None, _read_headers(scope["headers"]))
        with use_trace(trace, self._tracer):
            if scope["type"] != "http" or self._tracer is None:
                # A socket's operations have spans of their own: a span for the socket would end
                # only with it.
                await self._app(scope, receive, _add_headers(send))
                return
            facts = {"http.request.method": scope["method"], "http.route": route_of(scope["path"])}
            with span("request", facts, inwards=True) as answering:
                await self._app(scope, receive, _add_headers(send, answering))


def _add_headers(send: Send, answering: Span | None = None) -> Send:
    def name(message: Message) -> Awaitable[None]:
        if message["type"] in _START_MESSAGES:
            message["headers"] = [*message.get("headers", ()), *_write_headers()]
            if answering is not None:
                answering.add({"http.response.status_code": message["status"]})
        return send(message)

    return name


def route_of(path: str) -> str:
    """The part of Darkroom that a path leads to, for metrics."""
    first = path.lstrip("/").partition("/")[0]
    return first if first in _ROUTES else "other"


def request_id() -> str:
    """The id of the request or operation that is being answered."""
    trace = current_trace()
    return _new_id() if trace is None else trace.request_id


def find_trace_values(payload: Mapping[str, Any] | None) -> Mapping[str, str]:
    """Trace values in a message of a socket, by the names of the headers in any case."""
    lowered = ((name.lower(), value) for name, value in (payload or {}).items())
    return {
        name: value for name, value in lowered if name in (_ID, _PARENT) and isinstance(value, str)
    }


def merge_trace(trace: Trace | None, names: Mapping[str, str]) -> Trace:
    """A trace with these values, and the given trace's where they are missing; with a new id if
    there is none.
    """
    given, parent = names.get(_ID, ""), _PARENT_FORM.fullmatch(names.get(_PARENT, ""))
    known_id, known_parent = (trace.request_id, trace.traceparent) if trace else (None, None)
    if parent and (parent["version"] == "00") and parent["later"]:
        parent = None
    return Trace(
        given if _ID_FORM.fullmatch(given) else known_id or _new_id(),
        f"00-{parent['context']}" if parent else known_parent,
    )


def _new_id() -> str:
    return token_hex(16)


def _read_headers(headers: Iterable[tuple[bytes, bytes]]) -> Mapping[str, str]:
    return {_NAMES[name]: value.decode("latin-1") for name, value in headers if name in _NAMES}


def _write_headers() -> list[tuple[bytes, bytes]]:
    trace = current_trace()
    assert trace is not None
    written = [(_ID, trace.request_id), (_PARENT, trace.traceparent)]
    return [(name.encode(), value.encode()) for name, value in written if value is not None]
