"""Silent and slow clients are disconnected, and disconnected clients leave nothing
behind.
"""

import asyncio
import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import AsyncExitStack
from typing import Final

import pytest

from edge.dev_tokens import DevelopmentIssuer
from edge.frames import MAX_FRAMES, WINDOW_SECONDS
from tests.clients import GraphQLClient, Socket
from tests.edge.hostile import an_api, connection_to, memory_of
from tests.edge.streams import streaming
from tests.edge.test_hostile_sockets import FINAL, TEXT, connect, frame, read_close_code
from tests.http import open_http
from tests.promises.figures import count, noticed, open_files_of
from tests.resilience.processes import Api
from tests.serving import free_port
from tests.waits import eventually

INIT_SECONDS: Final = 1.0
SEND_SECONDS: Final = 1.0
IDLE_BYTES: Final = 64 * 1024
STALLED_BYTES: Final = 8 * 1024 * 1024
OPERATIONS: Final = 45
"""Their answers, of 98 KB each, are more than the kernel keeps: without them a ping ends it."""
DROPPED_SECONDS: Final = 600.0
"""Before it drops 200 sockets that read nothing, the API has computed answers for 5 seconds of
processor time, of which a busy machine gives it a fortieth.
"""
DRIFT_BYTES: Final = 10_000_000
SOCKETS_WITHOUT_INIT: Final = count(40, each=0.4)
SOCKETS_WITHOUT_READING: Final = count(8, each=0.04)
SUBSCRIPTIONS_OF_ONE: Final = count(100, each=0.4)
SUBSCRIPTIONS_IN_A_WINDOW: Final = MAX_FRAMES // 2 - 20
"""Each is two frames, and there are a few others."""
STREAMS: Final = count(20, each=0.4)
STREAMS_AT_ONCE: Final = 20
SUBSCRIBED: Final = {"query": "subscription { viewerUpdated { id } }"}
LARGE: Final = (
    "fragment m on ImageModel { id label description company aspectRatios resolutions scenes } "
    "query { " + " ".join(f"a{number}: models {{ ...m }}" for number in range(10)) + " }"
)
GAUGE: Final = re.compile(r"^darkroom_(sockets|subscriptions) ([0-9.]+)$", re.MULTILINE)


class Stalled:
    def __init__(self, api: Api, client: GraphQLClient, metrics_url: str) -> None:
        self.api, self.client, self._metrics_url = api, client, metrics_url

    async def wait_until_disconnected(self, files: int) -> None:
        """Wait until no socket and no subscription is counted, and its files are closed."""

        async def is_over() -> bool:
            metrics = (await self.client.http.get(self._metrics_url)).text
            left = {name: float(value) for name, value in GAUGE.findall(metrics)}
            return not any(left.values()) and open_files_of(self.api) <= files + 5

        await eventually(is_over, within=DROPPED_SECONDS, what="nobody is left")


@pytest.fixture(scope="module")
async def stalled(
    mongodb_uri: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Stalled]:
    folder, port = tmp_path_factory.mktemp("stalled"), free_port()
    settings = {
        "DARKROOM_METRICS_PORT": str(port),
        "DARKROOM_LIMIT_INIT_SECONDS": str(INIT_SECONDS),
        "DARKROOM_LIMIT_SEND_SECONDS": str(SEND_SECONDS),
        "DARKROOM_LIMIT_ADDRESS_SOCKETS": "5000",
        # Otherwise most of what is sent would only be refused.
        "DARKROOM_LIMIT_SOCKET_MESSAGES": "1000000",
        "DARKROOM_LIMIT_VIEWER_REQUESTS": "1000000",
        "DARKROOM_LIMIT_ADDRESS_REQUESTS": "1000000",
    }
    async with an_api(mongodb_uri, folder, settings=settings) as api:
        client = GraphQLClient(api.url, DevelopmentIssuer(folder).token("ana"))
        await client("{ viewer { id } }")
        yield Stalled(api, client, f"http://127.0.0.1:{port}/metrics")
        await client.aclose()


async def test_sockets_that_never_send_a_token_are_closed(stalled: Stalled) -> None:
    files = open_files_of(stalled.api)
    await _twice(
        stalled,
        f"{SOCKETS_WITHOUT_INIT} sockets without connection_init",
        lambda stack: _sockets_without_init(stalled.api, stack),
        most_each=IDLE_BYTES,
        sockets=SOCKETS_WITHOUT_INIT,
    )
    await stalled.wait_until_disconnected(files)


async def test_sockets_that_read_nothing_are_closed(stalled: Stalled) -> None:
    files = open_files_of(stalled.api)
    await _twice(
        stalled,
        f"{SOCKETS_WITHOUT_READING} sockets that read nothing",
        lambda stack: _sockets_without_reading(stalled, stack),
        most_each=STALLED_BYTES,
        sockets=SOCKETS_WITHOUT_READING,
    )
    await stalled.wait_until_disconnected(files)


async def test_disconnected_clients_leave_nothing_behind(stalled: Stalled) -> None:
    await _come_and_go(stalled, 10)
    files, before = open_files_of(stalled.api), memory_of(stalled.api)

    rounds = count(10, each=0.2)
    async with noticed(stalled.api, f"{rounds} rounds of 45 subscriptions and 10 requests"):
        await _come_and_go(stalled, rounds)

    await stalled.wait_until_disconnected(files)
    assert memory_of(stalled.api) - before < DRIFT_BYTES


