"""GraphQL over HTTP: writes outcomes as statuses, headers and JSON, subscriptions as streams."""

from collections.abc import Awaitable
from functools import partial
from hashlib import sha256
from typing import Final

import structlog
from graphql import OperationType
from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect, Request
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from domain.errors import (
    BadUserInput,
    Forbidden,
    Overloaded,
    QueryTooComplex,
    RateLimited,
    Unauthenticated,
)
from edge import graphiql
from edge.addresses import address_of
from edge.admission import Admission, logging_viewer
from edge.early_answers import EarlyAnswer
from edge.errors import INTERNAL, internal_error
from edge.execution import OperationExecutor
from edge.http_requests import (
    TOO_LARGE,
    RequestRefused,
    choose_media_types,
    read_operation,
    wants_page,
)
from edge.media_types import STREAMS_IN_WORDS
from edge.operation_room import ClientLeft
from edge.outcomes import Reason, Rejected, Result, Streaming
from edge.responses import (
    GRAPHQL_JSON,
    JSON,
    NOT_INDEXED,
    error_response,
    has_entity_tag,
    json_response,
)
from edge.result_streams import CallWhenGone, ResultStream, wait_until_left
from edge.traces import request_id
from settings import Limits

_STATUSES: Final = {
    Overloaded.code: 503,
    RateLimited.code: 429,
    "TOO_MANY_SUBSCRIPTIONS": 429,
    "DEADLINE_EXCEEDED": 504,
}
"""The status of results without data, by the code of an error."""
_NOT_INDEXED: Final = tuple(
    (name.lower().encode(), value.encode()) for name, value in NOT_INDEXED.items()
)
_NOT_STORED: Final = (b"cache-control", b"no-store")
_MISTAKES: Final = (BadUserInput.code, QueryTooComplex.code)

log = structlog.get_logger(__name__)


class GraphQLOverHTTP:
    """An ASGI application, so that every method is handled here and answered in one form."""

    def __init__(
        self,
        executor: OperationExecutor,
        admission: Admission,
        *,
        show_ide: bool,
        call_when_blocked: CallWhenGone,
        limits: Limits,
    ) -> None:
        self._limits = limits
        self._executor = executor
        self._call_when_blocked = call_when_blocked
        self._admission = admission
        self._show_ide = show_ide

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with logging_viewer():
            response = await self._respond(Request(scope, receive), request_id())
            await response(scope, receive, partial(_send_not_indexed, send))

    async def _respond(self, request: Request, request_id: str) -> ASGIApp:
        if self._show_ide and _wants_ide(request):
            return RedirectResponse(graphiql.PATH)
        media_type = JSON
        try:
            accepted = choose_media_types(request)
            media_type = accepted.json or GRAPHQL_JSON
            operation = await read_operation(
                request,
                streams=accepted.stream is not None,
                limits=self._limits,
                thread=self._executor.thread,
            )
            ends_at = self._executor.ends_at
            scope = await self._admission.admit(
                request.headers.get("authorization"), address=address_of(request.scope)
            )
            outcome = await self._executor.execute(
                operation,
                scope=scope,
                request_id=request_id,
                ends_at=ends_at,
                wait_until_left=partial(wait_until_left, request.receive),
            )
            if isinstance(outcome, Rejected):
                return _write_rejection(outcome, media_type, is_get=request.method == "GET")
            if isinstance(outcome, Streaming) or accepted.json is None:
                assert accepted.stream is not None, "this operation is of no kind that is accepted"
                return ResultStream(
                    outcome,
                    accepted.stream,
                    request_id=request_id,
                    viewer=scope.viewer,
                    call_when_blocked=self._call_when_blocked,
                )
            if request.method == "GET" and not outcome.result.errors:
                return _write_cacheable(outcome.result, media_type, request.headers)
            return _write_result(outcome.result, media_type)
        except RequestRefused as refused:
            return _write_refusal(refused, media_type)
        except (Unauthenticated, Forbidden, Overloaded) as error:
            return _write_not_admitted(error, media_type)
        except (ClientDisconnect, ClientLeft):
            return Response()  # Nobody reads it.
        except Exception:
            log.exception("request failed")
            failure = Result(None, (internal_error(request_id),))
            return json_response(failure.body, 500, media_type=media_type)


