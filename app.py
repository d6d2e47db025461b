"""The ASGI application: routes, middleware, lifespan."""

import re
import socket
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final, cast

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Mount, Route, Router, WebSocketRoute
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocket
from uvicorn._types import ASGI3Application
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from assembly.catalogue import load_caption_registry, load_registry, load_trusted_documents
from assembly.objects import image_origins
from assembly.traces import open_exporters
from bootstrap import Api, open_api
from edge.dev_renewal import renewal_route
from edge.dev_tokens import DevelopmentIssuer
from edge.graphiql import graphiql_routes
from edge.graphql_http import GraphQLOverHTTP
from edge.graphql_ws import GraphQLOverWebSocket
from edge.health import HealthRoutes
from edge.hosts import KnownHosts
from edge.http_requests import wants_page
from edge.responses import error_response
from edge.studio import PATH, SignIn, studio_routes
from edge.traces import FollowedRequests
from metrics.requests import ObservedApp, ObservedExecutor
from settings import Settings, origin_pattern, read_settings

STUDIO_BUILD: Final = Path(__file__).parent / "studio/build"
GRAPHIQL_BUILD: Final = Path(__file__).parent / "graphiql/build"


def create_app(
    settings: Settings | None = None,
    *,
    grace_left: Callable[[], float] | None = None,
    metrics_listener: socket.socket | None = None,
) -> Starlette:
    """Build the application. Nothing is opened before its lifespan begins.

    `metrics_listener` is where operators are answered, if anywhere.
    `grace_left` returns how many seconds runs may still take at the shutdown: the whole grace where
    it is not given.
    """
    settings = settings or read_settings()
    # Here a mistake ends in a sentence, in the lifespan it would end in a traceback.
    if settings.default_models or settings.catalogue is not None:
        load_registry(settings)
    load_trusted_documents(settings)
    if settings.traces:
        open_exporters()
    if settings.default_caption_models:
        load_caption_registry(settings)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[Mapping[str, Any]]:
        async with open_api(
            settings, grace_left=grace_left, metrics_listener=metrics_listener
        ) as api:
            router: ASGIApp = ObservedApp(_make_router(settings, api), api.metrics)
            if settings.allowed_hosts:
                router = KnownHosts(router, settings.allowed_hosts)
            if settings.trusted_proxies:
                router = cast("ASGIApp", _behind_proxies(router, settings.trusted_proxies))
            yield {"router": FollowedRequests(router, api.tracer), "limits": settings.limit}

    return Starlette(routes=[Mount("/", app=_dispatch)], lifespan=lifespan)


def _sign_in(settings: Settings) -> SignIn | None:
    """Where people sign in to the studio, if there is such a place."""
    if settings.studio_client_id is None or settings.token_issuer is None:
        return None
    audience = next(iter(settings.token_audience), None)
    return SignIn(
        settings.token_issuer,
        settings.studio_client_id,
        settings.studio_scopes,
        audience if audience != settings.studio_client_id else None,
        settings.studio_sign_in_urls,
    )


def _behind_proxies(app: ASGIApp, trusted: Sequence[str]) -> object:
    """Take the client's address from what these proxies forward."""
    return ProxyHeadersMiddleware(cast("ASGI3Application", app), list(trusted))


async def _dispatch(scope: Scope, receive: Receive, send: Send) -> None:
    """Hand over to the routes that the lifespan has made."""
    await scope["state"]["router"](scope, receive, send)


def _make_router(settings: Settings, api: Api) -> Router:
    origins = origin_pattern(settings.allowed_origins)
    executor = ObservedExecutor(api.services, settings.limit, api.persisted_documents, api.metrics)
    api.metrics.read(
        "darkroom_subscription_groups",
        "Groups of subscribers who get the same answers, each of which is made once.",
        lambda: executor.group_count,
    )
    in_development = settings.environment == "development"
    http = GraphQLOverHTTP(
        executor,
        api.admission,
        show_ide=in_development,
        call_when_blocked=api.blocked_viewers.call_when_blocked,
    )
    websocket = GraphQLOverWebSocket(
        executor,
        api.admission,
        allowed_origins=re.compile(origins),
        call_when_deleted=api.services.viewer_updates.call_when_deleted,
        call_when_blocked=api.blocked_viewers.call_when_blocked,
        limits=settings.limit,
    )
    cors = Middleware(
        CORSMiddleware,
        allow_origin_regex=origins,
        allow_methods=["GET", "POST"],
        allow_headers=["*"],  # tracing and client libraries add their own; cookies are never used
        expose_headers=["retry-after", "traceparent", "x-request-id"],
        max_age=7200,
    )

    for_developers: list[BaseRoute] = []
    if in_development:
        issuer = DevelopmentIssuer(settings.data_dir)
        for_developers = [renewal_route(api.admission, issuer), *graphiql_routes(GRAPHIQL_BUILD)]

    async def home(request: Request) -> Response:
        return RedirectResponse(PATH if wants_page(request) else "/graphql")

    return Router(
        [
            Route("/graphql", http, middleware=[cors]),
            WebSocketRoute("/graphql", websocket),
            *HealthRoutes(api.database.ping).routes,
            Route("/", home),
            *for_developers,
            *studio_routes(
                STUDIO_BUILD,
                environment=settings.environment,
                image_origins=image_origins(settings),
                sign_in=_sign_in(settings),
            ),
            *api.object_routes,
            *api.logo_routes,
        ],
        # It would lead to the host that the request names.
        redirect_slashes=False,
        default=_not_found,
    )


async def _not_found(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "websocket":
        await WebSocket(scope, receive, send).close()
    else:
        await error_response(404, "NOT_FOUND", "There is nothing here.")(scope, receive, send)
