"""The HTTP client that providers share, against sockets that misbehave."""

import asyncio
import gzip
import re
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import httpx2
import pytest

from outbound.retry_after import MAX_RETRY_AFTER_SECONDS, retry_after_seconds
from providers.http import (
    MAX_QUOTED_LENGTH,
    Answer,
    AnswerLate,
    AnswerLost,
    AnswerUnusable,
    Form,
    NotSent,
    Unanswered,
    ask,
    open_client,
    open_response,
    quote,
    read_pieces,
)
from tests.serving import free_port

Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

LIMIT = 100_000
OK = b"HTTP/1.1 200 OK\r\n"


@asynccontextmanager
async def listening(talk: Talk) -> AsyncIterator[str]:
    """A socket that answers every connection with the given bytes; yields the base URL."""

    talks: dict[asyncio.Task[None], asyncio.StreamWriter] = {}

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        talks[task] = writer
        # The other side may have had enough at any moment.
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            await talk(reader, writer)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    for writer in talks.values():
        writer.transport.abort()
    if talks:
        await asyncio.wait(talks, timeout=10)


def saying(answer: bytes) -> Talk:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        await writer.drain()

    return talk


def body(content: bytes, *headers: str) -> bytes:
    lines = [*headers, f"content-length: {len(content)}"]
    return OK + "\r\n".join(lines).encode() + b"\r\n\r\n" + content


async def asked(url: str, *, within: float = 10, content: bytes = b"") -> Answer:
    async with open_client() as client:
        return await ask(client, "POST", url, within=within, content=content, max_bytes=LIMIT)


async def silence(talk: Talk, *, within: float = 10) -> Unanswered:
    async with listening(talk) as url:
        with pytest.raises(Unanswered) as raised:
            await asked(url, within=within)
    return raised.value


async def test_a_response_of_any_status_is_returned() -> None:
    failed = b'HTTP/1.1 503 No\r\nretry-after: 7\r\ncontent-length: 8\r\n\r\n{"a": 1}'
    async with listening(saying(failed)) as url:
        answer = await asked(url)

    assert (answer.status, answer.fields(), answer.retry_after_seconds) == (503, {"a": 1}, 7)


@pytest.mark.parametrize("text", [b"", b"[]", b"<html>", b'"words"', b"\xff", b"[" * 5000])
async def test_a_response_that_is_no_object_has_no_fields(text: bytes) -> None:
    async with listening(saying(body(text))) as url:
        answer = await asked(url)

    assert answer.fields() is None


async def test_if_nobody_listens_nothing_was_sent() -> None:
    with pytest.raises(NotSent):
        await asked(f"http://127.0.0.1:{free_port()}")


