"""What a connection has held is freed at its end, without the garbage collector.

The collector rarely looks at everything (`runtime/garbage_collection.py`): what holds itself would
stay, and each wave of clients would add to it.
"""

from typing import Final
from weakref import ref

import pytest
from starlette.types import ASGIApp, Receive, Scope, Send

from edge.frames import WebSocketProtocol, frames_of, text_frame
from edge.http_protocol import HttpProtocol
from edge.ws_connection import Connection
from edge.ws_operations import SocketOperations
from schema.loaders import Loaders
from tests.clients import GraphQLClient
from tests.edge.test_hostile_sockets import HANDSHAKE
from tests.edge.test_loop_rounds import GET, Server, answer, in_uvloop, served, until
from tests.memory import count_objects, uncollected

LARGE: Final = 16 * 1024 * 1024
"""More than the kernel keeps."""
OURS: Final = (HttpProtocol, WebSocketProtocol, Connection, SocketOperations, Loaders)


async def write_much(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "websocket":
        await send({"type": "websocket.accept"})
        frames = frames_of(scope)
        assert frames
        frames.write(text_frame(bytes(LARGE)))
        while (await receive())["type"] != "websocket.disconnect":
            pass
    else:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": bytes(LARGE)})


async def never_answer(scope: Scope, receive: Receive, send: Send) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


@pytest.mark.parametrize(
    ("app", "sent"),
    [(answer, GET), (never_answer, GET * 3), (write_much, GET), (write_much, HANDSHAKE)],
    ids=["answered", "waiting behind another", "unread", "a socket, unread"],
)
def test_a_connection_is_freed_at_its_end(app: ASGIApp, sent: bytes) -> None:
    async def test() -> None:
        async with served(app) as server:
            _, writer = await server.connect()
            writer.write(sent)
            await until(lambda: has_begun(server))
            connection = ref(server.connection)

            writer.transport.abort()
            await until(lambda: not server.state.connections and not server.state.tasks)

            await until(lambda: connection() is None)

    def has_begun(server: Server) -> bool:
        for one in server.state.connections:
            if isinstance(one, HttpProtocol) and sent != HANDSHAKE:
                return one.cycle is not None
        return bool(server.state.connections) and isinstance(server.connection, WebSocketProtocol)

    with uncollected():
        in_uvloop(test())


async def test_what_a_socket_runs_is_freed_with_it(client: GraphQLClient) -> None:
    """Its operations by graphql-core, its subscriptions, and those that are cancelled."""

    def count() -> int:
        return count_objects(OURS)

    async with client.socket() as socket:
        await socket.subscribe("{ viewer { id } }")
    before = count()
    with uncollected():
        async with client.socket() as socket:
            subscription = await socket.subscribe("subscription { viewerUpdated { id } }")
            assert await subscription.next()
            query = await socket.subscribe(
                "{ viewer { conversations(first: 1) { nodes { turnCount } } } }"
            )
            assert await query.next()
        await until(lambda: count() <= before)
