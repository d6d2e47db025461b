"""graphql-transport-ws: what its messages must look like, and what a socket is closed with.

Clients take 4400, 4401, 4406, 4409 and 4429 for final, and come back after 1012, 1013
and 4403.
"""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Protocol, cast

from graphql import GraphQLError
from strawberry.schema.schema import StreamResult
from strawberry.subscriptions.protocols.graphql_transport_ws.handlers import (
    BaseGraphQLTransportWSHandler,
    Operation,
)
from strawberry.types.execution import ExecutionResult, PreExecutionError

from domain.errors import Overloaded

INIT_TIMEOUT: Final = timedelta(seconds=5)
MAX_OPERATIONS_PER_SOCKET: Final = 50
_INVALID_MESSAGE: Final = 4400
_TRY_AGAIN_LATER: Final = 1013
_FORBIDDEN: Final = 4403
_UNAUTHORIZED: Final = 4401
_SUBSCRIBER_EXISTS: Final = 4409
_MAX_ID_LENGTH: Final = 64


class SocketView(Protocol):
    """What the endpoint knows and a socket needs."""

    def present(
        self, context: Any, errors: Sequence[GraphQLError], *, executed: bool
    ) -> list[dict[str, object]]: ...

    def expires_at(self, context: Any) -> datetime | None: ...


class TransportHandler(BaseGraphQLTransportWSHandler[Any, None]):
    """Serves one socket."""

    _expiry: asyncio.Task[None] | None = None

    @property
    def socket_view(self) -> SocketView:
        return cast("SocketView", self.view)

    async def handle_message(self, message: Any) -> None:
        problem = _problem_with(message)
        if problem is not None:
            await self.websocket.close(code=_INVALID_MESSAGE, reason=problem)
            return
        await super().handle_message(message)

    async def handle_connection_init(self, message: Any) -> None:
        if message.get("payload") is None:
            message = {"type": message["type"]}
        try:
            await super().handle_connection_init(message)
        except Overloaded as error:
            await self.websocket.close(code=_TRY_AGAIN_LATER, reason=str(error))
            return
        expires_at = self.socket_view.expires_at(self.context)
        if self.connection_acknowledged and expires_at is not None and self._expiry is None:
            self._expiry = asyncio.create_task(self._close_at(expires_at))

    async def handle_subscribe(self, message: Any) -> None:
        if not self.connection_acknowledged:
            await self.websocket.close(code=_UNAUTHORIZED, reason="Unauthorized")
            return
        operation_id, payload = message["id"], message["payload"]
        if operation_id in self.operations:
            reason = f"Subscriber for {operation_id} already exists"
            await self.websocket.close(code=_SUBSCRIBER_EXISTS, reason=reason)
            return
        operation = _Operation(
            self,
            operation_id,
            payload["query"],
            payload.get("variables"),
            payload.get("operationName"),
        )
        if len(self.operations) >= MAX_OPERATIONS_PER_SOCKET:
            self.operations[operation_id] = operation
            await operation.send_errors([_TOO_MANY], executed=True)
            return
        operation.task = asyncio.create_task(self.run_operation(operation))
        operation.task.add_done_callback(self._task_done)
        self.operations[operation_id] = operation

    async def shutdown(self) -> None:
        if self._expiry is not None:
            self._expiry.cancel()
        await super().shutdown()

    async def _send_result_stream(
        self, operation: Operation[Any, None], result_source: StreamResult
    ) -> None:
        assert isinstance(operation, _Operation)
        async for result in result_source:
            assert isinstance(result, ExecutionResult)
            errors = result.errors or []
            refused = isinstance(result, PreExecutionError)
            if refused or (result.data is None and all(error.path is None for error in errors)):
                # Nothing can follow. The socket and its other operations live on.
                await operation.send_errors(errors, executed=not refused)
                return
            await operation.send_next(result)

    async def _close_at(self, moment: datetime) -> None:
        await asyncio.sleep((moment - datetime.now(UTC)).total_seconds())
        with suppress(Exception):  # the socket may be gone already
            await self.websocket.close(code=_FORBIDDEN, reason="The token has expired")


class _Operation(Operation[Any, None]):
    """An operation whose errors look as they do everywhere else."""

    async def send_errors(self, errors: Sequence[GraphQLError], *, executed: bool) -> None:
        payload = self._present(errors, executed=executed)
        await self.send_operation_message({"id": self.id, "type": "error", "payload": payload})

    async def send_next(self, execution_result: ExecutionResult) -> None:
        payload: Any = {"data": execution_result.data}
        if execution_result.errors:
            payload["errors"] = self._present(execution_result.errors, executed=True)
        await self.send_operation_message({"id": self.id, "type": "next", "payload": payload})

    def _present(self, errors: Sequence[GraphQLError], *, executed: bool) -> Any:
        handler = cast("TransportHandler", self.handler)
        return handler.socket_view.present(handler.context, errors, executed=executed)


_TOO_MANY: Final = GraphQLError(
    f"A WebSocket can run at most {MAX_OPERATIONS_PER_SOCKET} operations at the same time.",
    extensions={"code": "TOO_MANY_SUBSCRIPTIONS"},
)


def _problem_with(message: object) -> str | None:
    """What makes this no message of the protocol; None where nothing does."""
    if not isinstance(message, dict) or not isinstance(message.get("type"), str):
        return "A message must be an object with a type"
    if message["type"] == "complete":
        return None if isinstance(message.get("id"), str) else "The id must be a string"
    if message["type"] != "subscribe":
        payload = message.get("payload")
        return None if payload is None or isinstance(payload, dict) else "Invalid payload"

    operation_id, payload = message.get("id"), message.get("payload")
    if not isinstance(operation_id, str) or not 1 <= len(operation_id) <= _MAX_ID_LENGTH:
        return f"The id must be a string of 1 to {_MAX_ID_LENGTH} characters"
    if not isinstance(payload, dict) or not isinstance(payload.get("query"), str):
        return "The payload must be an object with a query"
    if not isinstance(payload.get("variables"), dict | None):
        return "The variables must be an object"
    if not isinstance(payload.get("operationName"), str | None):
        return "The operationName must be a string"
    return None
