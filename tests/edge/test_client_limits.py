"""Limits of one client, what closes a socket, and blocked viewers."""

import asyncio
import json
import re
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from commands import viewers
from domain.ids import viewer_id_of
from domain.services import blocked_viewers
from settings import Limits
from storage.mongo.database import Database
from storage.mongo.erasures import MongoErasureRepository
from storage.mongo.viewers import MongoViewerRepository
from tests.api.test_switching_off import database_of
from tests.clients import GraphQLClient, Socket, connect_to
from tests.conftest import Darkroom, StartDarkroom
from tests.edge.streams import streaming
from tests.edge.test_hostile_sockets import FINAL, HANDSHAKE, TEXT, frame
from tests.waits import PATIENCE_SECONDS, eventually

ME = "{ viewer { id } }"
INTROSPECTION = "{ __schema { types { name fields { name description type { name } } } } }"
"""It runs in a thread, so that others arrive meanwhile."""
LONG = 10 * PATIENCE_SECONDS
"""The time of an operation that may wait for others on a busy machine."""
CREDITS = "subscription { viewerUpdated { id } }"
HUGE = (
    "{ " + " ".join(f"a{n}: models {{ ...m }}" for n in range(20)) + " } "
    "fragment m on ImageModel { id label description company logoUrl aspectRatios resolutions "
    "qualities formats scenes aliases }"
)
"""Answered with about 400 KB."""


async def codes_of_many(client: GraphQLClient, document: str, count: int) -> list[int]:
    body = {"query": document}
    answers = await asyncio.gather(*(client.post(body) for _ in range(count)))
    for answer in answers:
        if answer.status_code != 200:
            assert int(answer.headers["retry-after"]) >= 1
    return [answer.status_code for answer in answers]


async def test_requests_in_flight_of_a_client_are_limited(start_darkroom: StartDarkroom) -> None:
    darkroom = await start_darkroom(limit=Limits(requests_in_flight=2, operation_seconds=LONG))
    client = darkroom.client("ana")

    codes = await codes_of_many(client, INTROSPECTION, 12)

    assert set(codes) == {200, 429}
    assert 2 <= codes.count(200) < 12
    assert await codes_of_many(client, ME, 1) == [200]


async def test_requests_in_flight_of_a_process_are_limited(start_darkroom: StartDarkroom) -> None:
    limit = Limits(process_requests_in_flight=2, operation_seconds=LONG)
    darkroom = await start_darkroom(limit=limit)
    clients = [darkroom.client(f"viewer {number}") for number in range(12)]
    for one in clients:  # the first request of a viewer takes longer
        await one(ME)

    codes = await asyncio.gather(*(codes_of_many(one, INTROSPECTION, 1) for one in clients))

    assert {code for (code,) in codes} == {200, 503}


async def test_operations_of_one_socket_wait_for_each_other(start_darkroom: StartDarkroom) -> None:
    darkroom = await start_darkroom(limit=Limits(requests_in_flight=1, operation_seconds=LONG))

    async with darkroom.client("ana").socket() as socket:
        for number in range(8):
            payload = {"query": INTROSPECTION}
            await socket.send(id=str(number), type="subscribe", payload=payload)
        messages = [await socket.receive() for _ in range(16)]

    assert [one["type"] for one in messages].count("next") == 8
    assert all("errors" not in one.get("payload", {}) for one in messages)


async def test_subscriptions_of_a_viewer_are_limited(start_darkroom: StartDarkroom) -> None:
    darkroom = await start_darkroom(limit=Limits(viewer_subscriptions=2))
    client = darkroom.client("ana")

    async with client.socket() as socket, streaming(client, CREDITS) as stream:
        await stream.next()
        first = await socket.subscribe(CREDITS)
        await first.next()
        second = await socket.subscribe(CREDITS)
        message = await second.message()
        assert message["type"] == "error"
        assert message["payload"][0]["extensions"] == {"code": "TOO_MANY_SUBSCRIPTIONS"}
        refused = await client.post({"query": CREDITS}, accept="text/event-stream")
        assert refused.status_code == 429

        # One that has ended makes room, and others have their own.
        await socket.send(id=first.id, type="complete")
        await (await socket.subscribe(CREDITS)).next()
        async with darkroom.client("bob").subscribe(CREDITS) as others:
            await others.next()


