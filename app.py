"""The ASGI application: routes, middleware, lifespan."""

import re
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Mount, Route, Router, WebSocketRoute
from starlette.types import Receive, Scope, Send

from bootstrap import Services, open_services
from domain.errors import Overloaded
from edge.admission import Admission
from edge.execution import OperationExecutor
from edge.graphql_http import GraphQLOverHTTP
from edge.graphql_ws import GraphQLOverWebSocket
from settings import Settings, origin_pattern, read_settings


def create_app(
    settings: Settings | None = None, *, grace_left: Callable[[], float] | None = None
) -> Starlette:
    """Build the application. Nothing is opened before its lifespan begins.

    `grace_left` tells at the end how many seconds runs may still take; by itself, the whole grace.
    """
    settings = settings or read_settings()

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[Mapping[str, Any]]:
        async with open_services(settings, grace_left=grace_left) as services:
            yield {"router": _router(settings, services)}

    return Starlette(routes=[Mount("/", app=_opened)], lifespan=lifespan)


async def _opened(scope: Scope, receive: Receive, send: Send) -> None:
    """Hands over to the routes that came with the open services."""
    await scope["state"]["router"](scope, receive, send)


def _router(settings: Settings, services: Services) -> Router:
    origins = origin_pattern(settings.allowed_origins)
    executor = OperationExecutor(services.make_context)
    admission = Admission(services.authenticator, services.viewers)
    http = GraphQLOverHTTP(executor, admission, show_ide=settings.environment == "development")
    websocket = GraphQLOverWebSocket(executor, admission, allowed_origins=re.compile(origins))
    cors = Middleware(
        CORSMiddleware,
        allow_origin_regex=origins,
        allow_methods=["GET", "POST"],
        allow_headers=["*"],  # tracing and client libraries add their own; cookies are never used
        expose_headers=["retry-after"],
        max_age=7200,
    )

    async def healthz(_: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def readyz(_: Request) -> Response:
        try:
            await services.database.ping()
        except Overloaded:
            return JSONResponse({"status": "the database is away"}, status_code=503)
        return JSONResponse({"status": "ok"})

    async def home(_: Request) -> Response:
        return RedirectResponse("/graphql")

    return Router(
        [
            Route("/graphql", http, middleware=[cors]),
            WebSocketRoute("/graphql", websocket),
            Route("/healthz", healthz),
            Route("/readyz", readyz),
            Route("/", home),
            *services.object_routes,
        ]
    )
