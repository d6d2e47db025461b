"""What a client without a token can do to a connection before a request or a message."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

import pytest

from tests.edge.hostile import (
    MAX_WAIT_SECONDS,
    Connection,
    an_api,
    connection_to,
    memory_of,
    others_are_served,
    status_of,
)
from tests.resilience.processes import Api
from tests.resilience.scale import load_factor

MEGABYTE: Final = 1024 * 1024
GET: Final = b"GET /healthz HTTP/1.1\r\nHost: x\r\n"
UPGRADE: Final = (
    b"GET /graphql HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    b"Sec-WebSocket-Protocol: graphql-transport-ws\r\n"
)
OPERATION: Final = b'{"query":"{ __typename }"}'
CONNECTIONS: Final = 20
HEADS: Final = {
    "a long value": (GET + b"X: %b\r\n\r\n" % (b"x" * MEGABYTE), 431),
    "a long name": (GET + b"%b: x\r\n\r\n" % (b"X" * MEGABYTE), 431),
    "a value that never ends": (GET + b"X: " + b"x" * 8 * MEGABYTE, 431),
    "a name that never ends": (GET + b"X" * 8 * MEGABYTE, 431),
    "a value in many lines": (GET + b"X: x" + b"\r\n x" * MEGABYTE, 400),
    "many headers": (GET + b"X: x\r\n" * 200_000 + b"\r\n", 431),
    "many empty headers": (GET + b"X:\r\n" * 1_000 + b"\r\n", 431),
    "a long URL": (b"GET /%b HTTP/1.1\r\nHost: x\r\n\r\n" % (b"x" * 9_000), 414),
    "a URL that never ends": (b"GET /" + b"x" * 8 * MEGABYTE, 414),
    "a method that is none": (b"X" * 8 * MEGABYTE, 400),
    "a URL that is not ASCII": (b"GET /graphql\xff HTTP/1.1\r\nHost: x\r\n\r\n", 400),
    "no host": (b"GET /healthz HTTP/1.1\r\n\r\n", 400),
    "two hosts": (GET + b"Host: y\r\n\r\n", 400),
    "a URL of another host": (b"GET http://y/healthz HTTP/1.1\r\nHost: x\r\n\r\n", 400),
    "chunks in HTTP/1.0": (
        b"POST /graphql HTTP/1.0\r\nContent-Type: application/json\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        400,
    ),
    "two tokens": (GET + b"Authorization: Bearer x\r\nauthorization: Bearer y\r\n\r\n", 400),
    "a length and chunks": (GET + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
    "two lengths": (GET + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello", 400),
    "a length with a sign": (GET + b"Content-Length: +5\r\n\r\nhello", 400),
    "lines without a carriage return": (GET.replace(b"\r", b"") + b"\n", 400),
    "a header without a colon": (GET + b"X\r\n\r\n", 400),
    "a header with NUL": (GET + b"X: \0\r\n\r\n", 400),
    "HTTP/2 without a negotiation": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
    "TLS": (b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03" + bytes(500), 400),
    # To a path that waits for its body: others have been answered before it is refused.
    "an extension of a chunk that never ends": (
        b"POST /graphql HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n5;" + b"x" * 8 * MEGABYTE,
        431,
    ),
    "a WebSocket with a long list": (
        UPGRADE.replace(b"-ws", b"-ws" + b",x" * 10_000) + b"\r\n",
        431,
    ),
    "a WebSocket with a long value": (UPGRADE + b"X: %b\r\n\r\n" % (b"x" * MEGABYTE), 431),
    "a WebSocket with many headers": (UPGRADE + b"X: x\r\n" * 1_000 + b"\r\n", 431),
    "a WebSocket with a long URL": (
        UPGRADE.replace(b"/graphql", b"/graphql?" + b"x" * 8_190) + b"\r\n",
        414,
    ),
    "a WebSocket with a URL that is not ASCII": (
        UPGRADE.replace(b"/graphql", b"/graphql?\xff") + b"\r\n",
        400,
    ),
    "a WebSocket by POST": (UPGRADE.replace(b"GET", b"POST") + b"\r\n", 400),
    "a WebSocket in HTTP/1.0": (UPGRADE.replace(b"HTTP/1.1", b"HTTP/1.0") + b"\r\n", 400),
    "a WebSocket with a body": (UPGRADE + b"Content-Length: 5\r\n\r\nhello", 400),
    "a WebSocket with chunks": (UPGRADE + b"Transfer-Encoding: chunked\r\n\r\n", 400),
    "a WebSocket without a key": (UPGRADE.replace(b"-Key", b"-Kye") + b"\r\n", 400),
    "a WebSocket with two keys": (UPGRADE + b"Sec-WebSocket-Key: x\r\n\r\n", 400),
    "a WebSocket of two origins": (
        UPGRADE + b"Origin: http://localhost\r\nOrigin: http://evil.example\r\n\r\n",
        400,
    ),
    "a WebSocket at another path": (UPGRADE.replace(b"/graphql", b"/healthz") + b"\r\n", 404),
    "a WebSocket of another version": (UPGRADE.replace(b"13", b"12") + b"\r\n", 400),
    "a body that is not in chunks": (
        b"POST /graphql HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        b"Transfer-Encoding: chunked\r\n\r\nhello",
        400,
    ),
    "a body in chunks of one byte": (
        b"POST /graphql HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n" + b"1\r\n \r\n" * 200_000 + b"0\r\n\r\n",
        400,
    ),
    "a body in a coding that is not spoken": (
        GET + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        400,
    ),
    "what follows the chunks never ends": (
        b"POST /graphql HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\n0\r\n" + b"X: x\r\n" * MEGABYTE,
        431,
    ),
}
NEVER_COMPLETE: Final = {
    "nothing": b"",
    "half a method": b"GE",
    "half a head": GET,
    "half a name": GET + b"X",
    "half a head of a WebSocket": UPGRADE,
    "half a head behind an answered request": GET + b"\r\n" + GET,
    "nothing behind an answered request": GET + b"\r\n",
    "a body that never comes, behind an answered request": GET + b"Content-Length: 9\r\n\r\n",
    "chunks that never come, behind an answered request": GET
    + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhe",
    "a body of an operation": b"POST /graphql HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n"
    b"Content-Type: application/json\r\n\r\n{",
}
DRIPS: Final = {
    "empty lines": (b"", b"\r\n"),
    "a head, letter by letter": (GET, b"X"),
    "a head, line by line": (GET, b"X: x\r\n"),
    "a body behind an answered request": (GET + b"Content-Length: 9999\r\n\r\n", b"x"),
    "a body of an operation": (
        b"POST /graphql HTTP/1.1\r\nHost: x\r\nContent-Length: 9999\r\n"
        b"Content-Type: application/json\r\n\r\n{",
        b" ",
    ),
}


@pytest.fixture(scope="module")
async def api(mongodb_uri: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Api]:
    async with an_api(mongodb_uri, tmp_path_factory.mktemp("api")) as api:
        yield api


@pytest.mark.parametrize(("head", "status"), HEADS.values(), ids=HEADS)
async def test_a_request_head_beyond_the_limits_is_refused(
    api: Api, head: bytes, status: int
) -> None:
    before = memory_of(api)

    async def send() -> bytes:
        async with connection_to(api) as connection:
            sending = asyncio.create_task(connection.send(head))
            answer = await connection.read_to_the_end()
            await sending
            return answer

    async with others_are_served(api):
        answers = await asyncio.gather(*(send() for _ in range(CONNECTIONS)))

    assert {status_of(answer) for answer in answers} == {status}
    code = b'"code":"HEADERS_TOO_LARGE"' if status == 431 else b'"code":"'
    assert all(code in answer for answer in answers)
    assert "ASGI" not in api.text_of_log()
    assert memory_of(api) - before < CONNECTIONS * 2 * MEGABYTE


async def test_a_request_that_is_never_complete_is_dropped(api: Api) -> None:
    async def wait_for_end(data: bytes) -> bytes:
        async with connection_to(api) as connection:
            await connection.send(data)
            return await connection.read_to_the_end()

    for data in NEVER_COMPLETE.values():  # Their time ends before that of the others.
        async with connection_to(api) as connection:
            await connection.send(data)
            connection.reset()
    async with others_are_served(api):
        answers = await asyncio.gather(*map(wait_for_end, NEVER_COMPLETE.values()))

    assert "Traceback" not in api.text_of_log()
    answer_to = dict(zip(NEVER_COMPLETE, answers, strict=True))
    assert answer_to["nothing"] == b""
    assert status_of(answer_to["half a head"]) == 408
    assert b"REQUEST_TIMEOUT" in answer_to["half a head"]
    assert status_of(answer_to["half a head behind an answered request"]) == 200
    assert status_of(answer_to["a body of an operation"]) == 408


async def test_a_request_sent_in_single_bytes_is_dropped(api: Api) -> None:
    async def wait_for_end(first: bytes, drop: bytes) -> None:
        async with connection_to(api) as connection:
            await connection.send(first)
            dripping = asyncio.create_task(connection.drip(drop, every=0.2))
            try:
                await connection.read_to_the_end()
            finally:
                dripping.cancel()

    async with others_are_served(api):
        await asyncio.gather(*(wait_for_end(*row) for row in DRIPS.values()))


async def test_a_request_head_can_be_as_large_as_the_limits_allow(api: Api) -> None:
    headers = b"X: %b\r\n" % (b"x" * 31_000) + b"Y: y\r\n" * 90
    url = b"/healthz?" + b"x" * 8_000
    async with connection_to(api) as connection:
        await connection.send(GET.replace(b"/healthz", url) + headers + b"\r\n")
        assert status_of(await connection.read_until(b"}")) == 200


@pytest.mark.parametrize(("size", "count"), [(1, 900), (64, 2_000), (4096, 50)])
async def test_a_body_can_be_chunked(api: Api, size: int, count: int) -> None:
    body = OPERATION + b" " * size * count
    parts = [body[start : start + size] for start in range(0, len(body), size)]
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts)
    async with connection_to(api) as connection:
        await connection.send(
            b"POST /graphql HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n%b0\r\n\r\n" % chunks
        )
        assert status_of(await connection.read_until(b'"Query"}}')) == 200


async def test_a_client_that_sends_expect_can_send_its_body(api: Api) -> None:
    async with connection_to(api) as connection:
        await connection.send(
            b"POST /graphql HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            b"Content-Length: %d\r\nExpect: 100-continue\r\n\r\n" % len(OPERATION)
        )
        assert status_of(await connection.read_until(b"\r\n\r\n")) == 100
        await connection.send(OPERATION)
        assert status_of(await connection.read_until(b'"Query"}}')) == 200


async def test_requests_after_the_last_one_of_http_1_0_are_dropped_at_once(api: Api) -> None:
    async with connection_to(api) as connection:
        await connection.send(b"GET /healthz HTTP/1.0\r\nConnection: keep-alive\r\n\r\n" * 2)
        async with asyncio.timeout(MAX_WAIT_SECONDS * load_factor()):
            assert status_of(await connection.read_to_the_end()) == 200


async def test_a_requested_protocol_upgrade_is_ignored(api: Api) -> None:
    # As Java's client asks in every request, and `curl --http2`.
    head = (
        b"POST /graphql HTTP/1.1\r\nConnection: Upgrade, HTTP2-Settings\r\nHost: x\r\n"
        b"HTTP2-Settings: AAEAAEAAAAIAAAAA\r\nUpgrade: h2c\r\nContent-Type: application/json\r\n"
        b"Content-Length: %d\r\n\r\n" % len(OPERATION)
    )
    async with connection_to(api) as connection:
        for pieces in ([head + OPERATION], [head[:20], head[20:], OPERATION]):
            for piece in pieces:
                await connection.send(piece)
                await asyncio.sleep(0.01)
            assert status_of(await connection.read_until(b'"Query"}}')) == 200


@pytest.mark.parametrize("head", [b"HTTP/1.1\r\nHost: x\r\nConnection: close", b"HTTP/1.0"])
async def test_a_client_that_sends_too_much_can_still_read_the_last_response(
    api: Api, head: bytes
) -> None:
    async def send() -> bytes:
        async with connection_to(api) as connection:
            await connection.send(b"GET /healthz %b\r\n\r\n" % head + b"x" * MEGABYTE)
            return await connection.read_to_the_end()

    answers = await asyncio.gather(*(send() for _ in range(CONNECTIONS)))

    assert [status_of(answer) for answer in answers] == [200] * CONNECTIONS


async def test_pipelined_requests_are_answered_in_order(api: Api) -> None:
    async with connection_to(api) as connection:
        await connection.send(GET + b"\r\n" + GET.replace(b"healthz", b"nothing") + b"\r\n")
        assert status_of(await connection.read_until(b"}")) == 200
        assert status_of(await connection.read_until(b"Not Found")) == 404


@pytest.mark.parametrize(
    "request_", [GET + b"\r\n", b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"]
)
async def test_megabytes_of_pipelined_requests_are_answered_up_to_a_limit(
    api: Api, request_: bytes
) -> None:
    flood = request_ * (16 * MEGABYTE // len(request_))
    before = memory_of(api)

    async with others_are_served(api), connection_to(api) as connection:
        sending = asyncio.create_task(connection.send(flood))
        answers = await connection.read_to_the_end()
        await sending

    assert answers.startswith(b"HTTP/1.1 ")
    assert memory_of(api) - before < 4 * MEGABYTE


async def test_a_client_can_disconnect_at_any_moment(api: Api) -> None:
    body = (
        b"POST /graphql HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        b"Content-Length: 99\r\n\r\n{"
    )
    for data in (b"", GET, GET + b"\r\n" * 2, body, UPGRADE, UPGRADE + b"\r\n"):
        for _ in range(10):
            async with connection_to(api) as connection:
                await connection.send(data)

    async with connection_to(api) as connection:
        await connection.send(GET + b"Connection: close\r\n\r\n")
        assert status_of(await connection.read_to_the_end()) == 200
    assert "Traceback" not in api.text_of_log()


async def test_a_signal_ends_the_process_whatever_its_clients_did(
    mongodb_uri: str, tmp_path: Path
) -> None:
    rows = [
        *(head for head, _ in HEADS.values()),
        *NEVER_COMPLETE.values(),
        UPGRADE + b"\r\n",
    ]

    async with an_api(mongodb_uri, tmp_path) as api:

        async def send(connection: Connection, data: bytes) -> None:
            await connection.send(data)

        reached = [await asyncio.open_connection("127.0.0.1", api.port) for _ in rows]
        connections = [Connection(reader, writer) for reader, writer in reached]
        await asyncio.gather(*map(send, connections, rows))
        async with connection_to(api) as connection:
            await connection.send(GET + b"Connection: close\r\n\r\n")
            assert status_of(await connection.read_to_the_end()) == 200

        assert await api.terminate() == 0

        for connection in connections:
            connection.close()
        assert "Traceback" not in api.text_of_log()