async def test_a_stream_that_its_client_leaves_frees_its_capacity(
    start_darkroom: StartDarkroom,
) -> None:
    darkroom = await start_darkroom(limit=Limits(viewer_subscriptions=1))
    client = darkroom.client("ana")
    async with streaming(client, CREDITS) as stream:
        await stream.next()

    async with asyncio.timeout(PATIENCE_SECONDS):
        while (await client.post({"query": CREDITS}, accept="text/html")).status_code == 429:
            pass
        while True:
            async with client.socket() as socket:
                message = await (await socket.subscribe(CREDITS)).message()
                if message["type"] == "next":
                    return


@pytest.mark.parametrize("limit", [{"viewer_sockets": 2}, {"process_sockets": 2}])
async def test_the_number_of_sockets_is_limited(
    start_darkroom: StartDarkroom, limit: dict[str, Any]
) -> None:
    darkroom = await start_darkroom(limit=Limits(**limit))
    client = darkroom.client("ana")

    async with client.socket(), client.socket() as second:
        assert await closed_instead_of_acknowledged(darkroom) == 1013
        await second.connection.close()
        async with asyncio.timeout(PATIENCE_SECONDS):
            while await closed_instead_of_acknowledged(darkroom) == 1013:
                pass


async def closed_instead_of_acknowledged(darkroom: Darkroom) -> int | None:
    async with connect_to(darkroom.url) as connection:
        socket = Socket(connection)
        with suppress(Exception):
            token = f"Bearer {darkroom.token('ana')}"
            await socket.send(type="connection_init", payload={"authorization": token})
            assert (await socket.receive())["type"] == "connection_ack"
            return None
        return await socket.closed_with()


async def test_sockets_of_an_address_that_await_a_token_are_limited(
    start_darkroom: StartDarkroom,
) -> None:
    darkroom = await start_darkroom(limit=Limits(address_sockets=2))
    async with AsyncExitStack() as stack:
        for _ in range(2):  # these are not waiting any more
            await stack.enter_async_context(darkroom.client("ana").socket())
        for _ in range(2):
            await stack.enter_async_context(connect_to(darkroom.url))
        third = await stack.enter_async_context(connect_to(darkroom.url))
        assert await Socket(third).closed_with() == 1013


async def test_a_socket_that_has_reached_its_maximum_age_is_closed(
    start_darkroom: StartDarkroom,
) -> None:
    darkroom = await start_darkroom(limit=Limits(socket_age_seconds=0.5))

    async with connect_to(darkroom.url) as connection:
        assert await Socket(connection).closed_with() == 1012


async def test_a_socket_that_sends_no_token_is_closed(start_darkroom: StartDarkroom) -> None:
    darkroom = await start_darkroom(limit=Limits(init_seconds=0.2))

    async with connect_to(darkroom.url) as connection:
        assert await Socket(connection).closed_with() == 4408


async def test_messages_and_operations_of_a_socket_are_limited_by_settings(
    start_darkroom: StartDarkroom,
) -> None:
    darkroom = await start_darkroom(limit=Limits(socket_messages=5, socket_operations=1))
    async with darkroom.client("ana").socket() as socket:
        await (await socket.subscribe(CREDITS)).next()
        message = await (await socket.subscribe(ME)).message()
        assert message["payload"][0]["extensions"] == {"code": "TOO_MANY_SUBSCRIPTIONS"}
        for _ in range(3):
            await socket.send(type="ping")
        assert await socket.closed_with() == 1008


