"""Serves an application over connections that it can cut at any byte of what it writes."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import uvicorn
from starlette.requests import Request
from starlette.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

_GRACE_SECONDS: Final = 1


class Connection:
    """A transport that can be made to stop passing on what is written to it."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._left: int | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def cut_after(self, byte_count: int) -> None:
        """Let this many more bytes through, then end the connection."""
        self._left = byte_count

    def write(self, data: bytes) -> None:
        if self._left is None:
            self._transport.write(data)
            return
        passed, self._left = data[: self._left], max(0, self._left - len(data))
        if passed:
            self._transport.write(passed)
        if not self._left:
            self._transport.close()


class Connections:
    """All open connections of one server."""

    def __init__(self) -> None:
        self._open: dict[tuple[str, int], Connection] = {}

    def of(self, request: Request) -> Connection:
        """The connection that a request has come by."""
        assert request.client is not None
        return self._open[(request.client.host, request.client.port)]

    def protocol(self) -> type[asyncio.Protocol]:
        """The HTTP protocol, for uvicorn, whose connections are kept here."""
        kept = self._open

        class Protocol(HttpToolsProtocol):
            def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
                connection = Connection(transport)
                super().connection_made(connection)  # type: ignore[arg-type]
                assert self.client is not None
                kept[self.client] = connection

            def connection_lost(self, exc: Exception | None) -> None:
                if self.client is not None:
                    kept.pop(self.client, None)
                super().connection_lost(exc)

        return Protocol


class _Server(uvicorn.Server):
    def install_signal_handlers(self) -> None:
        """Signals are handled by the server."""


@asynccontextmanager
async def serving_connections(
    app: ASGIApp, connections: Connections, *, port: int = 0
) -> AsyncIterator[str]:
    """Serve on loopback until the block ends; the base URL. Port 0 is any that is free."""
    config = uvicorn.Config(
        app,
        host="127.0.0.1",
        port=port,
        http=connections.protocol(),
        ws="none",
        interface="asgi3",
        proxy_headers=False,
        lifespan="off",
        log_config=None,
        access_log=False,
        timeout_keep_alive=30,
        timeout_graceful_shutdown=_GRACE_SECONDS,
    )
    server = _Server(config)
    task = asyncio.create_task(server._serve(), name="simulator")
    try:
        async with asyncio.timeout(30):
            while not server.started:
                if task.done():
                    task.result()
                    raise RuntimeError("The simulator did not start.")
                await asyncio.sleep(0.005)
        address = server.servers[0].sockets[0].getsockname()
        yield f"http://127.0.0.1:{address[1]}"
    finally:
        server.should_exit = True
        await task
