"""What providers share that are reached over HTTP: connections, limits, and what silence means.

What must stay true: no more is read than was allowed for, however it is packed; nobody is sent
anywhere by a redirect; where no answer came, it is told apart whether the request can have been
read.
"""

import asyncio
import functools
import re
import ssl
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import aclosing, asynccontextmanager
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


def open_client(*, reuse: bool = True, read_seconds: float = READ_SECONDS) -> httpx2.AsyncClient:
    """A client for providers: no redirects, no cookies, nothing from the environment.

    Without `reuse` each request makes a connection of its own. That is for requests that cost
    something: a kept connection may have been closed at its other end, and what is written into it
    then is lost without anybody knowing whether it was read. So many seconds may pass without a
    byte of an answer.
    """
    return httpx2.AsyncClient(
        verify=_trusted(),
        trust_env=False,
        follow_redirects=False,
        timeout=httpx2.Timeout(
            connect=CONNECT_SECONDS, read=read_seconds, write=WRITE_SECONDS, pool=_POOL_SECONDS
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
    async with answering(
        client, method, url, within=within, headers=headers, content=content
    ) as response:
        return Answer(
            response.status_code,
            response.headers,
            await read_body(response, max_bytes=max_bytes),
        )


@asynccontextmanager
async def answering(
    client: httpx2.AsyncClient,
    method: str,
    url: str,
    *,
    within: float,
    headers: Mapping[str, str] | None = None,
    content: bytes = b"",
) -> AsyncIterator[httpx2.Response]:
    """Send a request; its answer's body is to be read in the block, within so many seconds in all.

    Raise `Unanswered`, also where the answer breaks off while it is read.
    """
    sent = dict(headers or {})
    body: bytes | AsyncIterator[bytes] = content
    if len(content) > _PIECE_BYTES:
        # In one piece it would be copied into the connection's buffer as a whole, and would have to
        # be on its way within one time limit for writing.
        sent["content-length"] = str(len(content))
        body = _pieces(content)
    try:
        async with (
            asyncio.timeout(within),
            client.stream(method, url, headers=sent, content=body) as response,
        ):
            yield response
    except _NEVER_SENT as error:
        raise NotSent(type(error).__name__) from error
    except httpx2.DecodingError as error:
        raise AnswerUnusable(type(error).__name__) from error
    except (httpx2.TransportError, TimeoutError) as error:
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


async def _pieces(content: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(content), _PIECE_BYTES):
        yield content[start : start + _PIECE_BYTES]


@functools.cache
def _trusted() -> ssl.SSLContext:
    # It takes a while to read all certificates, and the same ones serve everybody.
    return httpx2.create_ssl_context()
