"""Counts requests, operations and sockets, whatever the transport."""

from collections.abc import Awaitable
from functools import cache
from time import perf_counter
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from domain.traces import span
from edge.errors import INTERNAL
from edge.execution import OperationExecutor
from edge.operation_room import WaitUntilLeft
from edge.outcomes import ALL_KINDS, Operation, Outcome, Streaming
from edge.persisted import PersistedDocuments
from edge.traces import route_of
from metrics.series import UNKNOWN, Metrics
from schema import context
from schema.services import Services
from settings import Limits

_CLOSES: Final = frozenset(
    {1000, 1001, 1002, 1003, 1007, 1008, 1009, 1011, 1012, 1013}
    | {4400, 4401, 4403, 4406, 4408, 4409, 4429}
)


class ObservedExecutor(OperationExecutor):
    def __init__(
        self,
        services: Services,
        limits: Limits,
        persisted: PersistedDocuments,
        *,
        metrics: Metrics,
    ) -> None:
        super().__init__(services, limits, persisted)
        self._seconds_of = cache(metrics.operations.labels)
        for kind in ALL_KINDS:  # an alert fires for the first one
            self._seconds_of(kind.value, INTERNAL)

    async def execute(
        self,
        operation: Operation,
        *,
        scope: context.Scope,
        request_id: str,
        ends_at: float | None = None,
        waits: bool = False,
        wait_until_left: WaitUntilLeft | None = None,
    ) -> Outcome:
        began_at = perf_counter()
        with span("operation") as running:
            outcome = await super().execute(
                operation,
                scope=scope,
                request_id=request_id,
                ends_at=ends_at,
                waits=waits,
                wait_until_left=wait_until_left,
            )
            if isinstance(outcome, Streaming):
                kind, code = "subscription", "OK"
            else:
                kind = outcome.kind.value if outcome.kind is not None else UNKNOWN
                code = next(iter(outcome.result.codes), "OK")
            running.add({"graphql.operation.type": kind, "darkroom.code": code})
            if code == INTERNAL:
                running.fail(code)
        self._seconds_of(kind, code).observe(perf_counter() - began_at)
        return outcome


class ObservedApp:
    """An ASGI application whose responses and sockets are counted."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics
        self._responses_of = cache(metrics.http_responses.labels)

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        if scope["type"] == "http":
            return self._app(scope, receive, self._counted(scope, send))
        return self._follow_socket(scope, receive, send)

    def _counted(self, scope: Scope, send: Send) -> Send:
        def count(message: Message) -> Awaitable[None]:
            if message["type"] == "http.response.start":
                self._count(scope, message["status"])
            return send(message)

        return count

    def _count(self, scope: Scope, status: int) -> None:
        self._responses_of(route_of(scope["path"]), str(status)).inc()

    async def _follow_socket(self, scope: Scope, receive: Receive, send: Send) -> None:
        accepted, code = False, "client"

        async def watch(message: Message) -> None:
            nonlocal accepted, code
            if message["type"] == "websocket.accept":
                accepted = True
                self._metrics.sockets.inc()
            elif message["type"] == "websocket.close":
                code = _close(message.get("code", 1000))
            await send(message)

        async def take() -> Message:
            nonlocal code
            message = await receive()
            if message["type"] == "websocket.disconnect" and code == "client":
                # Closed by the server, such as 1012 at a shutdown.
                given = message.get("code", 1005)
                code = _close(given) if given in {1008, 1009, 1012} else "client"
            return message

        try:
            await self._app(scope, take, watch)
        finally:
            if accepted:
                self._metrics.sockets.dec()
                self._metrics.socket_closes.labels(code).inc()


def _close(code: int) -> str:
    return str(code) if code in _CLOSES else UNKNOWN
