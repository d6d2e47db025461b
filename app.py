"""The ASGI application: routes, middleware, lifespan."""

import asyncio
import re
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final, cast

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware.exceptions import ExceptionMiddleware
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Route, Router
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocket
from uvicorn._types import ASGI3Application
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from assembly.catalogue import load_caption_registry, load_registry, load_trusted_documents
from assembly.objects import image_origins
from assembly.traces import find_exporters
from bootstrap import Api, open_api
from domain.execution.dispatcher import never
from edge.cross_origin import CrossOrigin
from edge.dev_renewal import renewal_route
from edge.dev_tokens import DevelopmentIssuer
from edge.graphiql import graphiql_routes
from edge.graphql_http import GraphQLOverHTTP
from edge.graphql_ws import GraphQLOverWebSocket
from edge.health import HealthRoutes
from edge.hosts import AllowedHosts
from edge.http_requests import wants_page
from edge.loop_rounds import LoopRounds
from edge.responses import error_response
from edge.studio import PATH, SignIn, studio_routes
from edge.traces import TracedRequests
from metrics.requests import ObservedApp, ObservedExecutor
from settings import Settings, origin_pattern, read_settings

GRAPHQL_PATH: Final = "/graphql"
STUDIO_BUILD: Final = Path(__file__).parent / "studio/build"
GRAPHIQL_BUILD: Final = Path(__file__).parent / "graphiql/build"


def create_app(
    settings: Settings | None = None,
    *,
    grace_left: Callable[[], float] | None = None,
    is_ending: Callable[[], bool] = never,
    metrics_listener: socket.socket | None = None,
) -> Starlette:
    """Build the application. Nothing is opened before its lifespan begins.

    `metrics_listener` is the socket for operators, if there is one.
    `grace_left` returns how many seconds runs may still take at the shutdown; without it, they have
    the whole grace period. `is_ending` returns whether the process has been asked to end: no run
    is begun any more, while requests are still answered.
    """
    settings = settings or read_settings()
    _check_files(settings)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[Mapping[str, Any]]:
        async with open_api(
            settings,
            grace_left=grace_left,
            is_ending=is_ending,
            metrics_listener=metrics_listener,
        ) as api:
            router: ASGIApp = ObservedApp(_Routes(settings, api), api.metrics)
            if settings.allowed_hosts:
                router = AllowedHosts(router, settings.allowed_hosts)
            if settings.trusted_proxies:
                router = cast("ASGIApp", _trust_proxies(router, settings.trusted_proxies))
            yield {
                "router": TracedRequests(router, api.tracer),
                "limits": settings.limit,
                "rounds": LoopRounds(asyncio.get_running_loop()),
            }

    return _Application(lifespan=lifespan)


def _check_files(settings: Settings) -> None:
    """Read what the settings lead to. In the lifespan, an error would end in a traceback."""
    if settings.default_models or settings.catalogue is not None:
        load_registry(settings)
    load_trusted_documents(settings)
    if settings.traces:
        find_exporters()
    if settings.default_caption_models:
        load_caption_registry(settings)


class _Application(Starlette):
    """Passes requests and sockets to the router that the lifespan has made, without Starlette's own
    middleware: each layer would cost time per message, and memory per open socket.
    """

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await super().__call__(scope, receive, send)
        else:
            await scope["state"]["router"](scope, receive, send)


def _read_sign_in(settings: Settings) -> SignIn | None:
    """How people sign in to the studio, if the settings say so."""
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


def _trust_proxies(app: ASGIApp, trusted: Sequence[str]) -> object:
    """Take the client's address from what these proxies forward."""
    return ProxyHeadersMiddleware(cast("ASGI3Application", app), list(trusted))


class _Routes:
    """Routes operations first, since nearly all requests are operations."""

    def __init__(self, settings: Settings, api: Api) -> None:
        origins = origin_pattern(settings.allowed_origins)
        limits, metrics = settings.limit, api.metrics
        executor = ObservedExecutor(api.services, limits, api.persisted_documents, metrics=metrics)
        metrics.add_gauge(
            "darkroom_subscription_groups",
            "Groups of subscribers who get the same answers, each of which is made once.",
            lambda: executor.group_count,
        )
        http = GraphQLOverHTTP(
            executor,
            api.admission,
            show_ide=settings.environment == "development",
            call_when_blocked=api.blocked_viewers.call_when_blocked,
            limits=limits,
        )
        self._http = CrossOrigin(
            http,
            allow_origin_regex=origins,
            allow_methods=["GET", "POST"],
            allow_headers=["*"],  # tracing and client libraries add their own; cookies are unused
            expose_headers=["retry-after", "traceparent", "x-request-id"],
            max_age=7200,
        )
        self._websocket = GraphQLOverWebSocket(
            executor,
            api.admission,
            allowed_origins=re.compile(origins),
            call_when_deleted=api.services.updates.viewers.call_when_deleted,
            call_when_blocked=api.blocked_viewers.call_when_blocked,
            limits=limits,
        )
        handlers = {HTTPException: _answer_http_exception}
        self._others = ExceptionMiddleware(_make_router(settings, api), handlers)

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        if scope["path"] != GRAPHQL_PATH:
            scope["app"] = self  # Without it, routes answer a wrong method in plain text.
            return self._others(scope, receive, send)
        answer = self._http if scope["type"] == "http" else self._websocket
        return answer(scope, receive, send)


def _make_router(settings: Settings, api: Api) -> Router:
    development_routes: list[BaseRoute] = []
    if settings.environment == "development":
        issuer = DevelopmentIssuer(settings.data_dir)
        development_routes = [
            renewal_route(api.admission, issuer),
            *graphiql_routes(GRAPHIQL_BUILD),
        ]

    async def home(request: Request) -> Response:
        return RedirectResponse(PATH if wants_page(request) else GRAPHQL_PATH)

    return Router(
        [
            *HealthRoutes(api.database.ping).routes,
            Route("/", home),
            *development_routes,
            *studio_routes(
                STUDIO_BUILD,
                environment=settings.environment,
                image_origins=image_origins(settings),
                sign_in=_read_sign_in(settings),
            ),
            *api.object_routes,
            *api.logo_routes,
        ],
        # A redirect would go to the host that the request names.
        redirect_slashes=False,
        default=_answer_not_found,
    )


async def _answer_http_exception(_: Request, error: Exception) -> Response:
    """What Starlette's routes refuse: a wrong method, and files of GraphiQL that do not exist."""
    assert isinstance(error, HTTPException)
    if error.status_code == HTTPStatus.NOT_FOUND:
        return _not_found_response()
    message, headers = "This method is not supported here.", error.headers
    return error_response(error.status_code, "METHOD_NOT_ALLOWED", message, headers=headers)


def _not_found_response() -> Response:
    return error_response(404, "NOT_FOUND", "There is nothing here.")


async def _answer_not_found(scope: Scope, receive: Receive, send: Send) -> None:
    answer = _not_found_response()
    if scope["type"] == "websocket":
        await WebSocket(scope, receive, send).send_denial_response(answer)
    else:
        await answer(scope, receive, send)
