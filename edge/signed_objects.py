"""Serves objects by their signed URLs: `GET` and `HEAD` of `/objects/<key>?expires=…&signature=…`.

The URL is the only credential: a page that has it may embed the image anywhere. Nothing is looked
up before the signature is verified, so a refusal does not reveal what the store contains.
"""

import re
from collections.abc import AsyncIterator, Mapping
from typing import Final, NamedTuple, Protocol

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from domain.errors import ObjectMissing, StoreUnavailable
from domain.object_keys import content_type_of
from edge.responses import EMBEDDABLE, INERT, error_response, has_entity_tag

CHUNK_BYTES: Final = 64 * 1024

_RETRY_AFTER_SECONDS: Final = 2
_EVERY_OBJECT: Final = EMBEDDABLE | INERT | {"Accept-Ranges": "bytes"}
_RANGE: Final = re.compile(r"bytes=[ \t]*(?:([0-9]+)-([0-9]*)|-([0-9]+))[ \t]*", re.IGNORECASE)


class SignedObjects(Protocol):
    """A store that signs URLs to its objects, and leaves it to these routes to serve them."""

    def seconds_left(self, key: str, query: str) -> float | None:
        """How long the query of a signed URL remains valid for the key; None where it is not."""

    async def get_size(self, key: str) -> int:
        """How many bytes the object has, or `ObjectMissing`."""

    async def read(self, key: str, *, start: int, count: int) -> bytes:
        """Exactly `count` bytes of the object, or `ObjectMissing`."""


def signed_object_routes(store: SignedObjects) -> list[Route]:
    """The routes that this store's signed URLs lead to."""
    return [Route("/objects/{key:path}", _SignedObjects(store), name="signed object")]


class _Span(NamedTuple):
    """A part of an object: `length` bytes from `start`."""

    start: int
    length: int


class _SignedObjects:
    """An ASGI application, so that every method is handled here and answered in one form."""

    def __init__(self, store: SignedObjects) -> None:
        self._store = store

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        response = await self._respond(Request(scope))
        await response(scope, receive, send)

    async def _respond(self, request: Request) -> Response:
        if request.method not in ("GET", "HEAD"):
            return _error(
                405, "METHOD_NOT_ALLOWED", "Use GET or HEAD.", headers={"Allow": "GET, HEAD"}
            )
        key = request.path_params["key"]
        query = request.scope["query_string"].decode("latin-1")
        seconds_left = self._store.seconds_left(key, query)
        # Keys need no escapes, so a URL that has some was altered.
        if seconds_left is None or b"%" in request.scope.get("raw_path", b""):
            return _error(403, "FORBIDDEN", "This URL is not valid or has expired.")
        try:
            return await self._send_object(request, key, seconds_left)
        except ObjectMissing:
            return _error(404, "NOT_FOUND", "There is no such object.")
        except StoreUnavailable:
            return _error(
                503,
                "STORAGE_UNAVAILABLE",
                "The image cannot be read at the moment. Please try again.",
                headers={"Retry-After": str(_RETRY_AFTER_SECONDS)},
            )

    async def _send_object(self, request: Request, key: str, seconds_left: float) -> Response:
        size = await self._store.get_size(key)
        name = key.rpartition("/")[2]
        # Objects never change, and their names are unique: the name identifies the bytes.
        etag = f'"{name}"'
        headers = _EVERY_OBJECT | {
            "ETag": etag,
            "Cache-Control": f"private, max-age={int(seconds_left)}, immutable",
        }
        if has_entity_tag(request.headers, "if-none-match", etag):
            return Response(status_code=304, headers=headers)
        headers["Content-Type"] = content_type_of(key)

        status, span = 200, _Span(0, size)
        # Ranges are only defined for GET.
        if request.method == "GET" and _range_applies(request.headers, etag):
            part = _parse_range(request.headers.getlist("range"), size)
            if part is not None:
                if part.length == 0:
                    return _error(
                        416,
                        "RANGE_NOT_SATISFIABLE",
                        "The requested range is outside the object.",
                        headers={"Content-Range": f"bytes */{size}"},
                    )
                status, span = 206, part
                last = span.start + span.length - 1
                headers["Content-Range"] = f"bytes {span.start}-{last}/{size}"
        headers["Content-Length"] = str(span.length)

        if request.method == "HEAD":
            return Response(status_code=status, headers=headers)
        # The first chunk is read before the response starts, so that an error can still be
        # answered.
        first = await self._store.read(key, start=span.start, count=min(CHUNK_BYTES, span.length))
        if len(first) == span.length:
            return Response(first, status_code=status, headers=headers)
        return StreamingResponse(self._read_chunks(key, span, first), status, headers)

    async def _read_chunks(self, key: str, span: _Span, first: bytes) -> AsyncIterator[bytes]:
        yield first
        position, end = span.start + len(first), span.start + span.length
        while position < end:
            chunk = await self._store.read(
                key, start=position, count=min(CHUNK_BYTES, end - position)
            )
            yield chunk
            position += len(chunk)


def _range_applies(headers: Headers, etag: str) -> bool:
    """Whether to honour a range: not if the client has another version. Dates never match, since
    objects have none.
    """
    return headers.getlist("if-range") in ([], [etag])


def _parse_range(ranges: list[str], size: int) -> _Span | None:
    """The requested part; empty where it is outside the object.

    None where the whole object is to be sent: without a range, or with one that RFC 9110 allows to
    ignore (another unit, not parseable, several ranges).
    """
    found = _RANGE.fullmatch(ranges[0]) if len(ranges) == 1 else None
    if found is None:
        return None
    first, last, suffix = found.groups()
    if suffix is not None:
        length = min(_parse_number(suffix), size)
        return _Span(size - length, length)
    start = _parse_number(first)
    end = size if not last else min(_parse_number(last) + 1, size)
    if last and _parse_number(last) < start:
        return None
    return _Span(start, max(0, end - start))


def _parse_number(digits: str) -> int:
    """Parse a number. One that exceeds the size of any object may be shortened."""
    return int(digits.lstrip("0")[:18] or "0")


def _error(
    status: int, code: str, message: str, *, headers: Mapping[str, str] | None = None
) -> Response:
    always = EMBEDDABLE | {"Cache-Control": "no-store"}
    return error_response(status, code, message, headers=always | dict(headers or {}))