async def test_if_tls_fails_nothing_was_sent() -> None:
    async def talk(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(body(b"plain"))

    async with listening(talk) as url:
        with pytest.raises(NotSent):
            await asked(url.replace("http:", "https:"))


async def test_if_a_name_does_not_resolve_nothing_was_sent() -> None:
    with pytest.raises(NotSent):
        await asked("http://nobody.invalid")


async def _close(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")


async def _reset(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.transport.abort()


async def _wait(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
    await reader.read()


@pytest.mark.parametrize(
    "talk",
    [
        pytest.param(_close, id="closed after the request"),
        pytest.param(_reset, id="reset"),
        pytest.param(saying(b"HTTP/1.1 2"), id="cut in the status"),
        pytest.param(saying(OK + b"content-le"), id="cut in the headers"),
        pytest.param(saying(OK + b"content-length: 9\r\n\r\n12345678"), id="cut in the body"),
        pytest.param(
            saying(OK + b"transfer-encoding: chunked\r\n\r\n4\r\n1234\r\n"), id="cut in the chunks"
        ),
        pytest.param(saying(b"what is HTTP?\r\n\r\n"), id="no HTTP"),
    ],
)
async def test_a_connection_cut_after_sending_has_a_lost_response(talk: Talk) -> None:
    assert isinstance(await silence(talk), AnswerLost)


class ResetOnceOpen(httpx2.AsyncBaseTransport):
    """Fails as anyio does if uvloop has lost the connection that was just opened. Only a busy
    machine loses one so soon.
    """

    async def handle_async_request(self, _: httpx2.Request) -> httpx2.Response:
        raise AttributeError("'NoneType' object has no attribute 'getpeername'")


async def test_a_connection_reset_as_soon_as_it_is_open_has_a_lost_response() -> None:
    async with httpx2.AsyncClient(transport=ResetOnceOpen()) as client:
        with pytest.raises(AnswerLost):
            await ask(client, "GET", "http://127.0.0.1/", within=10)
        with pytest.raises(AnswerLost):
            async with open_response(client, "POST", "http://127.0.0.1/", within=10):
                pass


async def test_a_response_that_is_not_in_time_is_lost() -> None:
    assert isinstance(await silence(_wait, within=0.2), AnswerLost)


async def test_a_response_sent_in_single_bytes_is_lost_at_the_time_limit() -> None:
    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(OK + b"content-length: 1000\r\n\r\n")
        while not writer.is_closing():
            writer.write(b".")
            await asyncio.sleep(0.01)

    assert isinstance(await silence(drip, within=0.3), AnswerLost)


async def _endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(OK + b"transfer-encoding: chunked\r\n\r\n")
    while True:
        writer.write(b"1000\r\n" + b"." * 4096 + b"\r\n")
        await writer.drain()


BOMB = gzip.compress(bytes(50_000_000))
NESTED = gzip.compress(gzip.compress(bytes(50_000_000)))


@pytest.mark.parametrize(
    "talk",
    [
        pytest.param(_endless, id="endless chunks"),
        pytest.param(saying(body(bytes(LIMIT + 1))), id="one byte too many"),
        pytest.param(saying(OK + b"content-length: 99999999999\r\n\r\n"), id="announced"),
        pytest.param(saying(body(BOMB, "content-encoding: gzip")), id="gzip bomb"),
        pytest.param(saying(body(NESTED, "content-encoding: gzip, gzip")), id="bomb in a bomb"),
        pytest.param(saying(body(b"no gzip", "content-encoding: gzip")), id="not packed as said"),
    ],
)
async def test_a_response_that_is_too_large_is_cut_at_the_limit(talk: Talk) -> None:
    assert isinstance(await silence(talk), AnswerUnusable)


@pytest.mark.parametrize(
    ("content", "header"),
    [
        (bytes(LIMIT), "x-a: b"),
        (zlib.compress(bytes(LIMIT)), "content-encoding: deflate"),
        (gzip.compress(bytes(LIMIT)), "content-encoding: gzip"),
    ],
)
async def test_a_response_exactly_at_the_limit_is_read(content: bytes, header: str) -> None:
    async with listening(saying(body(content, header))) as url:
        answer = await asked(url)

    assert answer.body == bytes(LIMIT)


async def test_a_large_request_arrives_complete_with_its_length() -> None:
    received: list[bytes] = []
    content = bytes(range(256)) * 8000

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        received.append(await reader.readuntil(b"\r\n\r\n"))
        received.append(await reader.readexactly(len(content)))
        writer.write(body(b"{}"))

    async with listening(talk) as url:
        await asked(url, content=content)

    assert received[1] == content
    assert f"content-length: {len(content)}".encode() in received[0].lower()
    assert b"transfer-encoding" not in received[0].lower()


async def test_redirects_are_not_followed_and_cookies_are_not_kept() -> None:
    heads: list[bytes] = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(
            b"HTTP/1.1 302 Found\r\nlocation: /elsewhere\r\nset-cookie: a=b\r\n"
            b"connection: close\r\ncontent-length: 0\r\n\r\n"
        )

    async with listening(talk) as url, open_client() as client:
        answers = [await ask(client, "GET", url, within=10) for _ in range(2)]

    assert [answer.status for answer in answers] == [302, 302]
    assert len(heads) == 2
    assert b"cookie" not in heads[1].lower()


async def test_a_submission_has_its_own_connection() -> None:
    connections = 0

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        while await reader.readuntil(b"\r\n\r\n"):
            writer.write(body(b"{}"))

    async with listening(talk) as url:
        for reuse in (True, False):
            async with open_client(reuse=reuse) as client:
                for _ in range(3):
                    await ask(client, "GET", url, within=10)

    assert connections == 1 + 3


NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)


def on(date: datetime) -> str:
    return format_datetime(date, usegmt=True)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0),
        ("7", 7),
        (" 1.5 ", 1.5),
        ("999999", MAX_RETRY_AFTER_SECONDS),
        ("-3", None),
        ("", None),
        ("soon", None),
        ("1e9", None),
        ("inf", None),
        ("nan", None),
        ("９", None),
        ("9" * 5000, None),
        (on(NOW + timedelta(seconds=90)), 90),
        (on(NOW - timedelta(seconds=90)), 0),
        (on(NOW + timedelta(days=900)), MAX_RETRY_AFTER_SECONDS),
        ("Fri, 99 Nov 2026 12:00:00 GMT", None),
    ],
)
def test_retry_after_is_parsed(text: str, seconds: float | None) -> None:
    assert retry_after_seconds({"retry-after": text, "date": on(NOW)}) == seconds


def test_a_retry_date_without_a_date_header_is_counted_from_now() -> None:
    seconds = retry_after_seconds({"retry-after": on(datetime.now(UTC) + timedelta(seconds=60))})

    assert seconds == pytest.approx(60, abs=5)


def test_without_a_retry_header_there_is_no_hint() -> None:
    assert retry_after_seconds({}) is None


PROMPT = "A Portrait of my neighbour,\nMr. Canary, by the sea"


