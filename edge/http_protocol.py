"""The server's side of an HTTP connection: uvicorn's, with limits for what precedes a request.

uvicorn and httptools limit neither the head of a request, nor the time that it takes, nor the
number of requests that wait behind an unanswered one. What must stay true: what one connection
holds in memory is bounded, no call of the parser takes long, and every connection ends, whatever
the client does.
"""

import asyncio
from contextlib import suppress
from typing import Final, cast

import httptools
import orjson
from uvicorn._types import ASGI3Application
from uvicorn.protocols.http.httptools_impl import (
    STATUS_LINE,
    HttpToolsProtocol,
    RequestResponseCycle,
)

from edge.frames import WebSocketProtocol
from edge.loop_rounds import LoopRounds, ProtocolInRounds
from edge.request_heads import (
    HEADERS_TOO_LARGE,
    MALFORMED,
    Refusal,
    find_fault,
    find_fault_of_body,
    find_fault_of_upgrade,
)
from edge.responses import error_body
from edge.send_limits import SendLimit
from settings import Limits

ENDLESS: Final = "darkroom.endless"
"""The extension by which a response says that it ends only when its client leaves. A server that
stops cuts such a response, since one that ends in order is complete to a client.
"""
MAX_PIPELINED: Final = 16
"""Requests that may wait behind an unanswered one."""
MAX_SMALL_CHUNKS: Final = 1_000
CHUNK_BYTES: Final = 64
"""A body may have MAX_SMALL_CHUNKS chunks, and one more for each CHUNK_BYTES of its size: reading a
chunk of one byte takes as long as reading a large one.
"""
LINGER_SECONDS: Final = 2.0
"""How long a client has to read a refusal. If a socket is closed before everything that was sent
has been read, the system resets the connection, and the refusal may be lost.
"""
MAX_DROPPED_BYTES: Final = 1024 * 1024
"""How much is read and dropped of a connection whose requests are not read any more. What comes
after it stays unread, so that a client that sends without end does not keep the process busy.
"""
_SLICE_BYTES: Final = 16 * 1024
"""How much is parsed between two checks of the limits."""

_CHUNKS_TOO_SMALL: Final = (400, "BAD_REQUEST", "The body comes in too many small chunks.")
_UPGRADE_TOO_EARLY: Final = (
    400,
    "BAD_REQUEST",
    "A WebSocket is opened once the answers before it have been read.",
)
_HEAD_TOO_SLOW: Final = (408, "REQUEST_TIMEOUT", "The headers took too long to arrive.")


_DEFAULTS: Final = Limits()
_OF_AN_UPGRADE: Final = frozenset({b"connection", b"upgrade", b"http2-settings"})


class _Stop(Exception):
    """Ends a call of the parser from within a callback."""


