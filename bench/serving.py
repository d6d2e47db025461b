"""Serves what stands beside Darkroom in the comparison, as uvicorn serves Darkroom."""

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager

import uvicorn
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import BaseRoute, Route


def serve(
    routes: Sequence[BaseRoute],
    lifespan: Callable[[Starlette], AbstractAsyncContextManager[None]],
    *,
    port: int,
) -> None:
    healthy = Route("/healthz", lambda _: Response("ok"))
    uvicorn.run(
        Starlette(routes=[*routes, healthy], lifespan=lifespan),
        host="127.0.0.1",
        port=port,
        log_level="warning",
        access_log=False,
        ws_per_message_deflate=False,
    )
