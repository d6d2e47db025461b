"""The handshake of a WebSocket, and what arrives with it, as the application sees them."""

from starlette.types import Receive, Scope, Send

from tests.edge.test_hostile_sockets import HANDSHAKE
from tests.edge.test_loop_rounds import in_uvloop, served


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
