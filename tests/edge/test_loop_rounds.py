"""What happens to a connection while its events wait for others.

The loop is uvloop, as in production: there, writing to a closed connection raises an error.
"""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from typing import Any, Final

import pytest
import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.server import ServerState

from edge.frames import WebSocketProtocol, frames_of, text_frame
from edge.http_protocol import HttpProtocol
from edge.loop_rounds import MAX_EVENTS, LoopRounds
from tests.edge.test_hostile_sockets import FINAL, HANDSHAKE, PING, TEXT, frame
from tests.serving import free_port
from tests.waits import eventually

ROUNDS: Final = 300
"""How many rounds of the loop others fill. A test needs a few until it looks."""
GET: Final = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
RESET: Final = struct.pack("ii", 1, 0)
MESSAGE: Final = frame(FINAL | TEXT, b"x")


class Server:
    """A server's connections, whose events can be made to wait."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.rounds = LoopRounds(asyncio.get_running_loop())
        self.state = ServerState()

    @property
    def connection(self) -> Any:
        (connection,) = self.state.connections
        return connection

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self.port)

    def fill_rounds(self) -> None:
        while self.rounds.has_room():
            pass
        for _ in range(ROUNDS * MAX_EVENTS):
            self.rounds.put_off(lambda: None)


async def until(holds: Callable[[], bool]) -> None:
    """Let the loop go round until this holds."""
    await eventually(holds, every=0, what="the event")


def in_uvloop(test: Coroutine[Any, Any, None]) -> None:
    uvloop = pytest.importorskip("uvloop")
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(test)


@asynccontextmanager
async def served(app: ASGIApp) -> AsyncIterator[Server]:
    server = Server(free_port())
    config = uvicorn.Config(
        app, ws=WebSocketProtocol, log_config=None, ws_per_message_deflate=False
    )
    states = {"rounds": server.rounds}
    listener = await asyncio.get_running_loop().create_server(
        lambda: HttpProtocol(config, server.state, states), "127.0.0.1", server.port
    )
    try:
        yield server
    finally:
        listener.close()
        await until(lambda: not server.state.connections and not server.state.tasks)


async def answer(scope: Scope, receive: Receive, send: Send) -> None:
    headers = [(b"content-length", b"2")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"ok"})


@pytest.mark.parametrize("end", ["shutdown", "timeout_keep_alive_handler"])
def test_a_request_that_waits_is_answered_though_the_server_stops_or_a_timer_ends(end: str) -> None:
    async def test() -> None:
        async with served(answer) as server:
            reader, writer = await server.connect()
            writer.write(GET)
            await reader.readuntil(b"ok")
            connection = server.connection
            server.fill_rounds()
            writer.write(GET)
            await until(lambda: connection.waits)

            getattr(connection, end)()

            assert (await reader.readuntil(b"ok")).startswith(b"HTTP/1.1 200")
            writer.close()

    in_uvloop(test())


def test_a_socket_is_not_closed_while_the_answer_to_a_ping_may_wait() -> None:
    async def accept(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "websocket.accept"})
        for _ in range(2):
            await receive()
        await send({"type": "websocket.send", "text": "ok"})

    async def test() -> None:
        async with served(accept) as server:
            reader, writer = await server.connect()
            writer.write(HANDSHAKE)
            await reader.readuntil(b"\r\n\r\n")
            connection = server.connection
            server.fill_rounds()
            writer.write(MESSAGE)
            await until(lambda: connection.waits)

            connection.keepalive_timeout()

            assert await reader.readexactly(4) == text_frame(b"ok")
            writer.close()

    in_uvloop(test())


@pytest.mark.parametrize("held", [b"", MESSAGE * 700 + frame(FINAL | PING) + MESSAGE])
def test_nothing_is_written_after_the_end_of_a_connection_whose_end_waits(held: bytes) -> None:
    """`held`: more than is parsed at once. Without it, the handshake is not complete."""

    async def test() -> None:
        goes_on = asyncio.Event()
        received: list[str] = []

        async def receive_all(scope: Scope, receive: Receive, send: Send) -> None:
            if not held:
                await goes_on.wait()
            with suppress(OSError):
                await send({"type": "websocket.accept"})
                await goes_on.wait()
                frames = frames_of(scope)
                assert frames is not None
                while not server.connection.disconnected:  # Only who writes notices the reset.
                    frames.write(text_frame(b"x"))
                    await asyncio.sleep(0)
                while "websocket.disconnect" not in received:
                    received.append((await receive())["type"])

        async with served(receive_all) as server:
            client = socket.create_connection(("127.0.0.1", server.port))
            client.sendall(HANDSHAKE)
            await until(lambda: bool(server.state.tasks))
            (task,) = server.state.tasks
            connection = server.connection
            if held:
                await until(lambda: connection.handshake_complete)
                client.sendall(held)
                await until(lambda: bool(connection._held))
            server.fill_rounds()
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            client.close()
            if not held:
                await until(lambda: connection.disconnected)
            goes_on.set()
            await task

        assert not held or received[-1] == "websocket.disconnect"

    in_uvloop(test())


def test_the_head_of_a_response_is_not_written_to_a_connection_that_has_just_been_lost() -> None:
    async def test() -> None:
        goes_on = asyncio.Event()
        failures: list[dict[str, Any]] = []
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: failures.append(context))

        async def begin(scope: Scope, receive: Receive, send: Send) -> None:
            await goes_on.wait()
            await send({"type": "http.response.start", "status": 200, "headers": []})
            while (await receive())["type"] != "http.disconnect":
                pass

        async with served(begin) as server:
            _, writer = await server.connect()
            writer.write(GET)
            await until(lambda: bool(server.state.tasks))

            # The response begins in the round in which the connection is lost.
            goes_on.set()
            server.connection.transport.abort()
            await until(lambda: not server.state.tasks)
            writer.close()

        assert failures == []

    in_uvloop(test())


async def accept(_: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "websocket.accept"})
    await receive()


async def refuse(_: Scope, __: Receive, send: Send) -> None:
    await send({"type": "websocket.close"})


@pytest.mark.parametrize("answer_handshake", [accept, refuse])
def test_a_handshake_is_not_answered_again_once_the_server_stops(answer_handshake: ASGIApp) -> None:
    async def test() -> None:
        goes_on = asyncio.Event()

        async def answer_late(scope: Scope, receive: Receive, send: Send) -> None:
            await goes_on.wait()
            await answer_handshake(scope, receive, send)

        async with served(answer_late) as server:
            reader, writer = await server.connect()
            writer.write(HANDSHAKE)
            await until(lambda: bool(server.state.tasks))
            (task,) = server.state.tasks

            goes_on.set()
            server.connection.shutdown()

            assert (await reader.read()).startswith(b"HTTP/1.1 500")
            await task  # raises what the end of a handshake has raised
            writer.close()

    in_uvloop(test())
