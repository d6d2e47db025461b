"""Receives presigned uploads to a folder: `PUT` and `POST` of `/uploads/<key>?offer=…`.

The URL is the only credential. Nothing is read before it is verified, and never more than it
allows. What a bucket would refuse is refused here too, so a client that works with one works with
the other. A file is stored part by part as it arrives, and never in memory as a whole.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from hashlib import sha256
from typing import Final, Protocol

from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from domain.errors import StoreUnavailable
from domain.images import ARCHIVE
from domain.uploads import DeclaredFile
from edge.early_answers import EarlyAnswer, drop_rest
from edge.responses import error_response
from edge.upload_forms import FORM_BYTES, InvalidForm, UploadForm

UPLOAD_SECONDS: Final = 300.0
EXPORT_SECONDS: Final = 3_600.0
"""The same for an export, which may have a gigabyte."""
FIRST_SECONDS: Final = 7.0
"""The time for a body to begin. Each byte adds to it, so a client that sends too slowly is cut off:
after 2 more seconds, in which it can read the refusal, its connection is closed.
"""
MIN_BYTES_PER_SECOND: Final = 8_000
MAX_UPLOADS: Final = 200
MAX_UPLOADS_PER_URL: Final = 10
"""A client may try again before its broken connection is noticed."""
MAX_UPLOADS_PER_OWNER: Final = 50

_TOO_SLOW: Final = 408
_MAX_DRAINED_BYTES: Final = 8_000_000
_DRAIN_SECONDS: Final = 5.0
_PARSED_BYTES: Final = 16 * 1024
"""How much of a form is parsed at once. Where it is full of what looks like the end of a part, that
takes 3 ms.
"""
_RETRY_AFTER: Final = {"Retry-After": "2"}


class SignedUploads(Protocol):
    """A store that presigns uploads, and leaves it to these routes to receive them."""

    def verify_upload_url(
        self, key: str, method: str, query: str
    ) -> tuple[DeclaredFile, str] | None:
        """The file that an upload URL allows, and its owner; None where the URL is not valid."""

    async def put_new_parts(self, key: str, parts: AsyncIterator[bytes]) -> bool:
        """Store the object, or return False if there is one under this key already. What the parts
        raise is raised, and nothing is kept.
        """


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
    """The body of a request, and whether all of it has arrived.

    `on_part` is called with the size of each part while the body is wanted.
    """

    def __init__(self, receive: Receive) -> None:
        self.on_part: Callable[[int], None] | None = None
        self._receive = receive
        self.is_complete = False

    async def receive(self) -> Message:
        message = await self._receive()
        self.is_complete = not message.get("more_body", False)
        if self.on_part is not None:
            self.on_part(len(message.get("body", b"")))
        return message

    async def drain(self) -> bool:
        """Skip the rest of a refused body, within limits; return whether all of it has arrived.

        A client whose connection is closed while it sends cannot read the response.
        """
        return self.is_complete or await drop_rest(
            self.receive, most_bytes=_MAX_DRAINED_BYTES, seconds=_DRAIN_SECONDS
        )


class _SignedUploads:
    """An ASGI application, so that every method is handled here and answered in one form."""

    def __init__(self, store: SignedUploads) -> None:
        self._store = store
        self._at_once = Counter[str]()
        """Uploads in progress, by key."""
        self._at_once_of = Counter[str]()
        """By owner."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = _Body(receive)
        response = await self._answer(Request(scope, body.receive), body)
        answer: ASGIApp = response
        if response.status_code == _TOO_SLOW:
            response.headers["Connection"] = "close"
            # Its time is over: the client is answered now, and what it still sends is dropped.
            answer = response if body.is_complete else EarlyAnswer(response)
        elif response.status_code >= 400 and not await body.drain():
            response.headers["Connection"] = "close"
        await answer(scope, body.receive, send)

    async def _answer(self, request: Request, body: _Body) -> Response:
        if request.method not in ("PUT", "POST"):
            return _error(
                405, "METHOD_NOT_ALLOWED", "Use PUT or POST.", headers={"Allow": "PUT, POST"}
            )
        key = f"uploads/{request.path_params['name']}"
        query = request.scope["query_string"].decode("latin-1")
        presigned = self._store.verify_upload_url(key, request.method, query)
        if presigned is None:
            return _error(403, "FORBIDDEN", "This upload URL is not valid or has expired.")
        file, owner = presigned
        if (
            self._at_once.total() >= MAX_UPLOADS
            or self._at_once[key] >= MAX_UPLOADS_PER_URL
            or self._at_once_of[owner] >= MAX_UPLOADS_PER_OWNER
        ):
            return _too_many().response
        try:
            longest = EXPORT_SECONDS if file.content_type == ARCHIVE else UPLOAD_SECONDS
            async with self._limit_pace(key, owner, body, max_seconds=longest):
                return await self._receive(request, key, file)
        except _Refusal as refusal:
            return refusal.response
        except TimeoutError:
            return _error(_TOO_SLOW, "REQUEST_TIMEOUT", "The upload took too long.")
        except ClientDisconnect:
            return _error(
                400, "BAD_REQUEST", "The connection was closed before the upload was complete."
            )
        except StoreUnavailable:
            return _busy("The upload cannot be stored at the moment. Please try again.").response

    @asynccontextmanager
    async def _limit_pace(
        self, key: str, owner: str, body: _Body, *, max_seconds: float
    ) -> AsyncIterator[None]:
        """Count the bytes of a body. Raise TimeoutError where it is too slow."""
        began, byte_size = asyncio.get_running_loop().time(), 0

        def count_part(count: int) -> None:
            nonlocal byte_size
            byte_size += count
            seconds = FIRST_SECONDS + byte_size / MIN_BYTES_PER_SECOND
            limit.reschedule(began + min(seconds, max_seconds))

        self._at_once[key] += 1
        self._at_once_of[owner] += 1
        body.on_part = count_part
        try:
            async with asyncio.timeout(FIRST_SECONDS) as limit:
                yield
        finally:
            body.on_part = None
            self._at_once[key] -= 1
            self._at_once_of[owner] -= 1
            self._at_once += Counter()  # drops the zeros
            self._at_once_of += Counter()

    async def _receive(self, request: Request, key: str, file: DeclaredFile) -> Response:
        if "authorization" in request.headers:
            raise _Refusal(
                400, "BAD_REQUEST", "Upload URLs are presigned: send no Authorization header."
            )
        if request.method == "PUT":
            _check_put_headers(request, file)
            parts = _read_limited(request, file.byte_size)
        else:
            parts = _read_form(request, key, file)
        if await self._store.put_new_parts(key, _check_parts(parts, file)):
            return Response(status_code=200 if request.method == "PUT" else 204)
        return _error(412, "PRECONDITION_FAILED", "A file has already been uploaded to this URL.")


