"""What providers share that are reached over HTTP: connections, limits, and what silence means.

What must stay true: no more is read than was allowed for, however it is packed; nobody is sent
anywhere by a redirect; where no answer came, it is told apart whether the request can have been
read.
"""

import asyncio
import functools
import re
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Iterator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http.cookiejar import CookieJar, DefaultCookiePolicy
from io import BytesIO
from typing import Final

import httpx2
import orjson

CONNECT_SECONDS: Final = 5.0
READ_SECONDS: Final = 60.0
WRITE_SECONDS: Final = 60.0
MAX_CONNECTIONS: Final = 100
MAX_BYTES: Final = 64 * 2**20
"""Of a body or a picture, counted when unpacked."""
MAX_RETRY_AFTER_SECONDS: Final = 600.0
MAX_QUOTED_LENGTH: Final = 300

_POOL_SECONDS: Final = 5.0
_KEPT_CONNECTIONS: Final = 20
_KEPT_SECONDS: Final = 15.0
_PIECE_BYTES: Final = 2**18
_ECHO_LENGTH: Final = 12
"""So many characters in a row are no coincidence."""
_BLOT: Final = "[…]"
_SECONDS: Final = re.compile(r"[0-9]{1,9}(?:\.[0-9]{1,9})?")
_UNPRINTABLE: Final = re.compile(r"[\x00-\x1f\x7f]+")
_NEVER_SENT: Final = (
    httpx2.ConnectError,
    httpx2.ConnectTimeout,
    httpx2.PoolTimeout,
    httpx2.ProxyError,
    httpx2.UnsupportedProtocol,
)


class Unanswered(Exception):
    """There is no answer. The message names what happened, and quotes nobody."""


class NotSent(Unanswered):
    """No connection could be made: surely nobody has read the request."""


class AnswerLost(Unanswered):
    """The request may have been read and obeyed; its answer did not come, or not to its end."""


class AnswerLate(AnswerLost):
    """It did not come, or not to its end, as long as was waited for it."""


class AnswerUnusable(Unanswered):
    """An answer came, but it is too large, or is not packed as it says."""


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer that was read to its end."""

    status: int
    headers: httpx2.Headers
    body: bytes

    def fields(self) -> Mapping[str, object] | None:
        """The body's fields; None where it is no JSON object."""
        try:
            value = orjson.loads(self.body)
        except orjson.JSONDecodeError:
            return None
        return value if isinstance(value, dict) else None

    @property
    def retry_after_seconds(self) -> float | None:
        return retry_after_seconds(self.headers)


