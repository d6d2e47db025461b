"""What a client without a token can do with frames and messages, before and after the handshake."""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final

import pytest

from edge.dev_tokens import DevelopmentIssuer
from tests.clients import GraphQLClient
from tests.conftest import Darkroom
from tests.edge.hostile import (
    Connection,
    an_api,
    connection_to,
    memory_of,
    others_are_served,
)
from tests.resilience.processes import Api

MEGABYTE: Final = 1024 * 1024
HANDSHAKE: Final = (
    b"GET /graphql HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    b"Sec-WebSocket-Protocol: graphql-transport-ws\r\n\r\n"
)
MASK: Final = bytes(4)
"""A mask that changes nothing."""
MASKED: Final = 0x80
CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA
FINAL: Final = 0x80
NO_CODE: Final = 1005
"""Of a close frame without a code, which is how one without a code is answered."""


def frame(first: int, payload: bytes = b"") -> bytes:
    size = len(payload)
    if size <= 125:
        length = bytes((MASKED | size,))
    elif size <= 65_535:
        length = bytes((MASKED | 126,)) + size.to_bytes(2, "big")
    else:
        length = bytes((MASKED | 127,)) + size.to_bytes(8, "big")
    return bytes((first,)) + length + MASK + payload


PING_MESSAGE: Final = frame(FINAL | TEXT, b'{"type":"ping"}')
INIT: Final = frame(FINAL | TEXT, b'{"type":"connection_init"}')
FLOODS: Final = {
    "empty continuations": (frame(TEXT), frame(CONTINUATION), 1008),
    "continuations of one letter": (frame(TEXT, b'"'), frame(CONTINUATION, b"x"), 1008),
    "empty pings": (b"", frame(FINAL | PING), 1008),
    "large pings": (b"", frame(FINAL | PING, b"x" * 125), 1008),
    "pongs": (b"", frame(FINAL | PONG), 1008),
    "pings within a message": (frame(TEXT, b'"'), frame(FINAL | PING), 1008),
    "messages": (b"", PING_MESSAGE, 1008),
    "messages after a ping that has been answered": (PING_MESSAGE, PING_MESSAGE, 1008),
    "messages of one letter": (b"", frame(FINAL | TEXT, b"1"), 4400),
    "empty messages": (b"", frame(FINAL | TEXT), 4400),
    "binary messages": (b"", frame(FINAL | BINARY), 4400),
    "initialisations": (b"", INIT, 4403),
    "text that is not UTF-8": (b"", frame(FINAL | TEXT, b"\xff\xfe"), 1007),
    "half a letter in each frame": (
        frame(TEXT, b"\xc3") + frame(FINAL | CONTINUATION, b"\xff"),
        frame(FINAL | PING),
        1007,
    ),
    "a message that is too large": (frame(FINAL | TEXT, b"x" * 300_000), PING_MESSAGE, 1009),
    "a frame that says it is too large": (
        bytes((FINAL | TEXT, 0xFF)) + (1 << 40).to_bytes(8, "big"),
        b"x" * 1000,
        1009,
    ),
    "fragments that are too large together": (
        frame(TEXT, b'"'),
        frame(CONTINUATION, b"x" * 60_000),
        1009,
    ),
    "frames that are not masked": (b"", b"\x81\x00", 1002),
    "frames of an unknown kind": (b"", frame(FINAL | 0x3), 1002),
    "a close with a reason that is not UTF-8": (
        frame(FINAL | CLOSE, b"\x03\xe8\xff\xff"),
        frame(FINAL | PING),
        1007,
    ),
    "a close with a code that is none": (frame(FINAL | CLOSE, b"\x00\x01"), PING_MESSAGE, 1002),
}
CONNECTIONS: Final = 5
STALLED_SECONDS: Final = 3.0
LARGE: Final = (
    "fragment m on ImageModel { id label description company logoUrl aspectRatios resolutions "
    "qualities formats scenes aliases }"
)
"""Of all models twenty times: about 400 KB."""


@pytest.fixture(scope="module")
async def api(mongodb_uri: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Api]:
    async with an_api(mongodb_uri, tmp_path_factory.mktemp("api")) as api:
        yield api


