"""One WebSocket: what is sent, what closes it and when, and what ends with it.

Clients take 1011, 4400, 4401, 4406, 4409 and 4429 as final, and reconnect after 1012 (which uvicorn
sends), 1013, 4403 and 4408. 1008 is final too.
"""

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import AbstractContextManager, suppress
from enum import IntEnum
from functools import partial
from typing import Any, Final

import orjson
from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from edge.frames import Frames, frames_of, text_frame

MAX_REASON_BYTES: Final = 123
"""The room for a reason in a close frame."""


class Close(IntEnum):
    """Why the server closes a socket."""

    POLICY_VIOLATION = 1008
    """The client sends too many messages."""
    INTERNAL_ERROR = 1011
    RESTART = 1012
    """The socket has become too old."""
    TRY_AGAIN_LATER = 1013
    """The database or the token issuer is away, or there are too many sockets."""
    INVALID_MESSAGE = 4400
    UNAUTHORIZED = 4401
    """`subscribe` came before the connection was acknowledged."""
    FORBIDDEN = 4403
    """The token is invalid or expired, it renews another viewer's, or the viewer has been deleted
    or blocked. Without a token: an operation needs one, or there is no operation.
    """
    WRONG_SUBPROTOCOL = 4406
    INIT_TIMEOUT = 4408
    ID_IN_USE = 4409
    SECOND_INIT = 4429


class Connection:
    """An accepted WebSocket. It has one deadline at a time, after which it is closed."""

    __slots__ = ("_closing", "_deadline", "_endings", "_websocket")

    def __init__(self, websocket: WebSocket) -> None:
        self._websocket = websocket
        self._deadline: asyncio.TimerHandle | None = None
        self._closing: asyncio.Task[None] | None = None
        self._endings: list[Callable[[], object]] = []
        """Called when the socket has ended. An `ExitStack` would take ten times the memory."""

    @property
    def is_open(self) -> bool:
        return self._websocket.application_state is WebSocketState.CONNECTED

    @property
    def frames(self) -> Frames | None:
        """The connection's writer of whole frames, where the server offers one."""
        return frames_of(self._websocket.scope)

    async def send(self, message: dict[str, object]) -> None:
        """Send a message as JSON. Raise WebSocketDisconnect where the socket is closed."""
        await self.send_text(orjson.dumps(message))

    async def send_text(self, text: bytes) -> None:
        if not self.is_open:
            raise WebSocketDisconnect
        frames = self.frames
        if frames is None:
            await self._websocket.send_text(text.decode())
            return
        frame = text_frame(text)
        del text  # The caller may have it no more, and the frame has a copy.
        while not frames.write(frame):
            await frames.ready()

    async def ready(self) -> None:
        """Return once there is room for a message, or the socket is closed."""
        frames = self.frames
        if frames is not None:
            await frames.ready()

    async def close(self, code: Close, reason: str) -> None:
        """Close the socket, unless it is closed already."""
        if self.is_open:
            fitting = reason.encode()[:MAX_REASON_BYTES].decode(errors="ignore")
            with suppress(WebSocketDisconnect):
                await self._websocket.close(code, fitting)

    def begin_to_close(self, code: Close, reason: str) -> None:
        """Close the socket in a task, unless one is closing it already."""
        self.begin_to_close_by(partial(self.close, code, reason))

    def begin_to_close_by(self, close: Callable[[], Coroutine[Any, Any, None]]) -> None:
        if self._closing is None:
            self._closing = asyncio.create_task(close(), name="end of a socket")

    def set_deadline(self, seconds: float, code: Close, reason: str) -> None:
        """Close the socket after this time, instead of at the deadline that it had."""
        self.cancel_deadline()
        self._deadline = self._call_later(seconds, code, reason)

    def cancel_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()

    def limit_age(self, seconds: float, code: Close, reason: str) -> None:
        """Close the socket after this time, whatever its deadlines are."""
        self.call_at_end(self._call_later(seconds, code, reason).cancel)

    def call_at_end(self, ending: Callable[[], object]) -> None:
        self._endings.append(ending)

    def enter(self, context: AbstractContextManager[None]) -> None:
        """Enter a context until the socket has ended."""
        context.__enter__()
        self.call_at_end(partial(context.__exit__, None, None, None))

    def end(self) -> asyncio.Task[None] | None:
        """End what was to end with the socket. Return the task that is still closing it, if any."""
        self.cancel_deadline()
        while self._endings:  # They hold the socket, which holds this.
            self._endings.pop()()
        return self._closing

    def _call_later(self, seconds: float, code: Close, reason: str) -> asyncio.TimerHandle:
        loop = asyncio.get_running_loop()
        return loop.call_later(seconds, self.begin_to_close, code, reason)