def open_client(
    *, reuse: bool = True, read_seconds: float = READ_SECONDS, write_seconds: float = WRITE_SECONDS
) -> httpx2.AsyncClient:
    """A client for providers: no redirects, no cookies, nothing from the environment.

    Without `reuse` each request makes a connection of its own. That is for requests that cost
    something: a kept connection may have been closed at its other end, and what is written into it
    then is lost without anybody knowing whether it was read.
    """
    return httpx2.AsyncClient(
        verify=_trusted(),
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
    """Send a request and read the whole answer within so many seconds, or raise `Unanswered`.

    Whatever the answer's status is, it is an answer.
    """
    request = _built(client, method, url, headers or {}, [content] if content else [])
    with _silence_told():
        async with asyncio.timeout(within):
            response = await client.send(request, stream=True)
            try:
                body = await read_body(response, max_bytes=max_bytes)
            finally:
                await response.aclose()
    return Answer(response.status_code, response.headers, body)


@asynccontextmanager
async def opened(
    client: httpx2.AsyncClient,
    method: str,
    url: str,
    *,
    within: float,
    headers: Mapping[str, str] | None = None,
    content: Sequence[bytes] = (),
) -> AsyncIterator[httpx2.Response]:
    """Send a request, and have its answer as soon as its head is there, within so many seconds.

    Raise `Unanswered` where none comes. `content` is sent one part after the other, and never put
    together.
    """
    request = _built(client, method, url, headers or {}, content)
    with _silence_told():
        async with asyncio.timeout(within):
            response = await client.send(request, stream=True)
    try:
        yield response
    finally:
        await response.aclose()


async def pieces_of(
    response: httpx2.Response, *, within: float, pause: float | None = None, max_bytes: int
) -> AsyncGenerator[bytes, None]:
    """The unpacked body of a response, as it comes, within so many seconds, or raise `Unanswered`.

    Nor may it be silent for longer than `pause`. Whatever the caller does with a piece counts for
    `within` only, and is never cut short.
    """
    clock = asyncio.get_running_loop().time
    until, count = clock() + within, 0
    async with aclosing(response.aiter_bytes()) as pieces:
        while True:
            with _silence_told():
                async with asyncio.timeout_at(min(until, clock() + (pause or within))):
                    piece = await anext(pieces, None)
            if piece is None:
                return
            count += len(piece)
            if count > max_bytes:
                raise AnswerUnusable(f"more than {max_bytes} bytes")
            yield piece
            # What comes fast comes without any waiting in between.
            await asyncio.sleep(0)


def _built(
    client: httpx2.AsyncClient,
    method: str,
    url: str,
    headers: Mapping[str, str],
    parts: Sequence[bytes],
) -> httpx2.Request:
    length = sum(map(len, parts))
    if len(parts) <= 1 and length <= _PIECE_BYTES:
        return client.build_request(method, url, headers=headers, content=b"".join(parts))
    # In one piece it would be copied into the connection's buffer as a whole, and would have to be
    # on its way within one time limit for writing.
    sized = {**headers, "content-length": str(length)}
    return client.build_request(method, url, headers=sized, content=_pieces(parts))


@contextmanager
def _silence_told() -> Iterator[None]:
    """Say in our words what has happened to an answer that did not come."""
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
    """The unpacked body of a response that is being streamed.

    Raise `AnswerUnusable` as soon as it is too large, without having read much more than allowed.
    """
    declared = response.headers.get("content-length", "")
    if declared.isdecimal() and int(declared[:20]) > max_bytes:
        raise AnswerUnusable(f"more than {max_bytes} bytes announced")
    # A BytesIO gives its bytes away without a copy, which a bytearray does not. It is closed, so
    # that an error's traceback holds on to nothing.
    with BytesIO() as body:
        async with aclosing(response.aiter_bytes()) as pieces:
            async for piece in pieces:
                if body.tell() + len(piece) > max_bytes:
                    raise AnswerUnusable(f"more than {max_bytes} bytes")
                body.write(piece)
                # A bomb is unpacked piece by piece without any waiting in between.
                await asyncio.sleep(0)
        return body.getvalue()


def retry_after_seconds(headers: Mapping[str, str]) -> float | None:
    """What `Retry-After` asks for, in seconds or as a date, up to a limit; None if nothing."""
    text = headers.get("retry-after", "").strip()
    if _SECONDS.fullmatch(text):
        return min(float(text), MAX_RETRY_AFTER_SECONDS)
    until = _instant(text)
    if until is None:
        return None
    # Counted by the clock that wrote it: ours may differ by minutes.
    now = _instant(headers.get("date", "")) or datetime.now(UTC)
    return min(max(0.0, (until - now).total_seconds()), MAX_RETRY_AFTER_SECONDS)


def quoted(words: str, *, leave_out: Iterable[str] = ()) -> str:
    """A provider's words, for the log: cut, on one line, without what they repeat of ours.

    Any longer part of what is to be left out is taken out as well: providers quote prompts in part.
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
        kept += _BLOT
        index = end
    return kept


def _instant(text: str) -> datetime | None:
    try:
        instant = parsedate_to_datetime(text)
    except ValueError:
        return None
    return instant if instant.tzinfo is not None else instant.replace(tzinfo=UTC)


async def _pieces(parts: Sequence[bytes]) -> AsyncIterator[bytes]:
    for part in parts:
        for start in range(0, len(part), _PIECE_BYTES):
            yield part[start : start + _PIECE_BYTES]


@functools.cache
def _trusted() -> ssl.SSLContext:
    # It takes a while to read all certificates, and the same ones serve everybody.
    return httpx2.create_ssl_context()