async def test_thousands_of_subscriptions_of_one_socket_leave_nothing_behind(
    stalled: Stalled,
) -> None:
    await _subscribe_and_complete(stalled, 20)
    files, before = open_files_of(stalled.api), memory_of(stalled.api)

    async with noticed(stalled.api, f"{SUBSCRIPTIONS_OF_ONE} subscriptions of one socket"):
        await _subscribe_and_complete(stalled, SUBSCRIPTIONS_OF_ONE)

    await stalled.wait_until_disconnected(files)
    assert memory_of(stalled.api) - before < DRIFT_BYTES


async def test_streams_that_are_left_leave_nothing_behind(stalled: Stalled) -> None:
    await _open_and_leave(stalled, STREAMS_AT_ONCE)
    files, before = open_files_of(stalled.api), memory_of(stalled.api)

    async with noticed(stalled.api, f"{STREAMS} streams of server-sent events"):
        await _open_and_leave(stalled, STREAMS)

    await stalled.wait_until_disconnected(files)
    assert memory_of(stalled.api) - before < DRIFT_BYTES


async def _twice(
    stalled: Stalled,
    what: str,
    attack: Callable[[AsyncExitStack], Awaitable[None]],
    *,
    most_each: int,
    sockets: int,
) -> None:
    """A wave, and a second one, which adds nothing."""
    async with noticed(stalled.api, what) as first, AsyncExitStack() as stack:
        await attack(stack)
    async with noticed(stalled.api, f"{what}, again") as second, AsyncExitStack() as stack:
        await attack(stack)
    assert first.grown < most_each * sockets + DRIFT_BYTES
    assert second.grown < first.grown + DRIFT_BYTES


async def _sockets_without_init(api: Api, stack: AsyncExitStack) -> None:
    opening = asyncio.Semaphore(200)

    async def be_silent() -> int:
        async with opening:
            connection = await stack.enter_async_context(connection_to(api))
            await connect(connection)
        return await read_close_code(connection)

    codes = await asyncio.gather(*(be_silent() for _ in range(SOCKETS_WITHOUT_INIT)))
    assert set(codes) == {4408}


async def _sockets_without_reading(stalled: Stalled, stack: AsyncExitStack) -> None:
    init = {
        "type": "connection_init",
        "payload": {"authorization": f"Bearer {stalled.client.token}"},
    }
    asked = {"type": "subscribe", "payload": {"query": LARGE}}
    before = open_files_of(stalled.api)
    for _ in range(SOCKETS_WITHOUT_READING):
        connection = await stack.enter_async_context(connection_to(stalled.api, has_room=False))
        await connect(connection)
        connection.stop_reading()
        messages = [init, *({"id": str(number), **asked} for number in range(OPERATIONS))]
        for message in messages:
            await connection.send(frame(FINAL | TEXT, json.dumps(message).encode()))

    async def are_dropped() -> bool:
        return open_files_of(stalled.api) <= before + 5

    await eventually(are_dropped, within=DROPPED_SECONDS, what="who reads nothing is dropped")


async def _come_and_go(stalled: Stalled, rounds: int) -> None:
    for _ in range(rounds):
        async with stalled.client.socket() as socket:
            for number in range(45):
                await socket.send(id=str(number), type="subscribe", payload=SUBSCRIBED)
                await socket.send(id=str(number), type="complete")
        await asyncio.gather(*(_leave(stalled) for _ in range(10)))


async def _leave(stalled: Stalled) -> None:
    """Send a request, and close the connection without waiting for the response."""
    async with open_http(base_url=stalled.api.url, headers=stalled.client.http.headers) as http:
        asking = asyncio.create_task(http.post("/graphql", json={"query": LARGE}))
        await asyncio.sleep(0.005)
        asking.cancel()
        await asyncio.wait([asking])


async def _subscribe_and_complete(stalled: Stalled, times: int) -> None:
    """On one socket, no faster than its limit of frames allows."""
    async with stalled.client.socket() as socket:
        for first in range(0, times, SUBSCRIPTIONS_IN_A_WINDOW):
            if first:
                await asyncio.sleep(WINDOW_SECONDS)
            last = min(first + SUBSCRIPTIONS_IN_A_WINDOW, times)
            await _subscribe_and_complete_each(socket, range(first, last))


async def _subscribe_and_complete_each(socket: Socket, numbers: Iterable[int]) -> None:
    """The socket is read meanwhile. The response to a last query shows that all of it has been
    handled.
    """

    async def read() -> None:
        while (await socket.receive()) != {"id": "last", "type": "complete"}:
            pass

    reading = asyncio.create_task(read())
    for number in numbers:
        await socket.send(id=str(number), type="subscribe", payload=SUBSCRIBED)
        await socket.send(id=str(number), type="complete")
    await socket.send(id="last", type="subscribe", payload={"query": "{ __typename }"})
    await reading


async def _open_and_leave(stalled: Stalled, streams: int) -> None:
    """Read the first result of each, and close the connection."""
    opening = asyncio.Semaphore(STREAMS_AT_ONCE)

    async def follow() -> None:
        async with opening, streaming(stalled.client, **SUBSCRIBED) as body:
            assert "viewerUpdated" in await body.next()

    await asyncio.gather(*(follow() for _ in range(streams)))
