"""Serves an ASGI application on a free loopback port, in the test's own loop."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import uvicorn
from starlette.types import ASGIApp

from edge.frames import WebSocketProtocol
from edge.http_protocol import HttpProtocol
from tests.ports import PORTS


def free_port() -> int:
    """A port of loopback on which nothing but a server of this process's tests will listen."""
    return PORTS.free()


class _Server(uvicorn.Server):
    def install_signal_handlers(self) -> None:
        """Signals belong to pytest."""


@asynccontextmanager
async def serving(
    app: ASGIApp, port: int, *, ws: type[asyncio.Protocol] = WebSocketProtocol
) -> AsyncIterator[str]:
    """Serve until the block ends; the base URL."""
    config = uvicorn.Config(
        app,
        host="127.0.0.1",
        port=port,
        log_level="warning",
        timeout_graceful_shutdown=2,
        http=HttpProtocol,
        ws=ws,
        ws_per_message_deflate=False,
        proxy_headers=False,
    )
    server = _Server(config)
    task = asyncio.create_task(server._serve())
    try:
        async with asyncio.timeout(30):
            while not server.started:
                if task.done():
                    task.result()
                    raise RuntimeError("The server did not start.")
                await asyncio.sleep(0.01)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        await task
