"""GraphQL requests over HTTP, read within limits of size and time."""

import asyncio
from collections.abc import Mapping
from typing import Any, Final

import orjson
from graphql import OperationType
from starlette.requests import Request

from edge.json_input import decode_json, drop_nul
from edge.outcomes import Operation
from edge.parameters import InvalidParameters, read_parameters
from edge.responses import GRAPHQL_JSON, JSON

MAX_BODY_BYTES: Final = 256 * 1024
BODY_SECONDS: Final = 10.0
_GET_KINDS: Final = frozenset({OperationType.QUERY})
_POST_KINDS: Final = frozenset({OperationType.QUERY, OperationType.MUTATION})
_CLOSE: Final = {"Connection": "close"}


class RequestRefused(Exception):
    """The request is not one for an operation."""

    def __init__(
        self, status: int, code: str, message: str, *, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.status, self.code, self.headers = status, code, headers


def choose_media_type(request: Request) -> str:
    """Choose what to answer with: the newer type only where a client asks for it."""
    accept = request.headers.get("accept", "*/*")
    accepted = {part.partition(";")[0].strip().lower() for part in accept.split(",")}
    if GRAPHQL_JSON in accepted:
        return GRAPHQL_JSON
    if accepted & {JSON, "application/*", "*/*"}:
        return JSON
    raise RequestRefused(406, "NOT_ACCEPTABLE", f"Accept {GRAPHQL_JSON} or {JSON}.")


async def read_operation(request: Request) -> Operation:
    """Raise RequestRefused where the request is not for one operation."""
    if request.method == "GET":
        found: dict[str, Any] = {
            name: drop_nul(value) for name, value in request.query_params.items()
        }
        for part in ("variables", "extensions"):
            found[part] = _decode(found[part]) if found.get(part) else None
        return _check_operation(found, _GET_KINDS)
    if request.method == "POST":
        content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if content_type != JSON or "content-encoding" in request.headers:
            message = f"Send {JSON} without a Content-Encoding."
            raise RequestRefused(415, "UNSUPPORTED_MEDIA_TYPE", message)
        return _check_operation(_decode(await _read_body(request)), _POST_KINDS)
    raise RequestRefused(
        405, "METHOD_NOT_ALLOWED", "Use POST or GET.", headers={"Allow": "GET, POST"}
    )


def _check_operation(found: object, kinds: frozenset[OperationType]) -> Operation:
    if not isinstance(found, dict):
        raise _bad_request("The request must be a JSON object.")
    try:
        operation = read_parameters(found, kinds)
    except InvalidParameters as invalid:
        raise _bad_request(str(invalid)) from invalid
    if operation.document is not None and not operation.document.strip():
        raise _bad_request("`query` must be a GraphQL document.")
    return operation


async def _read_body(request: Request) -> bytes:
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for chunk in request.stream():
                body += chunk
                if len(body) > MAX_BODY_BYTES:
                    message = f"The body can have at most {MAX_BODY_BYTES} bytes."
                    raise RequestRefused(413, "PAYLOAD_TOO_LARGE", message, headers=_CLOSE)
    except TimeoutError:
        message = "The body took too long to arrive."
        raise RequestRefused(408, "REQUEST_TIMEOUT", message, headers=_CLOSE) from None
    return bytes(body)


def _decode(data: str | bytes) -> Any:
    try:
        return decode_json(data)
    except orjson.JSONDecodeError as error:
        raise _bad_request("The request is not valid JSON.") from error


def _bad_request(message: str) -> RequestRefused:
    return RequestRefused(400, "BAD_REQUEST", message)
