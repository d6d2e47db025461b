"""GraphQL requests over HTTP, read within limits of size and time."""

import asyncio
from collections.abc import Mapping
from functools import partial
from typing import Any, Final

import orjson
from graphql import OperationType
from starlette.requests import Request

from domain.errors import Overloaded
from edge.addresses import address_of
from edge.json_input import AT_ONCE_BYTES, decode_json, drop_nul
from edge.media_types import STREAMS_IN_WORDS, Accepted, read_accept
from edge.outcomes import Operation
from edge.parameters import InvalidParameters, read_parameters
from edge.responses import GRAPHQL_JSON, JSON
from edge.side_thread import SideThread
from settings import Limits

TOO_LARGE: Final = 413
_GET_KINDS: Final = frozenset({OperationType.QUERY})
_POST_KINDS: Final = frozenset({OperationType.QUERY, OperationType.MUTATION})
_SUBSCRIPTIONS: Final = frozenset({OperationType.SUBSCRIPTION})
_SINGLE_CONNECTION: Final = "x-graphql-event-stream-token"
"""A header of graphql-sse's single-connection mode, in which one stream has the results of many
requests.
"""
_ALLOW: Final = {"Allow": "GET, POST"}
_CLOSE: Final = {"Connection": "close"}


class RequestRefused(Exception):
    """The request does not contain an operation."""

    def __init__(
        self, status: int, code: str, message: str, *, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.status, self.code, self.headers = status, code, headers


def wants_page(request: Request) -> bool:
    """Whether the request comes from a person's browser instead of a program."""
    return "text/html" in request.headers.get("accept", "")


def choose_media_types(request: Request) -> Accepted:
    """Choose the form of the answer. Raise RequestRefused where the client accepts none of them."""
    accepted = read_accept(",".join(request.headers.getlist("accept")) or "*/*")
    if accepted.json is None and accepted.stream is None:
        raise RequestRefused(
            406, "NOT_ACCEPTABLE", f"Accept {GRAPHQL_JSON}, {JSON}, {STREAMS_IN_WORDS}."
        )
    return accepted


async def read_operation(
    request: Request, *, streams: bool, limits: Limits, thread: SideThread
) -> Operation:
    """Read an operation, which may be a subscription if the client accepts streams. What is long is
    read in the thread.

    Raise RequestRefused where the request is not for one operation, and Overloaded where it has
    waited for too long.
    """
    if _SINGLE_CONNECTION in request.headers or (streams and "token" in request.query_params):
        message = "Use the distinct connections mode of graphql-sse: one request for an operation."
        raise RequestRefused(405, "METHOD_NOT_ALLOWED", message, headers=_ALLOW)
    more = _SUBSCRIPTIONS if streams else frozenset()
    if request.method == "GET":
        found: dict[str, Any] = {}
        for name, value in request.query_params.multi_items():
            if name in found:
                raise _bad_request("A parameter can be given only once.")
            found[name] = drop_nul(value)
        for part in ("variables", "extensions"):
            found[part] = _decode(found[part]) if found.get(part) else None
        return _check_operation(found, _GET_KINDS | more)
    if request.method == "POST":
        content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if content_type != JSON or "content-encoding" in request.headers:
            message = f"Send {JSON} without a Content-Encoding."
            raise RequestRefused(415, "UNSUPPORTED_MEDIA_TYPE", message)
        body = await _read_body(request, limits)
        read = partial(_read_json, body, _POST_KINDS | more)
        if len(body) <= AT_ONCE_BYTES:
            return read()
        try:
            async with asyncio.timeout(limits.operation_seconds):
                return await thread.call(address_of(request.scope), read)
        except TimeoutError as error:
            raise Overloaded from error
    raise RequestRefused(405, "METHOD_NOT_ALLOWED", "Use POST or GET.", headers=_ALLOW)


def _read_json(body: bytes, kinds: frozenset[OperationType]) -> Operation:
    return _check_operation(_decode(body), kinds)


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


async def _read_body(request: Request, limits: Limits) -> bytes:
    body, longest = bytearray(), limits.body_bytes
    declared = request.headers.get("content-length", "0")
    if declared.isdecimal() and int(declared[:20]) > longest:
        raise _too_large(longest)
    try:
        async with asyncio.timeout(limits.body_seconds):
            async for chunk in request.stream():
                body += chunk
                if len(body) > longest:
                    raise _too_large(longest)
    except TimeoutError:
        message = "The body took too long to arrive."
        raise RequestRefused(408, "REQUEST_TIMEOUT", message, headers=_CLOSE) from None
    return bytes(body)


def _too_large(longest: int) -> RequestRefused:
    message = f"The body can have at most {longest} bytes."
    return RequestRefused(TOO_LARGE, "PAYLOAD_TOO_LARGE", message, headers=_CLOSE)


def _decode(data: str | bytes) -> Any:
    try:
        return decode_json(data)
    except orjson.JSONDecodeError as error:
        raise _bad_request("The request is not valid JSON.") from error


def _bad_request(message: str) -> RequestRefused:
    return RequestRefused(400, "BAD_REQUEST", message)