@asynccontextmanager
async def raw_connection(
    darkroom: Darkroom,
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A connection with little room for what is received and not read."""
    client = socket.socket()
    client.setblocking(False)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    address = ("127.0.0.1", darkroom.settings.port)
    await asyncio.get_running_loop().sock_connect(client, address)
    reader, writer = await asyncio.open_connection(sock=client)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


async def ask_much(
    darkroom: Darkroom, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    """Open a socket by hand, which answers no pings, and ask for more than there is room for."""
    writer.write(HANDSHAKE)
    await reader.readuntil(b"\r\n\r\n")
    token = darkroom.token("ana")
    init = f'{{"type":"connection_init","payload":{{"authorization":"Bearer {token}"}}}}'
    writer.write(frame(FINAL | TEXT, init.encode()))
    for number in range(40):
        payload = {"query": HUGE}
        message = {"id": str(number), "type": "subscribe", "payload": payload}
        writer.write(frame(FINAL | TEXT, json.dumps(message).encode()))


async def test_a_socket_whose_ping_is_not_answered_is_closed(start_darkroom: StartDarkroom) -> None:
    darkroom = await start_darkroom(limit=Limits(ping_seconds=0.2, pong_seconds=0.3))

    async with raw_connection(darkroom) as (reader, writer):
        writer.write(HANDSHAKE)
        async with asyncio.timeout(PATIENCE_SECONDS):
            await reader.readuntil(b"\r\n\r\n")
            ping, close = await reader.readexactly(2 + 4), await reader.read()

    assert ping[:2] == b"\x89\x04"
    assert close == b"\x88\x19\x03\xe9A ping was not answered"


async def test_a_ping_that_is_answered_is_followed_by_another(
    start_darkroom: StartDarkroom,
) -> None:
    darkroom = await start_darkroom(limit=Limits(ping_seconds=0.1, pong_seconds=4))

    async with darkroom.client("ana").socket() as socket:
        await asyncio.sleep(4.5)  # longer than one ping may stay unanswered
        assert (await (await socket.subscribe(ME)).next())["viewer"]["id"]


async def test_limits_of_a_request_are_settings(start_darkroom: StartDarkroom) -> None:
    limit = Limits(url_bytes=1_024, head_bytes=4_096, head_fields=20, body_bytes=16_384)
    client = (await start_darkroom(limit=limit)).anonymous()

    for request, status in (
        (("GET", f"/healthz?{'x' * 1_000}", {}, b""), 200),
        (("GET", f"/healthz?{'x' * 1_100}", {}, b""), 414),
        (("GET", "/healthz", {"x": "x" * 3_500}, b""), 200),
        (("GET", "/healthz", {"x": "x" * 4_500}, b""), 431),
        (("GET", "/healthz", {f"x{number}": "" for number in range(20)}, b""), 431),
        (("POST", "/graphql", {"content-type": "application/json"}, b" " * 16_384), 400),
        (("POST", "/graphql", {"content-type": "application/json"}, b" " * 16_385), 413),
    ):
        method, url, headers, content = request
        answer = await client.http.request(method, url, headers=headers, content=content)
        assert answer.status_code == status, (method, url[:20], answer.text)


async def test_a_socket_whose_messages_are_not_read_is_closed(
    start_darkroom: StartDarkroom,
) -> None:
    limit = Limits(send_seconds=0.5, requests_in_flight=100, operation_seconds=LONG)
    darkroom = await start_darkroom(limit=limit)

    async with raw_connection(darkroom) as (reader, writer):
        await ask_much(darkroom, reader, writer)
        await until_given_up(darkroom, reader)


async def test_a_connection_whose_response_is_not_read_is_closed(
    start_darkroom: StartDarkroom,
) -> None:
    darkroom = await start_darkroom(limit=Limits(send_seconds=0.5, operation_seconds=LONG))
    body = json.dumps({"query": HUGE}).encode()
    head = (
        f"POST /graphql HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        f"Authorization: Bearer {darkroom.token('ana')}\r\nContent-Length: {len(body)}\r\n\r\n"
    )

    async with raw_connection(darkroom) as (reader, writer):
        writer.write((head.encode() + body) * 16)
        await until_given_up(darkroom, reader)


async def until_given_up(darkroom: Darkroom, reader: asyncio.StreamReader) -> None:
    """Read nothing until the server, which is in this process, has closed its end."""
    reader._transport.pause_reading()  # type: ignore[attr-defined]

    async def has_one_end() -> bool:
        return not _has_connections(darkroom.settings.port)

    await eventually(has_one_end, within=3 * PATIENCE_SECONDS, what="the server closes")


def _has_connections(port: int) -> bool:
    rows = Path("/proc/self/net/tcp").read_text().splitlines()
    # Our address, the peer's, and the state: 01 as long as neither end has closed.
    return any(f":{port:04X} " in row[:20] and row.split()[3] == "01" for row in rows)


async def test_a_viewer_who_is_blocked_while_subscribed_is_disconnected(
    start_darkroom: StartDarkroom,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(blocked_viewers, "_EVERY_SECONDS", 0.2)
    darkroom, other = await start_darkroom(), await start_darkroom()
    client, bob = darkroom.client("ana"), darkroom.client("bob")
    own = (await client(ME))["viewer"]["id"]

    async def run(*arguments: str) -> tuple[int, str, str]:
        capsys.readouterr()
        options = viewers.make_parser().parse_args(arguments)
        code = await viewers.run(darkroom.settings, options)
        return code, *capsys.readouterr()

    async with client.socket() as socket, streaming(other.client("ana"), CREDITS) as stream:
        await (await socket.subscribe(CREDITS)).next()
        await stream.next()
        async with bob.subscribe(CREDITS) as others:
            await others.next()
            async with database_of(darkroom) as stored:
                # Production does not note who was seen.
                await stored.viewers.delete_one({"_id": own})
            blocked = await run("block", "ana", "--reason", "a test")
            assert await socket.closed_with() == 4403
            _, last = await stream.event()
            assert last["errors"][0]["extensions"] == {"code": "FORBIDDEN"}
            assert await stream.event() == ("complete", None)
            await others.socket.send(type="ping")
            assert (await others.socket.receive())["type"] == "pong"

    refused = await client.post({"query": ME})
    assert refused.status_code == 403
    assert refused.json()["errors"][0]["extensions"] == {"code": "FORBIDDEN"}
    assert await closed_instead_of_acknowledged(darkroom) == 4403
    assert (await darkroom.anonymous().post({"query": "{ __typename }"})).status_code == 200
    listed = await run("list")
    misspelt = await run("block", "ana-misspelt")
    assert blocked == (0, f"{own} is blocked.\n", "")
    assert re.fullmatch(rf"{own}  since [\d-]+ [\d:]+Z: a test\n", listed[1])
    assert misspelt[0] == 0
    assert "check the name" in misspelt[2]

    assert (await run("unblock", own))[0] == 0
    assert (await run("unblock", own))[0] == 1
    async with asyncio.timeout(PATIENCE_SECONDS):
        while (await client.post({"query": ME})).status_code == 403:
            pass
    assert await client(ME) == {"viewer": {"id": own}}


async def test_a_blocked_viewer_stays_blocked_after_deletion(
    start_darkroom: StartDarkroom, database: Database
) -> None:
    repository, ana = MongoViewerRepository(database), viewer_id_of("tests", "ana")
    await repository.block(ana, reason=None)
    assert not await repository.is_known(ana)
    assert await repository.welcome(ana, [])
    assert await repository.is_known(ana)
    assert not await repository.welcome(ana, [])

    erasures = MongoErasureRepository(database)
    await erasures.begin(ana, lease=timedelta(minutes=1))
    assert await erasures.finish(ana)

    assert await repository.list_blocked() == [ana]
    assert not await repository.is_known(ana)