def _send_not_indexed(send: Send, message: Message) -> Awaitable[None]:
    """Keep search engines away: any answer may be reached by a link that a robot has found."""
    if message["type"] == "http.response.start":
        headers = message["headers"] = [*message["headers"], *_NOT_INDEXED]
        if not any(name == _NOT_STORED[0] for name, _ in headers):
            headers.append(_NOT_STORED)
    return send(message)


def _wants_ide(request: Request) -> bool:
    return request.method == "GET" and "query" not in request.query_params and wants_page(request)


def _write_result(result: Result, media_type: str) -> Response:
    status, headers = 200, dict[str, str]()
    if result.errors and not any((result.data or {}).values()):
        status, headers = _find_status(result, media_type)
    return Response(result.encoded, status, headers, media_type)


def _write_cacheable(result: Result, media_type: str, asked: Headers) -> Response:
    """Answer a GET with 304 where the client already has this answer."""
    tag = f'"{sha256(result.encoded).hexdigest()[:32]}"'
    headers = {"Cache-Control": "private, no-cache", "ETag": tag, "Vary": "Authorization, Accept"}
    if has_entity_tag(asked, "if-none-match", tag):
        return Response(status_code=304, headers=headers)
    return Response(result.encoded, 200, headers, media_type)


def _write_rejection(rejected: Rejected, media_type: str, *, is_get: bool) -> Response:
    if rejected.reason is Reason.KIND:
        message = "Send mutations with POST."
        if rejected.kind is OperationType.SUBSCRIPTION:
            message = (
                f"Accept {STREAMS_IN_WORDS} for a subscription, or use a WebSocket with the "
                "graphql-transport-ws protocol."
            )
        if not is_get:
            return error_response(
                406, "SUBSCRIPTION_TRANSPORT_REQUIRED", message, media_type=media_type
            )
        return error_response(
            405, "METHOD_NOT_ALLOWED", message, headers={"Allow": "POST"}, media_type=media_type
        )
    if rejected.reason in {Reason.TIME, Reason.RATE, Reason.CAPACITY, Reason.SUBSCRIPTIONS}:
        return _write_result(rejected.result, media_type)
    status = 400 if media_type == GRAPHQL_JSON else 200
    if rejected.reason in {Reason.UNKNOWN_OPERATION, Reason.DIGEST, Reason.UNTRUSTED}:
        status = 400
    elif rejected.reason is Reason.PERSISTED:
        status = 200  # On this code, Apollo and urql send the document instead.
    return json_response(rejected.result.body, status, media_type=media_type)


def _write_refusal(refused: RequestRefused, media_type: str) -> ASGIApp:
    refusal = error_response(
        refused.status,
        refused.code,
        str(refused),
        headers=refused.headers,
        media_type=media_type,
    )
    return EarlyAnswer(refusal) if refused.status == TOO_LARGE else refusal


def _write_not_admitted(
    error: Unauthenticated | Forbidden | Overloaded, media_type: str
) -> Response:
    if isinstance(error, Overloaded):
        failure = Result(None, ({"message": str(error), "extensions": error.extensions},))
        headers = {"Retry-After": str(error.retry_after_seconds)}
        return json_response(failure.body, 503, headers=headers, media_type=media_type)
    if isinstance(error, Forbidden):
        return error_response(403, error.code, str(error), media_type=media_type)
    headers = {"WWW-Authenticate": "Bearer"}
    return error_response(401, error.code, str(error), headers=headers, media_type=media_type)


def _find_status(result: Result, media_type: str) -> tuple[int, dict[str, str]]:
    """The status and headers of a result without data. The error codes are more precise."""
    for error, code in zip(result.errors, result.codes, strict=True):
        status = _STATUSES.get(code)
        if status is not None:
            seconds = error["extensions"].get("retryAfterSeconds")
            return status, {} if seconds is None else {"Retry-After": str(seconds)}
    if not result.has_run and INTERNAL in result.codes:
        return 500, {}
    mistaken = not result.has_run or result.codes[0] in _MISTAKES
    return 400 if mistaken and media_type == GRAPHQL_JSON else 200, {}
