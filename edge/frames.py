"""The server's side of a WebSocket: writes whole frames, and limits what clients send.

Frames are written to the connection directly, past ASGI. A server that offers this puts a `Frames`
into the scope's extensions; Darkroom's does, by a subclass of uvicorn's protocol
(`uvicorn.Config(ws=WebSocketProtocol)`). With any other server, messages are sent through ASGI.

uvicorn and websockets limit the size of a message, but not the number of frames, messages and
pings. What must stay true: what one connection holds in memory is bounded, no call of the parser
takes long, and every connection can be ended.
"""

from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Any, Final, Protocol

from starlette.types import Scope
from uvicorn._types import ASGIReceiveEvent, ASGISendEvent
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import CloseCode, Frame

from edge.event_limits import EventLimit
from edge.handshakes import read_handshake, refuse_handshake
from edge.light_waits import Gate, Inbox
from edge.loop_rounds import LoopRounds, ProtocolInRounds
from edge.send_limits import SendLimit
from settings import Limits

EXTENSION: Final = "darkroom.frames"
_TEXT: Final = 0x81
"""The first byte of an unfragmented, uncompressed text frame."""
_LARGEST_IN_ONE_BYTE: Final = 125
_LARGEST_IN_TWO_BYTES: Final = 65_535

WINDOW_SECONDS: Final = 10.0
MAX_FRAMES: Final = 1_000
"""Frames of any kind in a window: a large message may arrive in many."""
MAX_CONTROL_FRAMES: Final = 100
"""Pings and pongs in a window."""
LINGER_SECONDS: Final = 2.0
"""How long a client has to read why it was closed, and to answer."""
_SLICE_BYTES: Final = 4 * 1024
"""How much is parsed between two checks of the limits: at most 682 frames."""


class Frames(Protocol):
    """Writes frames to one connection."""

    def write(self, frame: bytes) -> bool:
        """Write a whole frame. Return False, and write nothing, while the connection is full.

        Writing to a closed connection does nothing and is no error: the reader is about to notice.
        """

    async def ready(self) -> None:
        """Return once the connection is not full, or is closed."""


def frames_of(scope: Scope) -> Frames | None:
    found: Frames | None = scope.get("extensions", {}).get(EXTENSION)
    return found


def text_frame(message: bytes) -> bytes:
    """A server's frame of a text message in UTF-8."""
    size = len(message)
    if size <= _LARGEST_IN_ONE_BYTE:
        return bytes((_TEXT, size)) + message
    if size <= _LARGEST_IN_TWO_BYTES:
        return bytes((_TEXT, 126)) + size.to_bytes(2, "big") + message
    return bytes((_TEXT, 127)) + size.to_bytes(8, "big") + message


