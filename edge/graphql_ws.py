"""GraphQL over WebSocket: writes outcomes as messages of graphql-transport-ws.

Clients take 1011, 4400, 4401, 4406, 4409 and 4429 as final, and reconnect after 1012 (which uvicorn
sends), 1013, 4403 and 4408. 1008 is final too, where it reaches a client as a code: see `Close`.
"""

import asyncio
from collections.abc import Callable
from contextlib import AbstractContextManager, aclosing, suppress
from datetime import UTC, datetime
from enum import IntEnum
from functools import partial
from re import Pattern
from typing import Final

import orjson
import structlog
from starlette.datastructures import Headers
from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState
from strawberry.http.websocket_origin import is_same_origin

from domain.errors import Forbidden, Overloaded, Unauthenticated
from domain.traces import current_trace, follow
from domain.viewers import Viewer
from edge.addresses import address_of
from edge.admission import Admission, logging_viewer
from edge.capacity import Tally
from edge.errors import ErrorBody, internal_error
from edge.execution import OperationExecutor
from edge.frames import Frames, frames_of, text_frame
from edge.json_input import AT_ONCE_BYTES
from edge.outcomes import Outcome, Result, Streaming, read_results
from edge.rates import RateLimit
from edge.result_streams import CallWhenGone
from edge.traces import renamed, request_id
from edge.ws_messages import (
    Complete,
    ConnectionInit,
    InvalidMessage,
    Message,
    Ping,
    Pong,
    Subscribe,
    read_message,
)
from schema import context
from schema.scalars import write_instant
from settings import Limits

PROTOCOL: Final = "graphql-transport-ws"
END_SECONDS: Final = 10.0
"""For cancelled operations to end."""
WINDOW_SECONDS: Final = 10.0
"""For which the messages of a client are counted."""
REST_SECONDS: Final = 2.0
"""For the operations of a viewer who has been deleted to end by themselves."""
NOBODY_SECONDS: Final = 3.0
"""How long a socket without a token may be without an operation."""
ANSWERS_AT_ONCE: Final = 4
"""How many answers of a socket may be made and not yet be written: further operations begin when
the client has read some. Streams make what they send when there is room for it.
"""
MAX_REASON_BYTES: Final = 123
"""What a close frame has room for."""
_TOO_MANY: Final[ErrorBody] = {
    "message": "A WebSocket cannot run more operations at the same time.",
    "extensions": {"code": "TOO_MANY_SUBSCRIPTIONS"},
}

_TOKEN_NEEDED: Final = "A token is needed"
_COMPLETE: Final[dict[str, object]] = {"type": "complete"}

log = structlog.get_logger(__name__)


class Close(IntEnum):
    """Why the server closes a socket."""

    POLICY_VIOLATION = 1008
    """The client sends too many messages, or its origin is not allowed. The latter is sent before
    the handshake is accepted, and reaches the client as HTTP 403.
    """
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


class GraphQLOverWebSocket:
    """An ASGI application. A page may connect from its own origin, or from an allowed one."""

    def __init__(
        self,
        executor: OperationExecutor,
        admission: Admission,
        *,
        allowed_origins: Pattern[str],
        call_when_deleted: CallWhenGone,
        call_when_blocked: CallWhenGone,
        limits: Limits | None = None,
    ) -> None:
        self.executor = executor
        self.admission = admission
        self.call_when_deleted = call_when_deleted
        self.call_when_blocked = call_when_blocked
        self.limits = limits = limits or Limits()
        self.waiting = Tally(limits.address_sockets)
        """Sockets that have not been acknowledged, by address."""
        self.sockets_of_viewers = Tally(limits.viewer_sockets)
        self.sockets_of_nobody = Tally(limits.address_subscriptions)
        """Sockets that need no token, by address."""
        self._open = Tally(limits.process_sockets)
        self._allowed_origins = allowed_origins

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        websocket = WebSocket(scope, receive, send)
        if not self._is_origin_allowed(websocket.headers):
            log.warning("origin refused", origin=websocket.headers["origin"])
            await websocket.close(Close.POLICY_VIOLATION)
        elif PROTOCOL not in scope["subprotocols"]:
            await websocket.accept()
            await websocket.close(Close.WRONG_SUBPROTOCOL, "Subprotocol not acceptable")
        else:
            await websocket.accept(PROTOCOL)
            await self._serve(websocket)

    async def _serve(self, websocket: WebSocket) -> None:
        address = address_of(websocket.scope)
        leave, stop_waiting = self._open.enter(""), self.waiting.enter(address)
        try:
            if leave is None:
                await websocket.close(Close.TRY_AGAIN_LATER, "The server has too many sockets")
            elif stop_waiting is None:
                reason = "Too many sockets of this address wait for a token"
                await websocket.close(Close.TRY_AGAIN_LATER, reason)
            else:
                with logging_viewer():
                    await _Socket(
                        websocket, self, address=address, stop_waiting=stop_waiting
                    ).serve()
        finally:
            for end in (leave, stop_waiting):
                if end is not None:
                    end()

    def _is_origin_allowed(self, headers: Headers) -> bool:
        origin = headers.get("origin")
        return (
            origin is None  # not a browser
            or headers.get("sec-fetch-site") == "same-origin"
            or is_same_origin(origin, headers.get("host"))
            or self._allowed_origins.fullmatch(origin) is not None
        )


