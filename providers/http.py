"""HTTP calls, for all remote providers: connections, limits, and calls without a response.

What must stay true: no more is read than the limit, however it is compressed; no redirect is
followed; where no response came, the error says whether the request can have been read.
"""

import asyncio
import re
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Callable,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from contextlib import AbstractContextManager, aclosing, asynccontextmanager, contextmanager
from dataclasses import dataclass
from http.cookiejar import CookieJar, DefaultCookiePolicy
from io import BytesIO
from math import inf
from typing import Final

import httpx2

from domain.traces import Span, span
from outbound.guarded import trusted_authorities
from outbound.requests import send_request
from outbound.retry_after import retry_after_seconds
from providers.lenient import parse_object
from providers.unpacking import unpack_body

CONNECT_SECONDS: Final = 5.0
READ_SECONDS: Final = 60.0
WRITE_SECONDS: Final = 60.0
MAX_CONNECTIONS: Final = 100
MAX_BYTES: Final = 64 * 2**20
"""The size of a body or an image, after decompression."""
MAX_QUOTED_LENGTH: Final = 300

_POOL_SECONDS: Final = 5.0
_KEPT_CONNECTIONS: Final = 20
_KEPT_SECONDS: Final = 15.0
_PIECE_BYTES: Final = 2**18
_ECHO_LENGTH: Final = 12
"""This many equal characters in a row are not a coincidence."""
_REDACTED: Final = "[…]"
_UNPRINTABLE: Final = re.compile(r"[\x00-\x1f\x7f]+")
_NEVER_SENT: Final = (
    httpx2.ConnectError,
    httpx2.ConnectTimeout,
    httpx2.PoolTimeout,
    httpx2.ProxyError,
    httpx2.UnsupportedProtocol,
)


class Unanswered(Exception):
    """There is no response. The message names what happened, and quotes nothing."""


class NotSent(Unanswered):
    """No connection was made: the request has certainly not been read."""


class AnswerLost(Unanswered):
    """The request may have been read and carried out; the response did not come, or not
    completely.
    """


class AnswerLate(AnswerLost):
    """The response did not come, or not completely, within the limit."""


class AnswerUnusable(Unanswered):
    """A response came, but it is too large, or not encoded as it says."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A response that was read completely."""

    status: int
    headers: httpx2.Headers
    body: bytes

    def fields(self) -> Mapping[str, object] | None:
        """The body's fields; None where it is not a JSON object."""
        return parse_object(self.body)

    @property
    def retry_after_seconds(self) -> float | None:
        return retry_after_seconds(self.headers)


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """A form with files, sent as `multipart/form-data`: the fields first, all in their order."""

    fields: Mapping[str, str]
    files: Sequence[tuple[str, str, bytes, str]]
    """The field's name, the file's name, its bytes, their content type."""


def open_client(
    *, reuse: bool = True, read_seconds: float = READ_SECONDS, write_seconds: float = WRITE_SECONDS
) -> httpx2.AsyncClient:
    """Open a client for providers: no redirects, no cookies, nothing from the environment.

    Without `reuse` each request gets a connection of its own. That is for requests that may be
    billed: a kept connection may have been closed at its other end, and then it is unknown whether
    a request that is written into it was read.
    """
    return httpx2.AsyncClient(
        verify=trusted_authorities(),
        trust_env=False,
        follow_redirects=False,
        timeout=httpx2.Timeout(
            connect=CONNECT_SECONDS, read=read_seconds, write=write_seconds, pool=_POOL_SECONDS
        ),
        limits=httpx2.Limits(
            max_connections=MAX_CONNECTIONS,
            max_keepalive_connections=_KEPT_CONNECTIONS if reuse else 0,
            keepalive_expiry=_KEPT_SECONDS,
        ),
        headers={"user-agent": "darkroom", "accept-encoding": "identity"},
        cookies=CookieJar(DefaultCookiePolicy(allowed_domains=())),
    )


async def ask(
    client: httpx2.AsyncClient,
    method: str,
    url: str,
    *,
    within: float,
    headers: Mapping[str, str] | None = None,
    content: bytes = b"",
    max_bytes: int = MAX_BYTES,
) -> Answer:
    """Send a request and read the whole response within this many seconds, or raise `Unanswered`.

    A response with any status counts as an answer.
    """
    request = _build_request(client, method, url=url, headers=headers or {}, content=content)
    with _translate_errors(), _traced(request) as call:
        async with asyncio.timeout(within):
            response = await send_request(client, request)
            call.add({"http.response.status_code": response.status_code})
            try:
                body = await read_body(response, max_bytes=max_bytes)
            finally:
                await response.aclose()
    return Answer(response.status_code, response.headers, body)


@asynccontextmanager
async def open_response(
    client: httpx2.AsyncClient,
    method: str,
    url: str,
    *,
    within: float,
    headers: Mapping[str, str] | None = None,
    content: bytes | Form = b"",
) -> AsyncIterator[httpx2.Response]:
    """Send a request, and open its response once its head has arrived, within this many seconds.
    Raise `Unanswered` where none comes.
    """
    request = _build_request(client, method, url=url, headers=headers or {}, content=content)
    with _translate_errors(), _traced(request) as call:
        async with asyncio.timeout(within):
            response = await send_request(client, request)
        call.add({"http.response.status_code": response.status_code})
    try:
        yield response
    finally:
        await response.aclose()


