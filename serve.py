"""`python -m serve`: one Darkroom process, with a built-in mongod unless a MongoDB is configured.

What must stay true: when this process ends in order, requests, runs and services end first and
mongod last; and a problem that a person can fix is explained in a sentence, not in a traceback.
"""

import asyncio
import math
import os
import socket
import sys
from collections.abc import Awaitable
from typing import Final

import structlog
import uvicorn
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from domain.background import run_in_background
from domain.errors import Overloaded
from edge.dev_tokens import TOKEN_LIFE, DevelopmentIssuer
from edge.server import QuietServer
from edge.studio import PATH as STUDIO_PATH
from runtime import garbage_collection
from runtime.lifecycle import (
    DATABASE_AWAY,
    FAILED,
    STOPPED,
    CannotStart,
    Stop,
    exit_code,
    provide_database,
    run_process,
)
from runtime.listening import explain_bind_error, listen, listen_for_operators
from runtime.mongod_owner import OwnedMongod
from settings import Settings

LISTEN_BACKLOG: Final = 1_024
REQUEST_SECONDS: Final = 10
"""How long requests get to finish; runs get the rest of the grace period."""
CLOSE_SECONDS: Final = 4.0
"""How long services get to close, after the grace period."""
HEALTHY_SECONDS: Final = 30.0
THREAD_SWITCH_SECONDS: Final = 0.001
"""After how long a thread that parses a document lets the event loop run. Python's default is
0.005, and a request may have to wait several times.
"""
EXAMPLE_VIEWER: Final = "ana"
EXAMPLE_QUERY: Final = '{"query":"{ viewer { id } }"}'

log = structlog.get_logger(__name__)


def main() -> int:
    """Serve until a signal; return the exit code."""
    sys.setswitchinterval(THREAD_SWITCH_SECONDS)
    return run_process(_serve)


async def _serve(settings: Settings) -> int:
    stop = Stop(grace_seconds=settings.shutdown_grace, close_seconds=CLOSE_SECONDS)
    with (
        stop.at_signals(),
        listen(settings.host, settings.port, "host", "port") as listener,
        listen_for_operators(settings) as metrics_listener,
    ):
        # This takes most of a second: it runs while mongod starts.
        importing = asyncio.create_task(asyncio.to_thread(garbage_collection.import_module, "app"))
        async with provide_database(settings, shares_mongod=True) as (complete, mongod):
            await importing
            server = _make_server(complete, stop, metrics_listener)
            serving = asyncio.create_task(server.serve([listener]), name="server")
            database = _describe_database(settings, complete, mongod)
            async with run_in_background(
                _announce(server, complete, database), name="announcement"
            ):
                await stop.watch(serving, mongod, end=server.end, hurry=server.hurry)
    ended = serving.done() and not serving.cancelled() and server.started
    return exit_code(stop, STOPPED if ended else FAILED)


class _Server(QuietServer):
    """A server that leaves the exit code and mongod's end to its process."""

    def hurry(self) -> None:
        self.force_exit = True

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        try:
            await super().startup(sockets)
        except SystemExit:
            self.should_exit = True
        except OSError as error:
            await self.lifespan.shutdown()
            raise CannotStart(
                explain_bind_error(error, self.config.host, self.config.port, "host", "port")
            ) from error