class WebSocketProtocol(ProtocolInRounds, WebSocketsSansIOProtocol):  # type: ignore[misc]
    """uvicorn's protocol, which also writes whole frames, and limits what clients send.

    After closing a connection it goes on reading for a moment: if a socket is closed before
    everything that was sent has been read, the system resets the connection, and the client may
    never read the reason.
    """

    writable: Gate  # type: ignore[assignment]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.conn.reject = refuse_handshake  # type: ignore[method-assign,assignment]
        self.queue = Inbox()  # type: ignore[assignment]
        self.writable = Gate()
        limits: Limits = self.app_state.get("limits") or Limits()
        self.rounds = self.app_state.get("rounds") or LoopRounds(self.loop)
        # uvicorn's own setting closes with 1011, after which clients do not reconnect.
        self.ping_interval, self.ping_timeout = limits.ping_seconds, limits.pong_seconds
        self.close_timeout = LINGER_SECONDS
        self._send_seconds = limits.send_seconds
        self._sending: SendLimit | None = None
        self._held = b""
        """What has arrived before the application has accepted, or taken the messages before it."""
        self._failed = False
        """Whether the rest of what the client sends is dropped."""
        self._frames_received = EventLimit(MAX_FRAMES, WINDOW_SECONDS)
        self._control_frames = EventLimit(MAX_CONTROL_FRAMES, WINDOW_SECONDS)

    def pause_writing(self) -> None:
        """Called when the connection is full."""
        super().pause_writing()
        if self._sending is None:
            self._sending = SendLimit(
                self.transport, seconds=self._send_seconds, give_up=self._give_up_sending
            )
        self._sending.begin()

    def resume_writing(self) -> None:
        """Called when there is room again."""
        super().resume_writing()
        if self._sending is not None:
            self._sending.end()

    def stop_writing(self) -> None:
        """The connection is closed: write nothing, also when a timer ends."""
        # uvicorn answers a handshake that is not complete.
        self.disconnected = self.handshake_complete = True
        self._held = b""  # Pings in it would be answered.
        self.stop_keepalive()
        if self._sending is not None:
            self._sending.end()
            self._sending = None  # It refers to this connection.

    def end(self, exc: Exception | None) -> None:
        """End what belongs to the connection."""
        WebSocketsSansIOProtocol.connection_lost(self, exc)

    def keepalive_timeout(self) -> None:
        """Called when a ping has not been answered."""
        self.pong_timer = None
        if self.waits and self.ping_timeout is not None:
            self.pong_timer = self.loop.call_later(self.ping_timeout, self.keepalive_timeout)
            return
        self._fail(CloseCode.GOING_AWAY, "A ping was not answered")

    def _give_up_sending(self) -> None:
        if self.close_sent:
            self.transport.abort()
        else:
            self._fail(CloseCode.GOING_AWAY, "Messages were not read")

    async def run_asgi(self) -> None:
        extensions: dict[str, Any] = self.scope["extensions"]
        extensions[EXTENSION] = self
        try:
            await super().run_asgi()
        finally:
            del extensions[EXTENSION]  # Both would stay until the next full garbage collection.

    def write(self, frame: bytes) -> bool:
        """See `Frames`."""
        if self.close_sent or self.disconnected or self.transport.is_closing():
            return True
        if not self.writable.is_open:
            return False
        self.transport.write(frame)
        return True

    async def ready(self) -> None:
        """See `Frames`."""
        await self.writable.wait()

    def begin(self, target: bytes, headers: Sequence[tuple[bytes, bytes]], rest: bytes) -> None:
        """Begin with the head of a request, which has been read already, and with what has arrived
        after it.
        """
        self.handle_connect(read_handshake(self.conn, target, headers))
        if rest:
            self.receive_data(rest)

    def receive_data(self, data: bytes) -> None:
        """Parse what has arrived, until there is a message for the application."""
        if self._failed:
            return
        if self._held:
            data, self._held = self._held + data, b""
        if self.handshake_initiated and not self.handshake_complete:
            # A frame may be answered, which must not precede the answer to the handshake.
            self._held = data
            self.transport.pause_reading()
            return
        for start in range(0, len(data), _SLICE_BYTES):
            if self.read_paused and not self.close_sent:
                self._held = data[start:]
                return
            self._receive_frames(data[start : start + _SLICE_BYTES])
            if self._failed:
                return

    async def receive(self) -> ASGIReceiveEvent:
        if not self.queue.empty():  # Several messages have arrived together.
            await self.rounds.wait_for_room()
        event = await self.queue.get()
        if self.read_paused and self.queue.empty():
            self.read_paused = False
            self.transport.resume_reading()
        if self._held and self.handshake_complete and not self.read_paused:
            self.data_received(b"")
        return event

    async def send(self, message: ASGISendEvent) -> None:
        await super().send(message)
        if message["type"] == "websocket.accept":
            self._forget_handshake()
            if self._held and self.handshake_complete:
                self.transport.resume_reading()
                self.data_received(b"")
        elif message["type"] == "websocket.http.response.body" and not message.get("more_body"):
            self.handshake_complete = True  # or uvicorn logs an error for a refused handshake

    def _forget_handshake(self) -> None:
        """Forget the headers of the handshake, which the application has read. Browsers send a
        kilobyte, which would be held three times while the socket is open.
        """
        self.scope["headers"] = []
        self.request.headers.clear()  # the parser itself goes on holding the request
        del self.request, self.response

    def shutdown(self) -> None:
        """Called when the server stops. A connection that is closing may wait for its client."""
        if self.handshake_initiated and not self.transport.is_closing():
            super().shutdown()
            if not self.handshake_complete:
                self.stop_writing()  # The handshake has been refused: it cannot be answered again.
        else:
            self.transport.abort()

    def handle_text(self, event: Frame) -> None:
        """Called with a frame, which the parser goes on holding until the next one."""
        super().handle_text(event)
        event.data = b""

    def handle_ping(self) -> None:
        if not self._failed:
            super().handle_ping()
        self._count_control_frame()

    def handle_pong(self, event: Frame) -> None:
        super().handle_pong(event)
        self._count_control_frame()

    def send_receive_event_to_app(self) -> None:
        """Called with a message in `frames`."""
        if self.curr_msg_data_type == "text" and not _is_text(self.frames):
            self.frames = []
            self._fail(CloseCode.INVALID_DATA, "A text message must be UTF-8")
        elif not self._failed:
            super().send_receive_event_to_app()

    def handle_parser_exception(self) -> None:
        """Called when the connection has failed and its close code has been decided."""
        assert self.conn.close_sent is not None
        code, reason = self.conn.close_sent.code, self.conn.close_sent.reason
        self.queue.put_nowait({"type": "websocket.disconnect", "code": code, "reason": reason})
        self._end_with(self.conn.data_to_send())

    def _receive_frames(self, data: bytes) -> None:
        self.conn.receive_data(data)
        if self.conn.parser_exc is not None:
            self.handle_parser_exception()
            return
        count = len(self.conn.events)
        self.handle_events()
        if self._frames_received.is_exceeded(self.loop.time(), count):
            self._fail(CloseCode.POLICY_VIOLATION, "Too many frames")

    def _count_control_frame(self) -> None:
        if self._control_frames.is_exceeded(self.loop.time()):
            self._fail(CloseCode.POLICY_VIOLATION, "Too many pings and pongs")

    def _fail(self, code: CloseCode, reason: str) -> None:
        if self._failed:
            return
        if self.close_sent:
            # The client has not read the reason yet. Until the timer ends the connection, what it
            # sends is dropped.
            self._failed = True
            return
        self.conn.fail(code, reason)
        self.handle_parser_exception()

    def _end_with(self, writes: Iterable[bytes]) -> None:
        self.close_sent = self.disconnected = self._failed = True
        self.writable.set()
        self.stop_keepalive()
        self.transport.write(b"".join(writes))
        with suppress(OSError, RuntimeError):
            self.transport.write_eof()
        if self.read_paused:
            self.read_paused = False
            self.transport.resume_reading()
        # Closing would wait for what the client has not read, and never will read.
        self.close_timer = self.loop.call_later(LINGER_SECONDS, self.transport.abort)


def _is_text(fragments: list[bytes]) -> bool:
    try:
        b"".join(fragments).decode()
    except UnicodeDecodeError:
        return False
    return True