async def read_pieces(
    response: httpx2.Response,
    *,
    within: float,
    pause: float | Callable[[], float] | None = None,
    max_bytes: int,
) -> AsyncGenerator[bytes, None]:
    """Read the decoded body of a response as it arrives, within this many seconds, or raise
    `Unanswered`.

    Nor may it be silent for longer than `pause` seconds, which may depend on what has arrived. The
    caller's work on a piece counts for `within` only, and is never interrupted.
    """
    clock = asyncio.get_running_loop().time
    until, count = clock() + within, 0
    async with aclosing(unpack_body(response)) as pieces:
        while True:
            with _translate_errors():
                longest = pause() if callable(pause) else pause or inf
                async with asyncio.timeout_at(min(until, clock() + longest)):
                    piece = await anext(pieces, None)
            if piece is None:
                return
            count += len(piece)
            if count > max_bytes:
                raise AnswerUnusable(f"more than {max_bytes} bytes")
            yield piece
            # Otherwise a fast body would never let other tasks run.
            await asyncio.sleep(0)


def _traced(request: httpx2.Request) -> AbstractContextManager[Span]:
    """Only the host of the URL: a path may name a job, and a query a key."""
    facts = {"http.request.method": request.method, "server.address": request.url.host}
    return span("provider call", facts, outwards=True)


def _build_request(
    client: httpx2.AsyncClient,
    method: str,
    *,
    url: str,
    headers: Mapping[str, str],
    content: bytes | Form,
) -> httpx2.Request:
    if isinstance(content, Form):
        # Files are sent in pieces too, as streams.
        files = [(name, (file, BytesIO(data), kind)) for name, file, data, kind in content.files]
        return client.build_request(
            method, url, headers=headers, data=dict(content.fields), files=files
        )
    if len(content) <= _PIECE_BYTES:
        return client.build_request(method, url, headers=headers, content=content)
    # In one piece it would be copied into the connection's buffer as a whole, and would have to be
    # sent within one time limit for writing.
    sized = {**headers, "content-length": str(len(content))}
    return client.build_request(method, url, headers=sized, content=_pieces(content))


@contextmanager
def _translate_errors() -> Iterator[None]:
    """Translate the client's errors into `Unanswered`."""
    try:
        yield
    except _NEVER_SENT as error:
        raise NotSent(type(error).__name__) from error
    except httpx2.DecodingError as error:
        raise AnswerUnusable(type(error).__name__) from error
    except (httpx2.TimeoutException, TimeoutError) as error:
        raise AnswerLate(type(error).__name__) from error
    except httpx2.TransportError as error:
        raise AnswerLost(type(error).__name__) from error


async def read_body(response: httpx2.Response, *, max_bytes: int = MAX_BYTES) -> bytes:
    """Read the decoded body of a response that is being streamed.

    Raise `AnswerUnusable` as soon as it is too large, without having read much more than allowed.
    """
    declared = response.headers.get("content-length", "")
    if declared.isdecimal() and int(declared[:20]) > max_bytes:
        raise AnswerUnusable(f"more than {max_bytes} bytes announced")
    # A BytesIO hands over its bytes without a copy, which a bytearray does not. It is closed, so
    # that an error's traceback keeps nothing alive.
    with BytesIO() as body:
        async with aclosing(unpack_body(response)) as pieces:
            async for piece in pieces:
                if body.tell() + len(piece) > max_bytes:
                    raise AnswerUnusable(f"more than {max_bytes} bytes")
                body.write(piece)
                # Otherwise a decompression bomb would never let other tasks run.
                await asyncio.sleep(0)
        return body.getvalue()


def quote(words: str, *, leave_out: Iterable[str] = ()) -> str:
    """Quote a provider for the log: truncated, on one line, with secrets and prompts redacted.

    Longer parts of a prompt are redacted as well, since providers quote prompts in part.
    """
    line = _UNPRINTABLE.sub(" ", words[: 4 * MAX_QUOTED_LENGTH])
    for secret in leave_out:
        line = _without_echo(line, _UNPRINTABLE.sub(" ", secret))
    return line if len(line) <= MAX_QUOTED_LENGTH else f"{line[:MAX_QUOTED_LENGTH]}…"


def _without_echo(line: str, secret: str) -> str:
    secret = secret.strip().lower()
    length = min(_ECHO_LENGTH, len(secret))
    if not length:
        return line
    kept, index = "", 0
    while index < len(line):
        end = index + length
        if end > len(line) or line[index:end].lower() not in secret:
            kept += line[index]
            index += 1
            continue
        while end < len(line) and line[index : end + 1].lower() in secret:
            end += 1
        kept += _REDACTED
        index = end
    return kept


async def _pieces(content: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(content), _PIECE_BYTES):
        yield content[start : start + _PIECE_BYTES]