def _make_server(settings: Settings, stop: Stop, metrics_listener: socket.socket | None) -> _Server:
    from app import create_app  # noqa: PLC0415 - imported in a thread since the start
    from edge.frames import WebSocketProtocol  # noqa: PLC0415 - with it
    from edge.http_protocol import HttpProtocol  # noqa: PLC0415 - with it

    return _Server(
        uvicorn.Config(
            _explain_startup_failure(
                create_app(
                    settings,
                    grace_left=stop.grace_left,
                    is_ending=stop.is_ending,
                    metrics_listener=metrics_listener,
                )
            ),
            host=settings.host,
            port=settings.port,
            interface="asgi3",
            lifespan="on",
            log_config=None,
            access_log=False,
            server_header=False,
            # The application does this itself, for the proxies in its settings.
            proxy_headers=False,
            backlog=LISTEN_BACKLOG,
            timeout_keep_alive=settings.limit.idle_seconds,
            timeout_graceful_shutdown=math.ceil(min(REQUEST_SECONDS, settings.shutdown_grace)),
            http=HttpProtocol,
            ws=WebSocketProtocol,
            ws_max_size=settings.limit.body_bytes,
            # Images are fetched by URL; the rest is not worth a compressor's memory per socket.
            ws_per_message_deflate=False,
        )
    )


def _explain_startup_failure(app: ASGIApp) -> ASGIApp:
    """Replace the traceback by a sentence if the database becomes unreachable during startup."""

    def serve(scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        async def send_explained(message: Message) -> None:
            # The message is the traceback of the exception that is being handled.
            is_failure = message["type"] == "lifespan.startup.failed"
            if is_failure and isinstance(sys.exc_info()[1], Overloaded):
                message = {**message, "message": DATABASE_AWAY}
            await send(message)

        return app(scope, receive, send_explained if scope["type"] == "lifespan" else send)

    return serve


async def _announce(server: _Server, settings: Settings, database: str) -> None:
    """Print where the server listens, once it is healthy."""
    try:
        async with asyncio.timeout(HEALTHY_SECONDS):
            while True:
                if server.started and await _is_healthy(settings):
                    break
                await asyncio.sleep(0.02)
    except TimeoutError:
        log.warning("not healthy yet", after_seconds=HEALTHY_SECONDS)
        return
    garbage_collection.freeze()
    log.info("serving", host=settings.host, port=settings.port, environment=settings.environment)
    if settings.environment == "development":
        _print(_describe_server(settings, database))


async def _is_healthy(settings: Settings) -> bool:
    request = f"GET /healthz HTTP/1.1\r\nHost: {_authority(settings)}\r\nConnection: close\r\n\r\n"
    try:
        reader, writer = await asyncio.open_connection(settings.host, settings.port)
        try:
            writer.write(request.encode())
            status = await reader.readline()
        finally:
            writer.close()
    except OSError:
        return False
    return status.split()[1:2] == [b"200"]


def _describe_database(given: Settings, complete: Settings, mongod: OwnedMongod | None) -> str:
    if given.mongodb_uri is not None or complete.mongodb_uri is None:
        return "that of DARKROOM_MONGODB_URI"
    starter = "another process" if mongod is None else "this process"
    return f"{complete.mongodb_uri.get_secret_value()}, started by {starter}"


def _describe_server(settings: Settings, database: str) -> str:
    address = _authority(settings)
    token = DevelopmentIssuer(settings.data_dir).token(EXAMPLE_VIEWER)
    hours = TOKEN_LIFE.total_seconds() / 3600
    return f"""
Darkroom is ready. Open the studio, signed in as {EXAMPLE_VIEWER}:

http://{address}{STUDIO_PATH}#token={token}

  GraphQL    http://{address}/graphql
             ws://{address}/graphql (graphql-transport-ws)
  Data       {settings.data_dir}
  MongoDB    {database}
  Stop       Ctrl-C

A token for {EXAMPLE_VIEWER}, valid for {hours:.0f} hours; `make -s token VIEWER=bob` prints others:

{token}

Try the API:

curl -s http://{address}/graphql -H 'Content-Type: application/json' \\
  -H 'Authorization: Bearer {token}' \\
  -d '{EXAMPLE_QUERY}'
"""


def _authority(settings: Settings) -> str:
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    return f"{host}:{settings.port}"


def _print(text: str) -> None:
    try:
        print(text, flush=True)
    except OSError:
        # Nobody reads the output. Without this, Python would fail when it flushes at its exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    sys.exit(main())