class _Socket:
    """One connection: reads its messages in order, and runs its operations side by side."""

    __slots__ = (
        "_address",
        "_admission",
        "_answering",
        "_closing",
        "_deadline",
        "_endings",
        "_endpoint",
        "_executor",
        "_init_received",
        "_limits",
        "_messages",
        "_operations",
        "_scope",
        "_stop_waiting",
        "_websocket",
    )

    def __init__(
        self,
        websocket: WebSocket,
        endpoint: GraphQLOverWebSocket,
        *,
        address: str,
        stop_waiting: Callable[[], None],
    ) -> None:
        self._websocket = websocket
        self._endpoint = endpoint
        self._executor = endpoint.executor
        self._admission = endpoint.admission
        self._limits = endpoint.limits
        self._address = address
        self._stop_waiting = stop_waiting
        self._scope: context.Scope | None = None
        """None until the connection is acknowledged."""
        self._init_received = False
        self._deadline: asyncio.TimerHandle | None = None
        """Closes the socket: at first if no init arrives, later when the token expires."""
        self._closing: asyncio.Task[None] | None = None
        self._endings: list[Callable[[], object]] = []
        """Called when the socket has ended. An `ExitStack` would take ten times the memory."""
        self._operations: dict[str, asyncio.Task[None]] = {}
        self._answering = asyncio.Semaphore(ANSWERS_AT_ONCE)
        self._messages = RateLimit(self._limits.socket_messages, WINDOW_SECONDS)

    async def serve(self) -> None:
        self._close_later(
            self._limits.init_seconds, Close.INIT_TIMEOUT, "Connection initialisation timeout"
        )
        loop = asyncio.get_running_loop()
        ageing = loop.call_later(
            self._limits.socket_age_seconds, self._begin_to_close, Close.RESTART, "Please reconnect"
        )
        self._endings.append(ageing.cancel)
        try:
            while self._is_open:
                event = await self._websocket.receive()
                if event["type"] == "websocket.disconnect":
                    return
                if self._messages.is_exceeded(asyncio.get_running_loop().time()):
                    await self._close(Close.POLICY_VIOLATION, "Too many messages")
                    return
                await self._handle(await self._read(event.get("text")))
        except InvalidMessage as invalid:
            await self._close(Close.INVALID_MESSAGE, str(invalid))
        except WebSocketDisconnect:
            return
        except Exception:
            log.exception("socket failed")
            await self._close(Close.INTERNAL_ERROR, "Internal error")
        finally:
            await self._end_tasks()

    async def _read(self, text: str | None) -> Message:
        if text is None or len(text) <= AT_ONCE_BYTES:
            return read_message(text)
        return await self._executor.thread.call(self._address, partial(read_message, text))

    async def _handle(self, message: Message) -> None:
        match message:
            case ConnectionInit():
                await self._init(message)
            case Ping():
                await self._answer_ping(message)
            case Pong():
                pass
            case Subscribe():
                await self._subscribe(message)
            case Complete():
                task = self._operations.pop(message.id, None)
                if task is not None:
                    task.cancel()
                    self._limit_rest()

    async def _init(self, message: ConnectionInit) -> None:
        if self._init_received:
            # One that had no token may have one now. It reconnects after the first code only.
            if self._scope is not None and self._scope.viewer is None:
                await self._close(Close.FORBIDDEN, _TOKEN_NEEDED)
            else:
                await self._close(Close.SECOND_INIT, "Too many initialisation requests")
            return
        self._init_received = True
        self._cancel_deadline()
        if message.names:
            follow(renamed(current_trace(), message.names))
        if not message.has_authorization:
            scope = context.Scope(address=self._address)
            if not await self._take_place(scope):
                return
            await self._acknowledge(message)
            self._scope = scope
            self._limit_rest()
            return
        try:
            viewer = await self._admission.admit_viewer(message.authorization)
        except (Unauthenticated, Forbidden):
            await self._close(Close.FORBIDDEN, "Forbidden")
            return
        except Overloaded as error:
            await self._close(Close.TRY_AGAIN_LATER, str(error))
            return
        if not await self._take_place(context.Scope(viewer, self._address)):
            return
        endpoint = self._endpoint
        self._enter(endpoint.call_when_deleted(viewer.id, self._end_of_viewer))
        self._enter(endpoint.call_when_blocked(viewer.id, self._end_of_blocked_viewer))
        await self._acknowledge(message)
        self._serve_viewer(viewer)

    async def _acknowledge(self, message: ConnectionInit) -> None:
        acknowledged: dict[str, object] = {"type": "connection_ack"}
        if message.names:  # it cannot read the headers of its handshake, or it would have set them
            acknowledged["payload"] = {"requestId": request_id()}
        await self._send(acknowledged)

    async def _take_place(self, scope: context.Scope) -> bool:
        """Count the socket for its client. Close it where there are too many."""
        endpoint = self._endpoint
        tally = endpoint.sockets_of_nobody if scope.viewer is None else endpoint.sockets_of_viewers
        leave = tally.enter(scope.client)
        if leave is None:
            await self._close(Close.TRY_AGAIN_LATER, "Too many sockets")
            return False
        self._endings.append(leave)
        self._stop_waiting()
        return True

    def _enter(self, context: AbstractContextManager[None]) -> None:
        context.__enter__()
        self._endings.append(partial(context.__exit__, None, None, None))

    async def _answer_ping(self, ping: Ping) -> None:
        """Send a pong, with the end of the new token where the ping has brought one.

        Meanwhile the socket still closes when the token that it has ends.
        """
        if self._scope is None or not ping.has_authorization:
            await self._send({"type": "pong"})
            return
        try:
            viewer = await self._admission.admit_viewer(ping.authorization)
        except (Unauthenticated, Forbidden):
            await self._close(Close.FORBIDDEN, "Forbidden")
            return
        except Overloaded:
            # The token that it has is still good: the client may try again.
            await self._send({"type": "pong"})
            return
        if self._scope.viewer is None or viewer.id != self._scope.viewer.id:
            log.info("token refused", reason="of another viewer than the socket's")
            await self._close(Close.FORBIDDEN, "The token is another viewer's")
            return
        self._serve_viewer(viewer)
        ends = viewer.expires_at and write_instant(viewer.expires_at)
        await self._send({"type": "pong", "payload": {"expiresAt": ends}})

    def _serve_viewer(self, viewer: Viewer) -> None:
        """From here on, the socket is as good as the token of this viewer."""
        self._scope = context.Scope(viewer, self._address)
        if viewer.valid_until is not None:
            seconds = (viewer.valid_until - datetime.now(UTC)).total_seconds()
            self._close_later(seconds, Close.FORBIDDEN, "The token has expired")

    async def _subscribe(self, message: Subscribe) -> None:
        operation_id = message.id
        if self._scope is None:
            await self._close(Close.UNAUTHORIZED, "Unauthorized")
        elif operation_id in self._operations:
            await self._close(Close.ID_IN_USE, f"Subscriber for {operation_id} already exists")
        elif len(self._operations) >= self._limits.socket_operations:
            await self._send({"id": operation_id, "type": "error", "payload": [_TOO_MANY]})
        else:
            if self._scope.viewer is None:
                self._cancel_deadline()
            self._operations[operation_id] = asyncio.create_task(
                self._run(message, self._scope), name="operation of a socket"
            )

    async def _run(self, message: Subscribe, scope: context.Scope) -> None:
        if message.names:
            follow(renamed(current_trace(), message.names))
        operation_id = message.id
        with suppress(WebSocketDisconnect):  # nobody is left to write to
            try:
                answered = await self._answer(message, scope)
                del message  # the document's text would be held while a subscription is open
                if not isinstance(answered, Streaming):
                    last = answered
                else:
                    try:
                        last = await self._write(operation_id, answered, scope)
                    finally:
                        answered.release()
            except _TokenNeeded:
                await self._close(Close.FORBIDDEN, _TOKEN_NEEDED)
                return
            except WebSocketDisconnect:
                raise
            except Exception:
                log.exception("operation failed")
                last = {"type": "error", "payload": [internal_error(request_id())]}
            # The client may use the id again as soon as it reads the last message.
            del self._operations[operation_id]
            await self._send({"id": operation_id, **last})
            self._limit_rest()

    async def _answer(
        self, message: Subscribe, scope: context.Scope
    ) -> Streaming | dict[str, object]:
        """Run an operation. Unless it is a stream, send all its messages but the last, which is
        returned.
        """
        async with self._answering:
            outcome = await self._executor.execute(
                message.operation, scope=scope, request_id=request_id(), waits=True
            )
            if isinstance(outcome, Streaming):
                return outcome
            return await self._write(message.id, outcome, scope)

    def _limit_rest(self) -> None:
        """Close the socket of nobody unless an operation begins soon: who has forgotten the token
        finds out, and what has no purpose takes no place.
        """
        is_nobody = self._scope is not None and self._scope.viewer is None
        if is_nobody and not self._operations:
            self._close_later(NOBODY_SECONDS, Close.FORBIDDEN, _TOKEN_NEEDED)

    async def _write(
        self, operation_id: str, outcome: Outcome, scope: context.Scope
    ) -> dict[str, object]:
        """Send all messages of an outcome but the last, which is returned.

        Raise _TokenNeeded where it runs for nobody, and needs a viewer.
        """
        frames = frames_of(self._websocket.scope)
        if isinstance(outcome, Streaming) and outcome.deliver is not None and frames is not None:
            writer = _FrameWriter(operation_id, frames)
            failure = await outcome.deliver(writer)
            await writer.ready()
            _require_token(failure, scope)
            return {"type": "error", "payload": failure.errors} if failure else _COMPLETE
        async with aclosing(read_results(outcome)) as results:
            async for result in results:
                _require_token(result, scope)
                if not result.has_run:
                    return {"type": "error", "payload": result.errors}
                await self._send_text(b"%b%b}" % (_head_of_next(operation_id), result.encoded))
        return _COMPLETE

    @property
    def _is_open(self) -> bool:
        return self._websocket.application_state is WebSocketState.CONNECTED

    async def _send(self, message: dict[str, object]) -> None:
        await self._send_text(orjson.dumps(message))

    async def _send_text(self, text: bytes) -> None:
        if not self._is_open:
            raise WebSocketDisconnect
        await self._websocket.send_text(text.decode())

    async def _close(self, code: Close, reason: str) -> None:
        if self._is_open:
            fitting = reason.encode()[:MAX_REASON_BYTES].decode(errors="ignore")
            with suppress(WebSocketDisconnect):
                await self._websocket.close(code, fitting)

    def _end_of_viewer(self) -> None:
        """The viewer has been deleted."""
        if self._closing is None:
            self._closing = asyncio.create_task(self._close_at_rest(), name="end of a socket")

    def _end_of_blocked_viewer(self) -> None:
        self._begin_to_close(Close.FORBIDDEN, Forbidden.message)

    async def _close_at_rest(self) -> None:
        """Close once the operations have ended: subscriptions do, as what they follow is deleted,
        and the one that has deleted the viewer has to be answered.
        """
        if self._operations:
            await asyncio.wait(self._operations.values(), timeout=REST_SECONDS)
        await self._close(Close.FORBIDDEN, "The viewer has been deleted")

    def _close_later(self, seconds: float, code: Close, reason: str) -> None:
        self._cancel_deadline()
        loop = asyncio.get_running_loop()
        self._deadline = loop.call_later(seconds, self._begin_to_close, code, reason)

    def _begin_to_close(self, code: Close, reason: str) -> None:
        if self._closing is None:
            self._closing = asyncio.create_task(self._close(code, reason), name="end of a socket")

    def _cancel_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()

    async def _end_tasks(self) -> None:
        self._cancel_deadline()
        for end in reversed(self._endings):
            end()
        for task in self._operations.values():
            task.cancel()
        ending = [*self._operations.values(), *([self._closing] if self._closing else [])]
        if ending:
            await asyncio.wait(ending, timeout=END_SECONDS)


class _TokenNeeded(Exception):
    pass


def _require_token(result: Result | None, scope: context.Scope) -> None:
    if result is not None and scope.viewer is None and Unauthenticated.code in result.codes:
        raise _TokenNeeded


def _head_of_next(operation_id: str) -> bytes:
    """A message with a result, up to the result. A brace ends it."""
    return b'{"id":%b,"type":"next","payload":' % orjson.dumps(operation_id)


class _FrameWriter:
    """Receives the results of an operation, and writes them as frames."""

    __slots__ = ("_frames", "_head", "ready")

    def __init__(self, operation_id: str, frames: Frames) -> None:
        self._head = _head_of_next(operation_id)
        self._frames = frames
        self.ready = frames.ready

    def take(self, item: Result) -> bool:
        return self._frames.write(item.framed(self._head, text_frame))
