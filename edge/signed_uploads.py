"""Takes what a folder's offers promise to take: `PUT` and `POST` of `/uploads/<key>?offer=…`.

The offer is the credential: there is no other. Nothing is read before it has been found good, and
never more than it allows. What a bucket would refuse is refused here as well: a client that works
with the one works with the other.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from hashlib import sha256
from itertools import takewhile
from typing import Final, Protocol

from python_multipart.exceptions import FormParserError
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Message, Receive, Scope, Send

from domain.errors import StoreUnavailable
from domain.uploads import DeclaredFile
from edge.responses import error_response

UPLOAD_SECONDS: Final = 300.0
FIRST_SECONDS: Final = 10.0
"""For a body to begin. What comes adds to it, so that whoever only drips is not waited for."""
SLOWEST_BYTES_PER_SECOND: Final = 8_000
UPLOADS_AT_ONCE: Final = 200
UPLOADS_OF_ONE_OFFER: Final = 10
"""Another may come while the first has not been found to be broken off."""
UPLOADS_OF_ONE_OWNER: Final = 50
HELD_BYTES: Final = 100_000_000
"""What comes waits in memory until it is there as a whole: so much of all uploads together."""
HELD_BYTES_OF_ONE_OWNER: Final = 70_000_000
"""More than the largest upload that a setting allows."""

_FORM_BYTES: Final = 16 * 1024
"""What a form may have beside its file."""
_MOST_FIELDS: Final = 16
_REST_BYTES: Final = 8_000_000
_REST_SECONDS: Final = 5.0
_RETRY_AFTER: Final = {"Retry-After": "2"}


class SignedUploads(Protocol):
    """A store that presigns uploads, and leaves it to these routes to receive them."""

    def opened_offer(self, key: str, method: str, query: str) -> tuple[DeclaredFile, str] | None:
        """The file that an upload URL allows, and its owner; None where the URL is not valid."""

    async def put_new(self, key: str, data: bytes) -> bool:
        """Store the object, or return False if there is one of this key."""


def signed_upload_routes(store: SignedUploads, *, origins: str) -> list[Route]:
    """The routes that this store's upload URLs lead to.

    `origins` is the pattern of the origins whose pages may upload.
    """
    cors = Middleware(
        CORSMiddleware,
        allow_origin_regex=origins,
        allow_methods=["PUT", "POST"],
        allow_headers=["*"],
        max_age=7200,
    )
    return [Route("/uploads/{name:path}", _SignedUploads(store), name="upload", middleware=[cors])]


class _Refusal(Exception):
    def __init__(
        self, status: int, code: str, message: str, *, headers: Mapping[str, str] | None = None
    ) -> None:
        self.response = _error(status, code, message, headers=headers)


class _Body:
    """What a client sends, and whether all of it has come.

    `came` is told of each part while the body is wanted.
    """

    def __init__(self, receive: Receive) -> None:
        self.came: Callable[[int], None] | None = None
        self._receive = receive
        self._over = False

    async def receive(self) -> Message:
        message = await self._receive()
        self._over = not message.get("more_body", False)
        if self.came is not None:
            self.came(len(message.get("body", b"")))
        return message

    async def comes_to_its_end(self) -> bool:
        """Pass over the rest of a refused body, and wait for it a little.

        A client that is cut off while it sends does not get to read why.
        """
        count = 0
        try:
            async with asyncio.timeout(_REST_SECONDS):
                while not self._over and count < _REST_BYTES:
                    count += len((await self.receive()).get("body", b""))
        except TimeoutError:
            pass
        return self._over


class _SignedUploads:
    """An ASGI application, so that every method gets here and is answered in one form."""

    def __init__(self, store: SignedUploads) -> None:
        self._store = store
        self._at_once = Counter[str]()
        """Uploads that are coming, by their keys."""
        self._at_once_of = Counter[str]()
        """By their owners."""
        self._held_bytes = Counter[str]()
        """By their owners."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = _Body(receive)
        response = await self._answer(Request(scope, body.receive), body)
        if response.status_code >= 400 and not await body.comes_to_its_end():
            response.headers["Connection"] = "close"
        await response(scope, receive, send)

    async def _answer(self, request: Request, body: _Body) -> Response:
        if request.method not in ("PUT", "POST"):
            return _error(
                405, "METHOD_NOT_ALLOWED", "Only PUT and POST.", headers={"Allow": "PUT, POST"}
            )
        key = f"uploads/{request.path_params['name']}"
        query = request.scope["query_string"].decode("latin-1")
        offer = self._store.opened_offer(key, request.method, query)
        if offer is None:
            return _error(403, "FORBIDDEN", "This offer is not valid, or no longer.")
        file, owner = offer
        if (
            self._at_once.total() >= UPLOADS_AT_ONCE
            or self._at_once[key] >= UPLOADS_OF_ONE_OFFER
            or self._at_once_of[owner] >= UPLOADS_OF_ONE_OWNER
        ):
            return _too_many().response
        try:
            async with self._awaited(key, owner, body):
                return await self._take(request, key, file)
        except _Refusal as refusal:
            return refusal.response
        except TimeoutError:
            return _error(408, "REQUEST_TIMEOUT", "The upload took too long.")
        except ClientDisconnect:
            return _error(400, "BAD_REQUEST", "The upload did not arrive as a whole.")
        except StoreUnavailable:
            return _busy("The upload cannot be kept at the moment. Please try again.").response

    @asynccontextmanager
    async def _awaited(self, key: str, owner: str, body: _Body) -> AsyncIterator[None]:
        """Count what comes, and raise TimeoutError once it comes too slowly."""
        began, byte_size = asyncio.get_running_loop().time(), 0

        def came(count: int) -> None:
            nonlocal byte_size
            byte_size += count
            self._held_bytes[owner] += count
            if (
                self._held_bytes.total() > HELD_BYTES
                or self._held_bytes[owner] > HELD_BYTES_OF_ONE_OWNER
            ):
                raise _too_many()
            seconds = FIRST_SECONDS + byte_size / SLOWEST_BYTES_PER_SECOND
            polling_policy.reschedule(began + min(seconds, UPLOAD_SECONDS))

        self._at_once[key] += 1
        self._at_once_of[owner] += 1
        body.came = came
        try:
            async with asyncio.timeout(FIRST_SECONDS) as polling_policy:
                yield
        finally:
            body.came = None
            self._at_once[key] -= 1
            self._at_once_of[owner] -= 1
            self._held_bytes[owner] -= byte_size
            self._at_once += Counter()  # whoever has none is dropped
            self._at_once_of += Counter()
            self._held_bytes += Counter()

    async def _take(self, request: Request, key: str, file: DeclaredFile) -> Response:
        if "authorization" in request.headers:
            raise _Refusal(400, "BAD_REQUEST", "The offer is all that is needed: send no token.")
        if request.method == "PUT":
            data = await _body(request, file)
        else:
            data = await _file_of_form(request, key, file)
        if len(data) != file.byte_size:
            raise _Refusal(400, "BAD_REQUEST", "The file has another length than was declared.")
        if file.sha256 is not None and sha256(data).digest() != file.sha256:
            raise _Refusal(400, "BAD_REQUEST", "The file has another digest than was declared.")
        if await self._store.put_new(key, data):
            return Response(status_code=200 if request.method == "PUT" else 204)
        return _error(412, "PRECONDITION_FAILED", "This place has been filled already.")


