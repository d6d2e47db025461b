"""GraphQL over WebSocket: the protocol graphql-transport-ws, from the handshake on.

Here is who may connect, and what each message of a client does. `ws_connection` is the socket
itself, with its close codes and deadlines; `ws_operations` runs operations and writes results.
"""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from functools import partial
from re import Pattern
from typing import Final

import structlog
from starlette.datastructures import Headers
from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocket, WebSocketDisconnect
from strawberry.http.websocket_origin import is_same_origin

from domain.errors import Forbidden, Overloaded, Unauthenticated
from domain.traces import current_trace, set_trace
from domain.viewers import Viewer
from edge.addresses import address_of
from edge.admission import Admission, logging_viewer
from edge.capacity import Tally
from edge.event_limits import EventLimit
from edge.execution import OperationExecutor
from edge.json_input import AT_ONCE_BYTES
from edge.responses import error_response
from edge.result_streams import CallWhenGone
from edge.traces import merge_trace, request_id
from edge.ws_connection import Close, Connection
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
from edge.ws_operations import TOKEN_NEEDED, SocketOperations
from schema import context
from schema.scalars import write_instant
from settings import Limits

PROTOCOL: Final = "graphql-transport-ws"
END_SECONDS: Final = 10.0
"""How long cancelled operations may take to end."""
WINDOW_SECONDS: Final = 10.0
"""The time in which the messages of a client are counted."""
DRAIN_SECONDS: Final = 2.0
"""How long the operations of a deleted viewer may take to end by themselves."""
ANONYMOUS_IDLE_SECONDS: Final = 3.0
"""How long a socket without a token may be without an operation."""

log = structlog.get_logger(__name__)


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
        self.anonymous_sockets = Tally(limits.address_subscriptions)
        """Sockets that need no token, by address."""
        self._open = Tally(limits.process_sockets)
        self._allowed_origins = allowed_origins

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        websocket, headers = WebSocket(scope, receive, send), Headers(scope=scope)
        if not self._is_origin_allowed(headers):
            log.warning("origin refused", origin=headers["origin"])
            message = "Pages of this origin may not open a WebSocket."
            return websocket.send_denial_response(error_response(403, Forbidden.code, message))
        if PROTOCOL not in scope["subprotocols"]:
            return _refuse_subprotocol(websocket)
        return self._serve(websocket)

    async def _serve(self, websocket: WebSocket) -> None:
        await websocket.accept(PROTOCOL)
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


async def _refuse_subprotocol(websocket: WebSocket) -> None:
    await websocket.accept()
    await websocket.close(Close.WRONG_SUBPROTOCOL, "Subprotocol not acceptable")


