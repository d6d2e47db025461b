"""The address of a process for operators: metrics and health, of workers too."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import uvicorn
from prometheus_client.exposition import choose_encoder
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, Router

from edge.health import HealthRoutes
from edge.http_protocol import HttpProtocol
from edge.server import QuietServer
from metrics.backlog import BacklogCollector
from metrics.process import measure_process
from metrics.series import Metrics

_MAX_CONNECTIONS: Final = 32
_END_SECONDS: Final = 2


@asynccontextmanager
async def serve_metrics(
    listener: socket.socket,
    metrics: Metrics,
    *,
    backlog: BacklogCollector,
    health: HealthRoutes,
) -> AsyncIterator[None]:
    """Answer `/metrics`, `/healthz` and `/readyz` until the block ends."""
    metrics.registry.register(backlog)

    async def show(request: Request) -> Response:
        await backlog.refresh()
        encode, media_type = choose_encoder(request.headers.get("accept", ""))
        return Response(encode(metrics.registry), headers={"Content-Type": media_type})

    server = QuietServer(
        uvicorn.Config(
            Router([*health.routes, Route("/metrics", show)]),
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            http=HttpProtocol,
            ws="none",
            limit_concurrency=_MAX_CONNECTIONS,
            timeout_graceful_shutdown=_END_SECONDS,
        )
    )
    # A client that connects before the server runs waits for it, and is not refused.
    listener.listen()
    async with measure_process(metrics):
        serving = asyncio.create_task(server.serve([listener]), name="metrics server")
        try:
            yield
        finally:
            server.end()
            await asyncio.wait([serving])