async def _body(request: Request, file: DeclaredFile) -> bytes:
    if request.headers.get("content-type") != file.content_type:
        raise _other_type()
    if request.headers.get("if-none-match") != "*":
        raise _Refusal(403, "FORBIDDEN", "The offer's headers have to be sent as they are.")
    if "content-length" not in request.headers:
        raise _Refusal(411, "LENGTH_REQUIRED", "The body's length has to be sent along.")
    data = bytearray()
    async for part in _limited(request, file.byte_size):
        data += part
    return bytes(data)


async def _file_of_form(request: Request, key: str, file: DeclaredFile) -> bytes:
    body = b"".join([part async for part in _limited(request, file.byte_size + _FORM_BYTES)])
    # The parser takes a form that broke off for one that is whole.
    if not body.rstrip(b"\r\n").endswith(b"--"):
        raise _no_form()

    async def receive() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    bounded = Request(request.scope, receive)
    try:
        async with bounded.form(
            max_files=1, max_fields=_MOST_FIELDS, max_part_size=_FORM_BYTES
        ) as form:
            given = form.get("file")
            if not isinstance(given, UploadFile):
                raise _Refusal(400, "BAD_REQUEST", "The form has no `file`.")
            fields = dict(takewhile(lambda field: field[0] != "file", form.multi_items()))
            if fields.get("key") != key or fields.keys() - {"key", "Content-Type"}:
                message = "The offer's fields have to be sent as they are, alone, before the file."
                raise _Refusal(403, "FORBIDDEN", message)
            if fields.get("Content-Type") != file.content_type:
                raise _other_type()
            return await given.read()
    except (HTTPException, MultiPartException, FormParserError, UnicodeError) as error:
        raise _no_form() from error  # the last where the form names a charset that fits nothing


async def _limited(request: Request, most: int) -> AsyncIterator[bytes]:
    """The body in parts, none of them empty; refused as soon as it has more bytes than this."""
    declared = request.headers.get("content-length", "0")
    count = int(declared) if declared.isascii() and declared.isdigit() else 0
    if count > most:
        raise _too_long()
    count = 0
    async for part in request.stream():
        count += len(part)
        if count > most:
            raise _too_long()
        if part:
            yield part


def _no_form() -> _Refusal:
    return _Refusal(400, "BAD_REQUEST", "The body is no form.")


def _too_long() -> _Refusal:
    return _Refusal(413, "PAYLOAD_TOO_LARGE", "The file is longer than was declared.")


def _other_type() -> _Refusal:
    return _Refusal(403, "FORBIDDEN", "The file has another type than was declared.")


def _too_many() -> _Refusal:
    return _busy("Too many uploads at the moment. Please try again.")


def _busy(message: str) -> _Refusal:
    return _Refusal(503, "STORAGE_UNAVAILABLE", message, headers=_RETRY_AFTER)


def _error(
    status: int, code: str, message: str, *, headers: Mapping[str, str] | None = None
) -> Response:
    always = {"Cache-Control": "no-store"}
    return error_response(status, code, message, headers=always | dict(headers or {}))
