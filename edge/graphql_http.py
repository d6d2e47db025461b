"""The /graphql endpoint: from a request or a socket to a context, from a result to an answer."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from re import Pattern
from typing import Any, Final
from uuid import uuid4

import orjson
import structlog
from graphql import GraphQLError
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocket
from strawberry.asgi import GraphQL
from strawberry.exceptions import ConnectionRejectionError
from strawberry.http.ides import get_graphql_ide_html
from strawberry.schema.exceptions import CannotGetOperationTypeError, InvalidOperationTypeError
from strawberry.subscriptions import GRAPHQL_TRANSPORT_WS_PROTOCOL
from strawberry.types.execution import ExecutionResult, PreExecutionError
from strawberry.types.graphql import OperationType
from strawberry.types.unset import UnsetType

from domain.errors import BadUserInput, Overloaded, QueryTooComplex, TryLater, Unauthenticated
from domain.viewers import Viewer
from edge.auth import parse_authorization
from edge.graphql_ws import INIT_TIMEOUT, TransportHandler
from resolvers.root import schema
from schema.context import Context
from schema.errors import present

log = structlog.get_logger(__name__)

MAX_BODY_BYTES: Final = 256 * 1024
_BODY_SECONDS: Final = 10
_OPERATION_SECONDS: Final = 10
_MAX_NESTING: Final = 32
_JSON: Final = "application/json"
_GRAPHQL_JSON: Final = "application/graphql-response+json"
_PAGE: Final = get_graphql_ide_html(graphql_ide="graphiql").replace(
    "Strawberry GraphiQL", "Darkroom · GraphiQL"
)


class RequestRefused(Exception):
    """A request that does not get as far as GraphQL."""

    def __init__(
        self, status: int, code: str, message: str, *, headers: dict[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.status, self.code, self.headers = status, code, headers or {}


@dataclass(frozen=True, slots=True)
class _Operation:
    query: str
    variables: dict[str, Any] | None
    name: str | None


class GraphQLEndpoint(GraphQL[Context, None]):
    """GraphQL over HTTP, and over WebSocket with graphql-transport-ws.

    `admit` turns a bearer token into a viewer or raises `Unauthenticated`; `make_context` makes
    what the fields of one request or socket may reach.
    """

    graphql_transport_ws_handler_class = TransportHandler

    def __init__(
        self,
        *,
        admit: Callable[[str], Awaitable[Viewer]],
        make_context: Callable[[str, Viewer | None], Context],
        allowed_origins: Pattern[str],
        show_ide: bool,
    ) -> None:
        super().__init__(
            schema,
            graphql_ide="graphiql" if show_ide else None,
            subscription_protocols=[GRAPHQL_TRANSPORT_WS_PROTOCOL],
            connection_init_wait_timeout=INIT_TIMEOUT,
        )
        self._admit = admit
        self._make_context = make_context
        self._allowed_origins = allowed_origins

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request_id = uuid4().hex
        structlog.contextvars.bind_contextvars(request_id=request_id)
        try:
            if scope["type"] == "http":
                request = Request(scope, receive)
                response = await self._answer(request, request_id)
                await response(scope, receive, send)
            else:
                scope["request_id"] = request_id
                await super().__call__(scope, receive, send)
        finally:
            structlog.contextvars.unbind_contextvars("request_id", "viewer_id")

    # HTTP

    async def _answer(self, request: Request, request_id: str) -> Response:
        media_type = _JSON
        try:
            if self.graphql_ide and _wants_page(request):
                return HTMLResponse(_PAGE)
            media_type = _accepted_type(request)
            operation = await _read_operation(request)
            async with asyncio.timeout(_OPERATION_SECONDS):
                context = self._make_context(request_id, await self._viewer_of(request))
                result = await self._execute(request, operation, context)
        except RequestRefused as refused:
            return _refusal(refused, media_type)
        except Unauthenticated as error:
            headers = {"WWW-Authenticate": "Bearer"}
            return _refusal(
                RequestRefused(401, error.code, str(error), headers=headers), media_type
            )
        except Overloaded as error:
            body = {"errors": [_error(str(error), error.extensions)]}
            return _json(body, 503, _retry(error), media_type)
        except TimeoutError:
            message = "The operation took too long."
            return _refusal(RequestRefused(504, "DEADLINE_EXCEEDED", message), media_type)
        except Exception:
            log.exception("request failed")
            extensions: dict[str, object] = {"code": "INTERNAL", "requestId": request_id}
            body = {"errors": [_error("Something went wrong on our side.", extensions)]}
            return _json(body, 500, media_type=media_type)
        return self._present_result(result, context, media_type)

    async def _viewer_of(self, request: Request) -> Viewer | None:
        token = parse_authorization(request.headers.get("authorization"))
        return await self._let_in(token) if token else None

    async def _let_in(self, token: str) -> Viewer:
        viewer = await self._admit(token)
        structlog.contextvars.bind_contextvars(viewer_id=viewer.id)
        return viewer

    async def _execute(
        self, request: Request, operation: _Operation, context: Context
    ) -> ExecutionResult:
        allowed = {OperationType.QUERY}
        if request.method == "POST":
            allowed.add(OperationType.MUTATION)
        try:
            return await schema.execute(
                operation.query,
                variable_values=operation.variables,
                context_value=context,
                operation_name=operation.name,
                allowed_operation_types=allowed,
            )
        except CannotGetOperationTypeError as error:
            raise RequestRefused(
                400, "OPERATION_RESOLUTION_FAILED", "The document has no operation of this name."
            ) from error
        except InvalidOperationTypeError as error:
            if error.operation_type is OperationType.SUBSCRIPTION:
                raise RequestRefused(
                    406,
                    "SUBSCRIPTION_TRANSPORT_REQUIRED",
                    "Subscriptions need a WebSocket with the graphql-transport-ws protocol.",
                ) from error
            raise RequestRefused(
                405, "METHOD_NOT_ALLOWED", "Send mutations with POST.", headers={"Allow": "POST"}
            ) from error

    def _present_result(
        self, result: ExecutionResult, context: Context, media_type: str
    ) -> Response:
        refused = isinstance(result, PreExecutionError)
        body: dict[str, Any] = {} if refused else {"data": result.data}
        status, headers = 200, dict[str, str]()
        if result.errors:
            body["errors"] = self.present(context, result.errors, executed=not refused)
            if result.data is None and all(one.path is None for one in result.errors):
                body.pop("data", None)  # nothing has run
            if not any((result.data or {}).values()):
                status, headers = _status_of(result.errors, media_type, ran="data" in body)
        return _json(body, status, headers, media_type)

    # WebSocket

    async def get_context(self, request: Request | WebSocket, response: object) -> Context:  # noqa: ARG002
        return self._make_context(request.scope["request_id"], None)

    def is_websocket_origin_allowed(self, request: WebSocket, origin: str) -> bool:  # noqa: ARG002
        return self._allowed_origins.fullmatch(origin) is not None

    async def on_ws_connect(self, context: Context) -> UnsetType:
        authorization = _named(context.connection_params or {}, "authorization")
        try:
            token = parse_authorization(authorization if isinstance(authorization, str) else None)
            if token is None:
                raise Unauthenticated
            context.signed_in = await self._let_in(token)
        except Unauthenticated as error:
            raise ConnectionRejectionError from error
        return UnsetType()  # an acknowledgement without a payload

    def expires_at(self, context: Context) -> datetime | None:
        return context.signed_in.expires_at if context.signed_in else None

    def present(
        self, context: Context, errors: Sequence[GraphQLError], *, executed: bool
    ) -> list[dict[str, object]]:
        return present(errors, executed=executed, request_id=context.request_id)

    def decode_json(self, data: str | bytes) -> object:
        return _decode(data)

    def encode_json(self, data: object) -> str:
        return orjson.dumps(data).decode()


def _named(params: dict[str, object], wanted: str) -> object:
    """By a name in any case, as people write headers."""
    return next((value for name, value in params.items() if name.lower() == wanted), None)


def _status_of(
    errors: Sequence[GraphQLError], media_type: str, *, ran: bool
) -> tuple[int, dict[str, str]]:
    """Of an answer with errors and without data; a code in the body says the same more exactly."""
    for error in errors:
        if isinstance(error.original_error, TryLater):
            status = 503 if isinstance(error.original_error, Overloaded) else 429
            return status, _retry(error.original_error)
    mistaken = not ran or isinstance(errors[0].original_error, BadUserInput | QueryTooComplex)
    return 400 if mistaken and media_type == _GRAPHQL_JSON else 200, {}


def _wants_page(request: Request) -> bool:
    return (
        request.method == "GET"
        and "query" not in request.query_params
        and "text/html" in request.headers.get("accept", "")
    )


def _accepted_type(request: Request) -> str:
    """The media type to answer with: the newer one only where it is asked for."""
    accept = request.headers.get("accept", "*/*")
    offered = {part.partition(";")[0].strip().lower() for part in accept.split(",")}
    if _GRAPHQL_JSON in offered:
        return _GRAPHQL_JSON
    if offered & {_JSON, "application/*", "*/*"}:
        return _JSON
    raise RequestRefused(406, "NOT_ACCEPTABLE", f"Accept {_GRAPHQL_JSON} or {_JSON}.")


async def _read_operation(request: Request) -> _Operation:
    if request.method == "GET":
        found: dict[str, Any] = dict(request.query_params)
        for part in ("variables", "extensions"):
            found[part] = _parse(found[part]) if found.get(part) else None
    elif request.method == "POST":
        content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if content_type != _JSON or "content-encoding" in request.headers:
            raise RequestRefused(
                415, "UNSUPPORTED_MEDIA_TYPE", f"Send {_JSON} without a Content-Encoding."
            )
        found = _parse(await _read_body(request))
    else:
        raise RequestRefused(
            405, "METHOD_NOT_ALLOWED", "Use POST or GET.", headers={"Allow": "GET, POST"}
        )

    if not isinstance(found, dict):
        raise _bad_request("The request must be a JSON object.")
    query, name = found.get("query"), found.get("operationName")
    variables, extensions = found.get("variables"), found.get("extensions")
    if not isinstance(query, str) or not query.strip():
        raise _bad_request("`query` must be a GraphQL document.")
    if not isinstance(variables, dict | None):
        raise _bad_request("`variables` must be an object.")
    if not isinstance(extensions, dict | None):
        raise _bad_request("`extensions` must be an object.")
    if not isinstance(name, str | None):
        raise _bad_request("`operationName` must be a string.")
    return _Operation(query, variables, name)


async def _read_body(request: Request) -> bytes:
    body = bytearray()
    try:
        async with asyncio.timeout(_BODY_SECONDS):
            async for chunk in request.stream():
                body += chunk
                if len(body) > MAX_BODY_BYTES:
                    message = f"The body can have at most {MAX_BODY_BYTES} bytes."
                    raise RequestRefused(
                        413, "PAYLOAD_TOO_LARGE", message, headers={"Connection": "close"}
                    )
    except TimeoutError:
        raise RequestRefused(
            408,
            "REQUEST_TIMEOUT",
            "The body took too long to arrive.",
            headers={"Connection": "close"},
        ) from None
    return bytes(body)


def _parse(data: str | bytes) -> Any:
    try:
        return _decode(data)
    except orjson.JSONDecodeError as error:
        raise _bad_request("The request is not valid JSON.") from error


def _decode(data: str | bytes) -> Any:
    """JSON without what MongoDB or a person could stumble over. Raise JSONDecodeError otherwise."""
    value = orjson.loads(data)
    _check(value, _MAX_NESTING)
    return value


def _check(value: object, nesting: int) -> None:
    if isinstance(value, str):
        if "\0" in value:
            raise orjson.JSONDecodeError("NUL in a string", "", 0)
    elif isinstance(value, dict | list):
        if nesting == 0:
            raise orjson.JSONDecodeError("nested too deep", "", 0)
        for inner in [*value, *value.values()] if isinstance(value, dict) else value:
            _check(inner, nesting - 1)


def _bad_request(message: str) -> RequestRefused:
    return RequestRefused(400, "BAD_REQUEST", message)


def _refusal(refused: RequestRefused, media_type: str) -> Response:
    body = {"errors": [_error(str(refused), {"code": refused.code})]}
    return _json(body, refused.status, refused.headers, media_type)


def _error(message: str, extensions: dict[str, object]) -> dict[str, object]:
    return {"message": message, "extensions": extensions}


def _retry(error: TryLater) -> dict[str, str]:
    return {"Retry-After": str(error.retry_after_seconds)}


def _json(
    body: object, status: int, headers: dict[str, str] | None = None, media_type: str = _JSON
) -> Response:
    return Response(orjson.dumps(body), status, headers, media_type)