@pytest.mark.parametrize(
    "words",
    [
        f"flagged: {PROMPT}",
        f"flagged: {PROMPT.upper()}",
        "flagged: 'neighbour, Mr. Canary, b'…",
        f"{PROMPT} {PROMPT}",
        "k-canary-secret refused",
    ],
)
def test_our_own_data_in_a_providers_message_is_redacted(words: str) -> None:
    line = quote(words, leave_out=("k-canary-secret", PROMPT))

    assert "canary" not in line.lower()
    assert "\n" not in line


def test_a_providers_own_message_is_kept_and_shortened() -> None:
    assert quote("image_too_small: at least 64", leave_out=("", " ", PROMPT)) == (
        "image_too_small: at least 64"
    )
    assert len(quote("x" * 10_000)) == MAX_QUOTED_LENGTH + 1


async def test_a_response_is_returned_as_soon_as_its_head_has_arrived() -> None:
    go_on = asyncio.Event()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(OK + b"content-length: 10\r\n\r\n12345")
        await go_on.wait()
        writer.write(b"67890")
        await writer.drain()

    async with (
        listening(talk) as url,
        open_client() as client,
        open_response(client, "GET", url, within=10) as response,
    ):
        pieces = read_pieces(response, within=10, max_bytes=LIMIT)
        first = await anext(pieces)
        go_on.set()
        rest = [piece async for piece in pieces]

    assert (response.status_code, first, rest) == (200, b"12345", [b"67890"])


async def test_a_form_is_sent_with_its_length_and_in_order() -> None:
    large = b"x" * 300_000
    form = Form(
        fields={"prompt": 'A "boat"\r\n--', "n": "2"},
        files=[("image[]", "1.png", large, "image/png"), ("image[]", "2.webp", b"y", "image/webp")],
    )
    head = body_sent = b""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal head, body_sent
        head = await reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"content-length: (\d+)\r\n", head.lower())
        assert length is not None
        body_sent = await reader.readexactly(int(length[1]))
        writer.write(body(b"ok"))
        await writer.drain()

    async with (
        listening(talk) as url,
        open_client() as client,
        open_response(client, "POST", url, within=10, content=form) as response,
    ):
        assert response.status_code == 200

    boundary = re.search(rb"multipart/form-data; boundary=(\w+)\r\n", head)
    assert boundary is not None
    assert b"transfer-encoding" not in head.lower()
    first, *parts, last = body_sent.split(b"--" + boundary[1])
    assert (first, last) == (b"", b"--\r\n")
    assert parts == [
        b'\r\nContent-Disposition: form-data; name="prompt"\r\n\r\nA "boat"\r\n--\r\n',
        b'\r\nContent-Disposition: form-data; name="n"\r\n\r\n2\r\n',
        b'\r\nContent-Disposition: form-data; name="image[]"; filename="1.png"\r\n'
        b"Content-Type: image/png\r\n\r\n" + large + b"\r\n",
        b'\r\nContent-Disposition: form-data; name="image[]"; filename="2.webp"\r\n'
        b"Content-Type: image/webp\r\n\r\ny\r\n",
    ]


@pytest.mark.parametrize(
    ("answer", "within", "pause", "kind"),
    [
        pytest.param(b"content-length: 9\r\n\r\n12345", 10, None, AnswerLost, id="cut off"),
        pytest.param(b"content-length: 9\r\n\r\n12345", 10, 0.1, AnswerLate, id="silent"),
        pytest.param(b"content-length: 9\r\n\r\n12345", 0.1, 10, AnswerLate, id="late"),
        pytest.param(b"content-encoding: gzip\r\n\r\nno", 10, None, AnswerUnusable, id="no gzip"),
        pytest.param(b"\r\n" + b"x" * (LIMIT + 1), 10, None, AnswerUnusable, id="too large"),
    ],
)
async def test_missing_chunks_are_reported(
    answer: bytes, within: float, pause: float | None, kind: type[Unanswered]
) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await saying(OK + answer)(reader, writer)
        if kind is AnswerLate:
            await reader.read()

    async with (
        listening(talk) as url,
        open_client() as client,
        open_response(client, "GET", url, within=10) as response,
    ):
        clock = asyncio.get_running_loop().time
        started = clock()
        with pytest.raises(Unanswered) as raised:
            async for _ in read_pieces(response, within=within, pause=pause, max_bytes=LIMIT):
                pass

        assert type(raised.value) is kind
        assert clock() - started < 8


async def test_the_processing_of_a_chunk_is_never_interrupted() -> None:
    async with (
        listening(saying(body(b"12345"))) as url,
        open_client() as client,
        open_response(client, "GET", url, within=10) as response,
    ):
        pieces = read_pieces(response, within=10, pause=0.2, max_bytes=LIMIT)
        first = await anext(pieces)
        await asyncio.sleep(0.4)
        rest = [piece async for piece in pieces]

    assert (first, rest) == (b"12345", [])