class _Socket:
    """One connection: reads its messages in order, and does what they ask for."""

    __slots__ = (
        "_address",
        "_admission",
        "_connection",
        "_endpoint",
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
        self._admission = endpoint.admission
        self._limits = endpoint.limits
        self._address = address
        self._stop_waiting = stop_waiting
        self._scope: context.Scope | None = None
        """None until the connection is acknowledged."""
        self._init_received = False
        self._messages = EventLimit(self._limits.socket_messages, WINDOW_SECONDS)
        self._connection = Connection(websocket)
        self._operations = SocketOperations(
            self._connection,
            endpoint.executor,
            limit=self._limits.socket_operations,
            call_after_each=self._limit_idle_time,
        )

    async def serve(self) -> None:
        """Serve the socket until it is closed."""
        connection, limits = self._connection, self._limits
        connection.set_deadline(
            limits.init_seconds, Close.INIT_TIMEOUT, "Connection initialisation timeout"
        )
        connection.limit_age(limits.socket_age_seconds, Close.RESTART, "Please reconnect")
        try:
            await self._read_messages()
        except InvalidMessage as invalid:
            await connection.close(Close.INVALID_MESSAGE, str(invalid))
        except WebSocketDisconnect:
            return
        except Exception:
            log.exception("socket failed")
            await connection.close(Close.INTERNAL_ERROR, "Internal error")
        finally:
            await self._end()

    async def _read_messages(self) -> None:
        """Read messages until the socket is closed. Raise InvalidMessage at one that is invalid."""
        while self._connection.is_open:
            await self._operations.wait_for_room()
            event = await self._websocket.receive()
            if event["type"] == "websocket.disconnect":
                return
            if self._messages.is_exceeded(asyncio.get_running_loop().time()):
                await self._connection.close(Close.POLICY_VIOLATION, "Too many messages")
                return
            await self._handle(await self._read(event.get("text")))
            del event  # It would be held while this waits for the next one.

    async def _end(self) -> None:
        closing = self._connection.end()
        ending = self._operations.cancel_all()
        if closing is not None:
            ending.append(closing)
        if ending:
            await asyncio.wait(ending, timeout=END_SECONDS)
        self._operations.forget()

    async def _read(self, text: str | None) -> Message:
        if text is None or len(text) <= AT_ONCE_BYTES:
            return read_message(text)
        thread = self._endpoint.executor.thread
        return await thread.call(self._address, partial(read_message, text))

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
                if self._operations.cancel(message.id):
                    self._limit_idle_time()

    async def _init(self, message: ConnectionInit) -> None:
        if self._init_received:
            # One that had no token may have one now. It reconnects after the first code only.
            if self._scope is not None and self._scope.viewer is None:
                await self._connection.close(Close.FORBIDDEN, TOKEN_NEEDED)
            else:
                reason = "Too many initialisation requests"
                await self._connection.close(Close.SECOND_INIT, reason)
            return
        self._init_received = True
        self._connection.cancel_deadline()
        if message.names:
            set_trace(merge_trace(current_trace(), message.names))
        if message.has_authorization:
            await self._init_viewer(message)
        else:
            await self._init_anonymous(message)

    async def _init_anonymous(self, message: ConnectionInit) -> None:
        scope = context.Scope(address=self._address)
        if await self._count(scope):
            await self._acknowledge(message)
            self._scope = scope
            self._limit_idle_time()

    async def _init_viewer(self, message: ConnectionInit) -> None:
        try:
            viewer = await self._admission.admit_viewer(message.authorization)
        except (Unauthenticated, Forbidden):
            await self._connection.close(Close.FORBIDDEN, "Forbidden")
            return
        except Overloaded as error:
            await self._connection.close(Close.TRY_AGAIN_LATER, str(error))
            return
        if not await self._count(context.Scope(viewer, self._address)):
            return
        endpoint, connection = self._endpoint, self._connection
        connection.enter(endpoint.call_when_deleted(viewer.id, self._end_deleted_viewer))
        connection.enter(endpoint.call_when_blocked(viewer.id, self._end_blocked_viewer))
        await self._acknowledge(message)
        self._serve_viewer(viewer)

    async def _acknowledge(self, message: ConnectionInit) -> None:
        acknowledged: dict[str, object] = {"type": "connection_ack"}
        if message.names:  # it cannot read the headers of its handshake, or it would have set them
            acknowledged["payload"] = {"requestId": request_id()}
        await self._connection.send(acknowledged)

    async def _count(self, scope: context.Scope) -> bool:
        """Count the socket for its client, until it ends. Close it where there are too many."""
        endpoint = self._endpoint
        tally = endpoint.anonymous_sockets if scope.viewer is None else endpoint.sockets_of_viewers
        leave = tally.enter(scope.client)
        if leave is None:
            await self._connection.close(Close.TRY_AGAIN_LATER, "Too many sockets")
            return False
        self._connection.call_at_end(leave)
        self._stop_waiting()
        return True

    async def _answer_ping(self, ping: Ping) -> None:
        """Send a pong. A ping with a new token renews the socket's, and the pong says until when.

        While the new token is verified, the socket still closes when the old one expires.
        """
        if self._scope is None or not ping.has_authorization:
            await self._connection.send({"type": "pong"})
            return
        try:
            viewer = await self._admission.admit_viewer(ping.authorization)
        except (Unauthenticated, Forbidden):
            await self._connection.close(Close.FORBIDDEN, "Forbidden")
            return
        except Overloaded:
            # The old token is still valid: the client may try again.
            await self._connection.send({"type": "pong"})
            return
        if self._scope.viewer is None or viewer.id != self._scope.viewer.id:
            log.info("token refused", reason="of another viewer than the socket's")
            await self._connection.close(Close.FORBIDDEN, "The token is another viewer's")
            return
        self._serve_viewer(viewer)
        ends = viewer.expires_at and write_instant(viewer.expires_at)
        await self._connection.send({"type": "pong", "payload": {"expiresAt": ends}})

    def _serve_viewer(self, viewer: Viewer) -> None:
        """Run operations for this viewer from here on, until the token expires."""
        self._scope = context.Scope(viewer, self._address)
        if viewer.valid_until is not None:
            seconds = (viewer.valid_until - datetime.now(UTC)).total_seconds()
            self._connection.set_deadline(seconds, Close.FORBIDDEN, "The token has expired")

    async def _subscribe(self, message: Subscribe) -> None:
        if self._scope is None:
            await self._connection.close(Close.UNAUTHORIZED, "Unauthorized")
            return
        await self._operations.start(message, self._scope)
        if self._scope.viewer is None and self._operations:
            self._connection.cancel_deadline()

    def _limit_idle_time(self) -> None:
        """Close a socket without a token unless an operation begins soon.

        A client that has forgotten its token learns of it, and a socket that nobody uses is freed.
        """
        is_anonymous = self._scope is not None and self._scope.viewer is None
        if is_anonymous and not self._operations:
            self._connection.set_deadline(ANONYMOUS_IDLE_SECONDS, Close.FORBIDDEN, TOKEN_NEEDED)

    def _end_deleted_viewer(self) -> None:
        self._connection.begin_to_close_by(self._close_at_rest)

    async def _close_at_rest(self) -> None:
        """Close once the operations have ended: subscriptions end with what they follow, and the
        operation that has deleted the viewer is to be answered.
        """
        await self._operations.wait(DRAIN_SECONDS)
        await self._connection.close(Close.FORBIDDEN, "The viewer has been deleted")

    def _end_blocked_viewer(self) -> None:
        self._connection.begin_to_close(Close.FORBIDDEN, Forbidden.message)