async def _check_parts(parts: AsyncIterator[bytes], file: DeclaredFile) -> AsyncIterator[bytes]:
    """Yield the file as it arrives. Raise _Refusal at its end where it is not the declared one."""
    byte_size, digest = 0, sha256()
    async for part in parts:
        byte_size += len(part)
        digest.update(part)
        yield part
    _check_is_declared(file, byte_size, digest.digest())


def _check_is_declared(file: DeclaredFile, byte_size: int, digest: bytes) -> None:
    if byte_size != file.byte_size:
        raise _Refusal(400, "BAD_REQUEST", "The file does not have the declared size.")
    if file.sha256 not in (None, digest):
        raise _Refusal(400, "BAD_REQUEST", "The file does not have the declared SHA-256 digest.")


def _check_put_headers(request: Request, file: DeclaredFile) -> None:
    if request.headers.get("content-type") != file.content_type:
        raise _other_type()
    if request.headers.get("if-none-match") != "*":
        raise _Refusal(
            403, "FORBIDDEN", "Send the headers exactly as `createUploads` returned them."
        )
    if "content-length" not in request.headers:
        raise _Refusal(411, "LENGTH_REQUIRED", "A Content-Length header is required.")


async def _read_form(request: Request, key: str, file: DeclaredFile) -> AsyncIterator[bytes]:
    """Read the file of a form in parts. Refuse it before the first one if its fields are not those
    that were presigned.
    """
    is_checked = False
    try:
        form = UploadForm(request.headers.get("content-type", ""))
        async for part in _read_limited(request, file.byte_size + FORM_BYTES):
            for start in range(0, len(part), _PARSED_BYTES):
                data = form.feed(part[start : start + _PARSED_BYTES])
                if form.has_file and not is_checked:
                    _check_fields(form.fields, key, file)
                    is_checked = True
                if data:
                    yield data
                await asyncio.sleep(0)
    except InvalidForm as error:
        raise _not_a_form() from error
    if not form.is_complete:
        raise _not_a_form()
    if not form.has_file:
        raise _Refusal(400, "BAD_REQUEST", "The form has no file named `file`.")


def _check_fields(fields: Mapping[str, str], key: str, file: DeclaredFile) -> None:
    if fields.get("key") != key or fields.keys() - {"key", "Content-Type"}:
        message = "Send exactly the fields that `createUploads` returned, before the file."
        raise _Refusal(403, "FORBIDDEN", message)
    if fields.get("Content-Type") != file.content_type:
        raise _other_type()


async def _read_limited(request: Request, most: int) -> AsyncIterator[bytes]:
    """Read the body in parts, none of them empty. Refuse it as soon as it is longer than this."""
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


def _not_a_form() -> _Refusal:
    return _Refusal(400, "BAD_REQUEST", "The body is not a valid multipart form.")


def _too_long() -> _Refusal:
    return _Refusal(413, "PAYLOAD_TOO_LARGE", "The file is larger than declared.")


def _other_type() -> _Refusal:
    return _Refusal(403, "FORBIDDEN", "The file does not have the declared content type.")


def _too_many() -> _Refusal:
    return _busy("Too many uploads are in progress. Please try again.")


def _busy(message: str) -> _Refusal:
    return _Refusal(503, "STORAGE_UNAVAILABLE", message, headers=_RETRY_AFTER)


def _error(
    status: int, code: str, message: str, *, headers: Mapping[str, str] | None = None
) -> Response:
    always = {"Cache-Control": "no-store"}
    return error_response(status, code, message, headers=always | dict(headers or {}))
