"""The handshake of a WebSocket, and what arrives with it, as the application sees them."""

import asyncio

import pytest
from starlette.types import Receive, Scope, Send

from edge.frames import text_frame
from tests.edge.test_hostile_sockets import FINAL, HANDSHAKE, PING, TEXT, frame
from tests.edge.test_loop_rounds import GET, in_uvloop, served, until

PONG = b"\x8a\x00"


def test_whitespace_behind_a_value_does_not_belong_to_it() -> None:
    async def test() -> None:
        scopes: list[Scope] = []

        async def accept(scope: Scope, receive: Receive, send: Send) -> None:
            scopes.append({**scope})
            await send({"type": "websocket.accept"})
            await receive()

        async with served(accept) as server:
            reader, writer = await server.connect()
            head = HANDSHAKE.replace(b"\r\n\r\n", b"\r\nOrigin: a \t\r\n\r\n")
            writer.write(head.replace(b"13\r\n", b"13 \r\n").replace(b"==\r\n", b"==\t\r\n"))

            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
            writer.close()

        assert (b"origin", b"a") in scopes[0]["headers"]

    in_uvloop(test())


@pytest.mark.parametrize("size", [1, 40_000], ids=["little", "more than is parsed at once"])
@pytest.mark.parametrize("together", [True, False], ids=["with the handshake", "behind it"])
def test_what_arrives_before_the_socket_is_accepted_is_read_after_that(
    together: bool, size: int
) -> None:
    async def test() -> None:
        goes_on = asyncio.Event()

        async def count(scope: Scope, receive: Receive, send: Send) -> None:
            await receive()
            await goes_on.wait()
            await send({"type": "websocket.accept"})
            await send({"type": "websocket.send", "text": str(len((await receive())["text"]))})
            await receive()

        frames = frame(FINAL | PING) + frame(FINAL | TEXT, b"x" * size)
        async with served(count) as server:
            reader, writer = await server.connect()
            writer.write(HANDSHAKE + frames if together else HANDSHAKE)
            await until(lambda: bool(server.state.tasks))
            if not together:
                writer.write(frames)
            await until(lambda: bool(server.connection._held))
            goes_on.set()

            head = await reader.readuntil(b"\r\n\r\n")
            expected = PONG + text_frame(str(size).encode())
            assert head.startswith(b"HTTP/1.1 101 ")
            assert await reader.readexactly(len(expected)) == expected
            writer.close()

    in_uvloop(test())


def test_a_frame_that_is_not_valid_closes_the_socket_once_it_is_accepted() -> None:
    async def test() -> None:
        goes_on = asyncio.Event()
        failures: list[object] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, said: failures.append(said))

        async def accept(scope: Scope, receive: Receive, send: Send) -> None:
            await goes_on.wait()
            await send({"type": "websocket.accept"})
            while (await receive())["type"] != "websocket.disconnect":
                pass

        async with served(accept) as server:
            reader, writer = await server.connect()
            writer.write(HANDSHAKE)
            await until(lambda: bool(server.state.tasks))
            writer.write(b"\x81\x00")  # not masked
            await until(lambda: bool(failures or server.connection._held))
            goes_on.set()

            assert b"\r\n\r\n\x88\x13\x03\xea" in await reader.read()
            writer.close()

        assert not failures

    in_uvloop(test())


def test_no_socket_is_opened_while_the_answer_before_it_is_not_read() -> None:
    """Its protocol would write without a limit, as nothing tells it that the connection is full."""
    size = 16 * 1024 * 1024

    async def test() -> None:
        opened: list[str] = []

        async def serve(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] == "websocket":
                opened.append(scope["path"])
                return
            headers = [(b"content-length", b"%d" % size)]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await send({"type": "http.response.body", "body": bytes(size)})

        async with served(serve) as server:
            reader, writer = await server.connect()
            writer.write(GET)
            await until(lambda: bool(server.state.connections))
            http = server.connection
            await until(lambda: http.cycle is not None and http.cycle.response_complete)
            writer.write(HANDSHAKE)
            await until(lambda: bool(opened or http.stopped))

            assert b"HTTP/1.1 400 " in (await reader.read())[size:]
            writer.close()

        assert not opened

    in_uvloop(test())