class HttpProtocol(ProtocolInRounds, HttpToolsProtocol):  # type: ignore[misc]
    """One connection."""

    _in_head = False
    _in_body = False
    _head_began = 0.0
    _head_bytes = 0
    """The bytes of all complete names and values, and of the URL."""
    _body_bytes = 0
    _chunks = 0
    """What has arrived of the body."""
    _unparsed_bytes = 0
    """Bytes given to the parser since its last report; it holds incomplete names and values."""
    _refusal: Refusal = MALFORMED
    _stopped = False
    """Whether the rest of what the client sends is dropped."""
    _dropped_bytes = 0
    _running: RequestResponseCycle | None = None
    """The request that is being answered. `cycle` is the latest one, which may wait behind it."""
    _sending: SendLimit | None = None
    _ignored_upgrade = False
    """Whether the head that has just been read asks for a protocol that is not spoken here."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Called when a client has connected."""
        self._limits: Limits = self.app_state.get("limits") or _DEFAULTS
        self.rounds = self.app_state.get("rounds") or LoopRounds(self.loop)
        super().connection_made(transport)
        self._limit_idle_time()

    def pause_writing(self) -> None:
        """Called when the connection is full."""
        super().pause_writing()
        if self._sending is None:
            seconds, give_up = self._limits.send_seconds, self.transport.abort
            self._sending = SendLimit(self.transport, seconds=seconds, give_up=give_up)
        self._sending.begin()

    def resume_writing(self) -> None:
        """Called when there is room again."""
        super().resume_writing()
        if self._sending is not None:
            self._sending.end()

    def receive_data(self, data: bytes) -> None:
        """Parse what has arrived, unless this connection is not read any more."""
        if self._stopped:
            self._drop(data)
            return
        if len(data) <= _SLICE_BYTES:
            self._parse(data)
            return
        view = memoryview(data)
        for start in range(0, len(data), _SLICE_BYTES):
            if self._stopped:
                return
            protocol = self.transport.get_protocol()
            if protocol is not self:
                if isinstance(protocol, WebSocketProtocol):
                    protocol.receive_data(data[start:])
                return
            self._parse(view[start : start + _SLICE_BYTES])

    def stop_writing(self) -> None:
        """The connection is closed: write nothing, also when a timer ends."""
        self._unset_keepalive_if_required()
        for cycle in (self.cycle, self._running):
            if cycle is not None and not cycle.response_complete:
                cycle.disconnected = True

    def end(self, exc: Exception | None) -> None:
        """End what belongs to the connection, and the answer that is being written."""
        HttpToolsProtocol.connection_lost(self, exc)
        self._forget_waiting()
        if self._sending is not None:
            self._sending.end()
        if self._running is not None and not self._running.response_complete:
            self._running.message_event.set()

    def shutdown(self) -> None:
        """Called when the server stops. A response may end, unless it never does by itself."""
        running = self._running
        if self.waits:
            self.rounds.put_off(self.shutdown)  # behind the request, which may not be sent again
        elif running is None or ENDLESS not in running.scope["extensions"]:
            super().shutdown()
        elif self.flow.write_paused:
            self.transport.abort()
        else:
            self.transport.close()

    def timeout_keep_alive_handler(self) -> None:
        """Called when the connection has been idle for too long, or the rest of a request does not
        arrive.
        """
        if self.waits:
            self._limit_idle_time()
            return
        if self._stopped or not self._in_head:
            self.transport.close()
            return
        left = self._head_began + self._limits.head_seconds - self.loop.time()
        if left > 0:
            self._limit_idle_time(left)
        else:
            self._refuse(_HEAD_TOO_SLOW)

    def on_message_begin(self) -> None:
        """httptools: the first byte of a request has arrived."""
        if len(self.pipeline) >= MAX_PIPELINED:
            raise _Stop
        self._in_head = True
        self._head_began = self.loop.time()
        self._head_bytes = self._unparsed_bytes = self._body_bytes = self._chunks = 0
        super().on_message_begin()
        self.scope["extensions"] = {}

    def on_url(self, url: bytes) -> None:
        """httptools: a part of the URL has arrived."""
        super().on_url(url)
        self._unparsed_bytes = 0
        if len(self.url) > self._limits.url_bytes:
            message = f"A URL can have at most {self._limits.url_bytes} bytes."
            self._stop((414, "URL_TOO_LONG", message))

    def on_header(self, name: bytes, value: bytes) -> None:
        """httptools: a header is complete, or a trailer after a chunked body, which is dropped."""
        if not self._in_head:
            return
        self._unparsed_bytes = 0
        self._head_bytes += len(name) + len(value)
        limits = self._limits
        if self._head_bytes > limits.head_bytes or len(self.headers) >= limits.head_fields:
            self._stop(self._head_too_large)
        super().on_header(name, value.rstrip(b" \t"))  # httptools strips what precedes it

    def on_headers_complete(self) -> None:
        """httptools: the application may begin."""
        self._in_head = False
        self._unparsed_bytes = 0
        self._unset_keepalive_if_required()
        refusal = self._find_fault()
        if refusal is not None:
            self._stop(refusal)
        asks_for_another = self.parser.should_upgrade() and not self._should_upgrade()
        self._ignored_upgrade = asks_for_another and self.parser.get_method() != b"CONNECT"
        if self._ignored_upgrade:
            return
        super().on_headers_complete()
        if self.cycle is not None:  # as for a WebSocket
            way_out = _WayOut(self.transport, self.loop)
            self.cycle.transport = way_out  # type: ignore[assignment]
        self._in_body = True

    def _find_fault(self) -> Refusal | None:
        """What is wrong with the head that has arrived."""
        parser, headers = self.parser, self.headers
        version = parser.get_http_version()
        refusal = find_fault(self.url, version, headers)
        if refusal is not None:
            return refusal
        if parser.should_upgrade() and self._should_upgrade():
            refusal = find_fault_of_upgrade(parser.get_method(), version, headers)
            if refusal is not None:
                return refusal
            # The protocol of WebSockets would not learn when there is room again.
            is_read = self._is_answered() and not self.flow.write_paused
            return None if is_read else _UPGRADE_TOO_EARLY
        return find_fault_of_body(version, headers)

    def on_chunk_header(self) -> None:
        """httptools: a chunk of the body begins."""
        self._chunks += 1
        if self._chunks > MAX_SMALL_CHUNKS + self._body_bytes // CHUNK_BYTES:
            self._stop(_CHUNKS_TOO_SMALL)

    def on_body(self, body: bytes) -> None:
        """httptools: a part of the body has arrived."""
        self._unparsed_bytes = 0
        self._body_bytes += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        """httptools: the request is complete."""
        if self._ignored_upgrade:
            return
        self._in_body = False
        self._unparsed_bytes = 0
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """uvicorn: an answer has been written."""
        self._flush()  # An answer to HEAD has nothing but its head.
        if self.pipeline and not self.rounds.has_room():
            self.rounds.put_off(self._begin_next)
        else:
            self._begin_next()

    def _begin_next(self) -> None:
        """Begin to answer the request that waits behind the one that has been answered, if any."""
        super().on_response_complete()
        if self._stopped and self._is_answered() and not self.transport.is_closing():
            self._linger()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        self._running = cycle
        super()._start_asgi_task(cycle, app)

    def _parse(self, data: bytes | memoryview) -> None:
        self._unparsed_bytes += len(data)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            if self._ignored_upgrade:
                self._parse_without_upgrade(data[upgrade.args[0] :])
            elif self._should_upgrade():
                self._hand_over(bytes(data[upgrade.args[0] :]))
            else:
                self._stopped = True  # What follows CONNECT may be another protocol.
        except httptools.HttpParserError:
            self._refuse(self._refusal)
        else:
            if self._unparsed_bytes > self._limits.head_bytes:
                self._refuse(self._head_too_large)

    def _hand_over(self, behind: bytes) -> None:
        """Hand the connection over to the protocol of WebSockets, with what has arrived behind the
        handshake.
        """
        protocol_class = self.ws_protocol_class
        if protocol_class is None or not issubclass(protocol_class, WebSocketProtocol):
            self.handle_websocket_upgrade()  # uvicorn drops what is behind.
            return
        protocol = protocol_class(
            config=self.config, server_state=self.server_state, app_state=self.app_state
        )
        self.connections.discard(self)
        protocol.connection_made(self.transport)
        self.transport.set_protocol(protocol)
        self.parser = None  # type: ignore[assignment]  # It holds this.
        protocol.begin(self.url, self.headers, behind)

    def _parse_without_upgrade(self, rest: bytes | memoryview) -> None:
        """Read the head again without what asks for another protocol: that may be ignored, as some
        clients ask for HTTP/2 so in every request, and httptools reads no body after it.
        """
        self._ignored_upgrade = False
        parser = self.parser
        version = parser.get_http_version().encode()
        head = [b"%b %b HTTP/%b\r\n" % (parser.get_method(), self.url, version)]
        for name, value in self.headers:
            if name == b"connection" and b"close" in value.lower():
                head.append(b"connection: close\r\n")
            elif name not in _OF_AN_UPGRADE:
                head.append(b"%b: %b\r\n" % (name, value))
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn does
        self._parse(b"".join((*head, b"\r\n")))
        if not self._stopped:
            self._parse(rest)

    @property
    def _head_too_large(self) -> Refusal:
        message = (
            f"The headers can have at most {self._limits.head_bytes} bytes, and there can be "
            f"{self._limits.head_fields} of them."
        )
        return 431, HEADERS_TOO_LARGE, message

    def _stop(self, refusal: Refusal) -> None:
        self._refusal = refusal
        raise _Stop

    def _refuse(self, refusal: Refusal) -> None:
        """Stop reading this connection. Send the refusal, unless a response is still being written.

        Requests that were complete before are answered.
        """
        self._stopped = True
        self._flush()  # A head or `100 Continue` may wait, and could not be written later.
        cycle = self.cycle
        if not self._in_body:
            if self._is_answered():
                self._answer(refusal)
        elif cycle.response_complete and not self.pipeline:
            self._linger()  # The client may not have read the response yet.
        elif cycle.response_started or self.pipeline:
            self.transport.close()
        else:
            cycle.disconnected = True
            cycle.message_event.set()
            self._answer(refusal)

    def _drop(self, data: bytes) -> None:
        self._dropped_bytes += len(data)
        if self._dropped_bytes > MAX_DROPPED_BYTES:
            self.flow.pause_reading()

    def _is_answered(self) -> bool:
        """Whether every request whose head is complete has been answered."""
        return self.cycle is None or self.cycle.response_complete

    def end_answer(self) -> None:
        """Called instead of closing the connection: behind an answer that is complete, the client
        gets time to read it. `on_response_complete` follows.
        """
        running = self._running
        if running is None or not running.response_complete:
            self.transport.close()
        else:
            self._stopped = True
            self._forget_waiting()

    def _forget_waiting(self) -> None:
        """Forget requests that will not be answered. They hold this."""
        self.pipeline.clear()
        self.cycle = self._running  # type: ignore[assignment]  # None at first, as in uvicorn

    def _answer(self, refusal: Refusal) -> None:
        status, code, message = refusal
        body = orjson.dumps(error_body(code, message))
        head = b"content-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n"
        self.transport.write(b"".join((STATUS_LINE[status], head % len(body), body)))
        self._linger()

    def _flush(self) -> None:
        """Write what waits of the answer that is being written."""
        if self._running is not None:
            cast("_WayOut", self._running.transport).flush()

    def _linger(self) -> None:
        """Close the connection once the client has had time to read what was written."""
        with suppress(OSError, RuntimeError):
            self.transport.write_eof()
        self._limit_idle_time(LINGER_SECONDS)

    def _limit_idle_time(self, seconds: float | None = None) -> None:
        self._unset_keepalive_if_required()
        self.timeout_keep_alive_task = self.loop.call_later(
            self.timeout_keep_alive if seconds is None else seconds,
            self.timeout_keep_alive_handler,
        )


class _WayOut:
    """What uvicorn writes an answer to: the connection, but for the answer's head and its end.

    The head waits until the event loop's next turn for what follows it. Most answers have their
    whole body by then: both are one call of the system instead of two.
    """

    __slots__ = ("_head", "_loop", "_transport", "is_closing")

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport, self._loop = transport, loop
        self._head: bytes | None = None
        """None: nothing has been written."""
        self.is_closing = transport.is_closing

    def write(self, data: bytes) -> None:
        if self._head is None:
            self._head = data
            self._loop.call_soon(self.flush)
        elif self._head:
            data, self._head = self._head + data, b""
            self._transport.write(data)
        else:
            self._transport.write(data)

    def close(self) -> None:
        self.flush()
        # The transport forgets its protocol when the connection is lost. A reference from here
        # would keep both, which hold each other, until the next full garbage collection.
        protocol = self._transport.get_protocol()
        if isinstance(protocol, HttpProtocol):
            protocol.end_answer()

    def flush(self) -> None:
        """Write the head, if it still waits."""
        if self._head:
            data, self._head = self._head, b""
            self._transport.write(data)
