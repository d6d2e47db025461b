"""The server's side of an HTTP connection: uvicorn's, with limits.

uvicorn limits neither the time that the head of a request takes, nor how long a client takes to
read. What must stay true: every connection ends, whatever the client does, and a client that is
refused can read why.
"""

import asyncio
from contextlib import suppress
from typing import Final, cast

from uvicorn._types import ASGI3Application
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from edge.frames import WebSocketProtocol
from edge.http_refusals import Refusal, refuse_request
from edge.loop_rounds import LoopRounds, ProtocolInRounds
from edge.request_reader import RequestReader
from edge.response_transport import RespondingProtocol, ResponseTransport
from edge.send_limits import SendLimit

ENDLESS: Final = "darkroom.endless"
"""The extension by which a response says that it ends only when its client leaves. A server that
stops cuts such a response, since one that ends in order is complete to a client.
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
_HEAD_TOO_SLOW: Final = Refusal(408, "REQUEST_TIMEOUT", "The headers took too long to arrive.")


class HttpProtocol(ProtocolInRounds, RespondingProtocol, RequestReader):  # type: ignore[misc]
    """One connection."""

    _dropped_bytes = 0
    _running: RequestResponseCycle | None = None
    """The request that is being answered. `cycle` is the latest one, which may wait behind it."""
    _sending: SendLimit | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Called when a client has connected."""
        self.limits = self.app_state.get("limits", self.limits)
        self.rounds = self.app_state.get("rounds") or LoopRounds(self.loop)
        super().connection_made(transport)
        self._limit_idle_time()

    def pause_writing(self) -> None:
        """Called when the connection is full."""
        super().pause_writing()
        if self._sending is None:
            seconds, give_up = self.limits.send_seconds, self.transport.abort
            self._sending = SendLimit(self.transport, seconds=seconds, give_up=give_up)
        self._sending.begin()

    def resume_writing(self) -> None:
        """Called when there is room again."""
        super().resume_writing()
        if self._sending is not None:
            self._sending.end()

    def receive_data(self, data: bytes) -> None:
        """Parse what has arrived, unless this connection is not read any more."""
        if self.stopped:
            self._drop(data)
            return
        if len(data) <= _SLICE_BYTES:
            self.parse(data)
            return
        view = memoryview(data)
        for start in range(0, len(data), _SLICE_BYTES):
            if self.stopped:
                return
            protocol = self.transport.get_protocol()
            if protocol is not self:
                if isinstance(protocol, WebSocketProtocol):
                    protocol.receive_data(data[start:])
                return
            self.parse(view[start : start + _SLICE_BYTES])

    def stop_writing(self) -> None:
        """The connection is closed: write nothing, also when a timer ends."""
        self._unset_keepalive_if_required()
        for cycle in (self.cycle, self._running):
            if cycle is not None and not cycle.response_complete:
                cycle.disconnected = True

    def end(self, exc: Exception | None) -> None:
        """End what belongs to the connection, and the response that is being written."""
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
        if self.stopped or not self.in_head:
            self.transport.close()
            return
        left = self.head_began + self.limits.head_seconds - self.loop.time()
        if left > 0:
            self._limit_idle_time(left)
        else:
            self.refuse(_HEAD_TOO_SLOW)

    def on_response_complete(self) -> None:
        """uvicorn: a response has been written."""
        self._flush()  # A response to HEAD has nothing but its head.
        if self.pipeline and not self.rounds.has_room():
            self.rounds.put_off(self._begin_next)
        else:
            self._begin_next()

    def _begin_next(self) -> None:
        """Begin with the request that waits behind the one that has been answered, if any."""
        super().on_response_complete()
        if self.stopped and self.is_answered() and not self.transport.is_closing():
            self._linger()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        self._running = cycle
        transport = ResponseTransport(self.transport, self.loop)
        cycle.transport = transport  # type: ignore[assignment]
        super()._start_asgi_task(cycle, app)

    def hand_over(self, rest: bytes) -> None:
        """Let the protocol of WebSockets continue, with what has arrived after the handshake."""
        protocol_class = self.ws_protocol_class
        if protocol_class is None or not issubclass(protocol_class, WebSocketProtocol):
            self.handle_websocket_upgrade()  # uvicorn drops the rest.
            return
        protocol = protocol_class(
            config=self.config, server_state=self.server_state, app_state=self.app_state
        )
        self.connections.discard(self)
        protocol.connection_made(self.transport)
        self.transport.set_protocol(protocol)
        self.parser = None  # type: ignore[assignment]  # It refers to this.
        protocol.begin(self.url, self.headers, rest)

    def refuse(self, refusal: Refusal) -> None:
        """Stop reading this connection. Send the refusal, unless a response is still being written.

        Requests that were complete before are answered.
        """
        self.stopped = True
        self._flush()  # A head or `100 Continue` may wait, and could not be written later.
        cycle = self.cycle
        if not self.in_body:
            if self.is_answered():
                self._send(refusal)
        elif cycle.response_complete and not self.pipeline:
            self._linger()  # The client may not have read the response yet.
        elif cycle.response_started or self.pipeline:
            self.transport.close()
        else:
            cycle.disconnected = True
            cycle.message_event.set()
            self._send(refusal)

    def _drop(self, data: bytes) -> None:
        self._dropped_bytes += len(data)
        if self._dropped_bytes > MAX_DROPPED_BYTES:
            self.flow.pause_reading()

    def end_response(self) -> None:
        """Close the connection. If the response is complete, the client gets time to read it:
        `on_response_complete` follows.
        """
        running = self._running
        if running is None or not running.response_complete:
            self.transport.close()
        else:
            self.stopped = True
            self._forget_waiting()

    def _forget_waiting(self) -> None:
        """Forget requests that will not be answered. They refer to the connection."""
        self.pipeline.clear()
        self.cycle = self._running  # type: ignore[assignment]  # None at first, as in uvicorn

    def _send(self, refusal: Refusal) -> None:
        self.transport.write(refuse_request(refusal).serialize())
        self._linger()

    def _flush(self) -> None:
        """Write what waits of the response that is being written."""
        if self._running is not None:
            cast("ResponseTransport", self._running.transport).flush()

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