async def connect(connection: Connection) -> None:
    await connection.send(HANDSHAKE)
    head = await connection.read_until(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 101 ")


async def read_close_code(connection: Connection) -> int:
    """Read frames up to one that closes. Return its code, 0 where the connection has just ended."""
    while True:
        try:
            first, size = await connection.read(2)
            if size == 126:
                size = int.from_bytes(await connection.read(2), "big")
            payload = await connection.read(size)
        except (OSError, EOFError):
            return 0
        if first == FINAL | CLOSE:
            return int.from_bytes(payload[:2], "big") if payload else NO_CODE


@pytest.mark.parametrize(("first", "again", "code"), FLOODS.values(), ids=FLOODS)
async def test_a_flood_of_messages_closes_the_socket(
    api: Api, first: bytes, again: bytes, code: int
) -> None:
    flood = first + again * (4 * MEGABYTE // len(again))
    before = memory_of(api)

    async def send() -> int:
        async with connection_to(api) as connection:
            await connect(connection)
            sending = asyncio.create_task(connection.send(flood))
            closed_with = await read_close_code(connection)
            await connection.read_to_the_end()
            await sending
            return closed_with

    async with others_are_served(api):
        codes = await asyncio.gather(*(send() for _ in range(CONNECTIONS)))

    assert set(codes) == {code}
    assert memory_of(api) - before < CONNECTIONS * 2 * MEGABYTE


async def test_a_client_that_does_not_read_responses_is_disconnected(api: Api) -> None:
    before = memory_of(api)

    async with others_are_served(api), connection_to(api) as connection:
        await connect(connection)
        await connection.send(frame(FINAL | PING, b"x" * 125) * 100_000)
        await connection.read_to_the_end()

    assert memory_of(api) - before < 2 * MEGABYTE


async def test_few_unread_responses_are_buffered(api: Api) -> None:
    token = DevelopmentIssuer(api.log_path.parent).token("ana")
    init = {"type": "connection_init", "payload": {"authorization": f"Bearer {token}"}}
    query = f"{{ {' '.join(f'a{n}: models {{ ...m }}' for n in range(20))} }} {LARGE}"
    asked = [
        {"id": str(number), "type": "subscribe", "payload": {"query": query}}
        for number in range(49)
    ]
    before = memory_of(api)

    async with others_are_served(api), connection_to(api, has_room=False) as connection:
        await connect(connection)
        connection.stop_reading()
        for message in (init, *asked):
            await connection.send(frame(FINAL | TEXT, json.dumps(message).encode()))
        await asyncio.sleep(STALLED_SECONDS)
        assert memory_of(api) - before < 20 * MEGABYTE  # all of them would be about 90


async def test_waiting_operations_take_little_memory(api: Api) -> None:
    token = DevelopmentIssuer(api.log_path.parent).token("bo")
    init = {"type": "connection_init", "payload": {"authorization": f"Bearer {token}"}}
    large = {"query": f"{{ {' '.join(f'a{n}: models {{ ...m }}' for n in range(20))} }} {LARGE}"}
    parts = {"query": "{ __typename }", "variables": {"a": [[]] * 60_000}}
    asked = [
        {"id": str(number), "type": "subscribe", "payload": large if number < 4 else parts}
        for number in range(45)
    ]
    before = memory_of(api)

    async with others_are_served(api), connection_to(api, has_room=False) as connection:
        await connect(connection)
        connection.stop_reading()
        flood = [frame(FINAL | TEXT, json.dumps(one).encode()) for one in (init, *asked)]
        sending = asyncio.create_task(connection.send(b"".join(flood)))
        await asyncio.sleep(STALLED_SECONDS)
        sending.cancel()
        assert memory_of(api) - before < 20 * MEGABYTE  # all of them would be about 200


async def test_a_signal_ends_the_process_whatever_its_sockets_do(
    mongodb_uri: str, tmp_path: Path
) -> None:
    large = "{ " + " ".join(f"a{n}: models {{ ...m }}" for n in range(20)) + " } " + LARGE
    query = json.dumps({"query": large})
    async with an_api(mongodb_uri, tmp_path) as api, AsyncExitStack() as stack:
        token = DevelopmentIssuer(tmp_path).token("ana")
        payload = f'"payload":{{"authorization":"Bearer {token}"}}'
        init = f'{{"type":"connection_init",{payload}}}'
        asked = [
            f'{{"id":"{number}","type":"subscribe","payload":{query}}}' for number in range(20)
        ]
        messages = b"".join(frame(FINAL | TEXT, one.encode()) for one in (init, *asked))
        all_ends = (b"", frame(FINAL | CLOSE, b"\x03\xe8"), frame(FINAL | 0x3), b"\x88")
        connections = []
        for _ in all_ends:
            # Reads nothing, so that answers wait to be sent when the server stops.
            connection = await stack.enter_async_context(connection_to(api, has_room=False))
            await connect(connection)
            connection.stop_reading()
            await connection.send(messages)
            connections.append(connection)
        async with GraphQLClient(api.url, token).socket() as last:
            answered = await last.subscribe(large)
            await answered.next()  # so all others have been answered
            for connection, ends in zip(connections, all_ends, strict=True):
                await connection.send(ends)
            await last.send(type="ping")
            await last.receive()

        assert await api.terminate() == 0

        assert "Traceback" not in api.text_of_log()


async def test_no_hostile_socket_is_logged_with_a_traceback(api: Api) -> None:
    assert "Traceback" not in api.text_of_log()
    assert await api.terminate() == 0
    assert "Traceback" not in api.text_of_log()


async def test_a_socket_accepts_a_hundred_messages_and_is_closed_at_one_more(
    client: GraphQLClient,
) -> None:
    async with client.socket() as socket:  # which has sent one
        for _ in range(99):
            await socket.send(type="ping")
            assert (await socket.receive())["type"] == "pong"

        await socket.send(type="ping")

        assert await socket.closed_with() == 1008


async def test_messages_that_arrive_together_are_all_answered(darkroom: Darkroom) -> None:
    client = darkroom.client()
    async with client.socket() as socket:
        for number in range(50):
            payload = {"query": "{ __typename }"}
            await socket.connection.send(
                json.dumps({"id": str(number), "type": "subscribe", "payload": payload})
            )
        answered = [await socket.receive() for _ in range(100)]

    # Operations run concurrently: one that queries the database for its rate limit comes later.
    seen = Counter((one["id"], one["type"]) for one in answered)
    assert seen == Counter((str(n), kind) for n in range(50) for kind in ("next", "complete"))


async def test_a_large_message_can_arrive_in_many_frames(client: GraphQLClient) -> None:
    text = json.dumps({"id": "1", "type": "subscribe", "payload": {"query": "{ __typename }"}})
    parts = [text, *[" " * 250] * 900]
    async with client.socket() as socket:
        await socket.connection.send(iter(parts))

        assert (await socket.receive())["payload"] == {"data": {"__typename": "Query"}}
