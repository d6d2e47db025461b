"""`python -m serve`: one Darkroom process, with a mongod of its own where none is named.

What must stay true: whatever ends this process in an orderly way, requests, runs and services end
first and mongod last; and what a person can mend is said in a sentence, not in a traceback.
"""

import asyncio
import errno
import importlib
import math
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any, Final

import structlog
import uvicorn
from pydantic import SecretStr
from pymongo import AsyncMongoClient
from pymongo.errors import PyMongoError, ServerSelectionTimeoutError

from issuer import TOKEN_LIFE, DevelopmentIssuer
from logs import configure_logs
from mongod import NO_MONGOD, KeptMongod, MongodFailed, find_mongod, run_mongod
from settings import Settings, SettingsError, read_settings

WEBSOCKET_MESSAGE_BYTES: Final = 262_144
PING_SECONDS: Final = 20.0
UNACKNOWLEDGED_MILLISECONDS: Final = 20_000
KEEP_ALIVE_SECONDS: Final = 5
BACKLOG: Final = 1_024
CLOSE_SECONDS: Final = 4.0
"""What services get to close, after the grace that requests had."""
FORCED_SECONDS: Final = 0.5
ANSWER_SECONDS: Final = 30.0
PROBE_MILLISECONDS: Final = 3_000
EXAMPLE_VIEWER: Final = "ana"
EXAMPLE_QUERY: Final = '{"query":"{ viewer { id } }"}'

STOPPED: Final = 0
FAILED: Final = 1
CANNOT_START: Final = 2

log = structlog.get_logger(__name__)


class CannotStart(Exception):
    """Something that a person can mend, said in a sentence."""


def main() -> int:
    """Serve until told to stop; return the exit code."""
    try:
        settings = read_settings()
        configure_logs(settings)
        _make_data_dir(settings.data_dir)
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            return runner.run(_serve(settings))
    except (SettingsError, CannotStart) as error:
        _complain(error)
        return CANNOT_START
    except MongodFailed as error:
        _complain(error)
        return FAILED
    except asyncio.CancelledError:
        return STOPPED  # told to stop before it served


async def _serve(settings: Settings) -> int:
    stop = _Stop(settings.shutdown_grace)
    with stop.at_signals(), _listener(settings) as listener:
        # The better part of a second, which the start of mongod hides.
        importing = asyncio.create_task(asyncio.to_thread(importlib.import_module, "app"))
        async with _database(settings) as mongod:
            await importing
            if mongod is not None:
                uri = SecretStr(mongod.uri)
                settings = settings.model_copy(update={"mongodb_uri": uri})
            server = _server(settings)
            code = await _until_stopped(server, listener, stop, settings, mongod)
    if stop.forced:
        # What did not end in its time would keep the loop from closing.
        _complain("Stopped without waiting any longer.")
        os._exit(FAILED)
    return code


async def _until_stopped(
    server: "_Server",
    listener: socket.socket,
    stop: "_Stop",
    settings: Settings,
    mongod: KeptMongod | None,
) -> int:
    serving = asyncio.create_task(server.serve([listener]), name="server")
    announcing = asyncio.create_task(_announce(server, settings, mongod), name="announcement")
    given_up = asyncio.create_task(_given_up(mongod), name="wait for the end of mongod")
    stop.ends(server, serving)
    try:
        await asyncio.wait([serving, given_up], return_when=asyncio.FIRST_COMPLETED)
        if not serving.done():
            log.error("stopping, since mongod is gone")
            stop.begin()
            await asyncio.wait([serving])
    finally:
        announcing.cancel()
        given_up.cancel()
        await asyncio.wait([announcing, given_up])
    if not given_up.cancelled():
        given_up.result()
    if serving.cancelled():
        return FAILED
    serving.result()
    return STOPPED if server.started else FAILED


async def _given_up(mongod: KeptMongod | None) -> None:
    if mongod is None:
        await asyncio.Event().wait()
    else:
        await mongod.ended()


class _Stop:
    """The first signal asks for an orderly end, a second Ctrl-C for one at once."""

    def __init__(self, grace_seconds: float) -> None:
        self.forced = False
        self._limit_seconds = math.ceil(grace_seconds) + CLOSE_SECONDS
        self._loop = asyncio.get_running_loop()
        self._main = asyncio.current_task()
        self._server: _Server | None = None
        self._serving: asyncio.Task[None] | None = None
        self._begun = False

    @contextmanager
    def at_signals(self) -> Iterator[None]:
        signals = [
            number
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
            # Whoever started us with nohup or in the background wants it to be ignored.
            if signal.getsignal(number) is not signal.SIG_IGN
        ]
        for number in signals:
            self._loop.add_signal_handler(number, self._at_signal, number)
        try:
            yield
        finally:
            for number in signals:
                self._loop.remove_signal_handler(number)

    def ends(self, server: "_Server", serving: asyncio.Task[None]) -> None:
        """From now on the server is what is to be ended."""
        self._server, self._serving = server, serving

    def begin(self) -> None:
        if self._begun:
            return
        self._begun = True
        if self._server is not None:
            self._server.should_exit = True
            self._loop.call_later(self._limit_seconds, self._force)
        elif self._main is not None:
            self._main.cancel()

    def _at_signal(self, number: int) -> None:
        if not self._begun:
            log.info("stopping", signal=signal.Signals(number).name)
            self.begin()
        elif number == signal.SIGINT:
            self._force()

    def _force(self) -> None:
        if self._server is not None and self._serving is not None and not self._serving.done():
            self.forced = True
            self._server.force_exit = True
            self._loop.call_later(FORCED_SECONDS, self._serving.cancel)


class _Server(uvicorn.Server):
    """uvicorn, but the process is ours: there is a mongod to be stopped after it."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        # uvicorn's own handlers raise each signal again once it has served.
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        try:
            await super().startup(sockets)
        except SystemExit:
            self.should_exit = True
        except OSError as error:
            await self.lifespan.shutdown()
            raise CannotStart(
                _why_not_listening(error, self.config.host, self.config.port)
            ) from error


def _server(settings: Settings) -> _Server:
    from app import create_app  # noqa: PLC0415 - the import has been under way since the start

    return _Server(
        uvicorn.Config(
            create_app(settings),
            host=settings.host,
            port=settings.port,
            lifespan="on",
            log_config=None,
            access_log=False,
            server_header=False,
            # A client's address is not used for anything, so nobody needs to be believed about it.
            proxy_headers=False,
            backlog=BACKLOG,
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=math.ceil(settings.shutdown_grace),
            ws_max_size=WEBSOCKET_MESSAGE_BYTES,
            # Images travel by link. The rest is not worth a compressor's memory for each socket.
            ws_per_message_deflate=False,
            # A ping is data that must be acknowledged, which lets the kernel end dead connections.
            # A deadline for its answer would close with 1011, after which clients do not come back.
            ws_ping_interval=PING_SECONDS,
            ws_ping_timeout=None,
        )
    )


@contextmanager
def _listener(settings: Settings) -> Iterator[socket.socket]:
    """A socket on our address, taken before anything slow begins."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
    except OSError as error:
        raise CannotStart(_why_not_listening(error, settings.host, settings.port)) from error
    with listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if sys.platform == "linux":
            # Otherwise a client that stops reading is never dropped.
            listener.setsockopt(
                socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNACKNOWLEDGED_MILLISECONDS
            )
        try:
            listener.bind(address)
        except OSError as error:
            raise CannotStart(_why_not_listening(error, settings.host, settings.port)) from error
        yield listener


def _why_not_listening(error: OSError, host: str, port: int) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"Port {port} of {host} is in use: set DARKROOM_PORT to another one."
    reason = error.strerror or type(error).__name__
    return f"DARKROOM_HOST={host} and DARKROOM_PORT={port} cannot be listened on: {reason}."


@asynccontextmanager
async def _database(settings: Settings) -> AsyncIterator[KeptMongod | None]:
    """The mongod that we need to run, or None where another MongoDB is named."""
    if settings.mongodb_uri is not None:
        if settings.environment == "development":
            await _probe(settings.mongodb_uri.get_secret_value())
        yield None
        return
    binary = await asyncio.to_thread(find_mongod)
    if binary is None:
        raise CannotStart(NO_MONGOD)
    async with run_mongod(settings.data_dir, binary=binary) as mongod:
        yield mongod


async def _probe(uri: str) -> None:
    # The driver's own words are kept back: they can hold parts of the URI, and so a password.
    client: AsyncMongoClient[dict[str, Any]]
    try:
        async with AsyncMongoClient(uri, serverSelectionTimeoutMS=PROBE_MILLISECONDS) as client:
            hello = await client.admin.command("hello")
    except ServerSelectionTimeoutError:
        reason = "does not answer"
    except (PyMongoError, ValueError) as error:
        reason = f"cannot be used ({type(error).__name__})"
    else:
        if "setName" in hello:
            return
        reason = "is no replica set, which transactions and change streams need"
    raise CannotStart(f"The MongoDB of DARKROOM_MONGODB_URI {reason}; compose.yaml starts one.")


async def _announce(server: _Server, settings: Settings, mongod: KeptMongod | None) -> None:
    """Tell where we are, once we are there."""
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            while True:
                if server.started and await _answers(settings):
                    break
                await asyncio.sleep(0.02)
    except TimeoutError:
        log.warning("not healthy yet", after_seconds=ANSWER_SECONDS)
        return
    log.info("serving", host=settings.host, port=settings.port, environment=settings.environment)
    if settings.environment == "development":
        _say(_greeting(settings, mongod))


async def _answers(settings: Settings) -> bool:
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


def _greeting(settings: Settings, mongod: KeptMongod | None) -> str:
    address = _authority(settings)
    token = DevelopmentIssuer(settings.data_dir).token(EXAMPLE_VIEWER)
    hours = TOKEN_LIFE.total_seconds() / 3600
    if mongod is None:
        database = "that of DARKROOM_MONGODB_URI"
    else:
        database = f"{mongod.uri}, {'ours' if mongod.is_ours else 'shared with another process'}"
    return f"""
Darkroom is ready.

  GraphQL    http://{address}/graphql
             ws://{address}/graphql (graphql-transport-ws)
  Data       {settings.data_dir}
  MongoDB    {database}
  Stop       Ctrl-C

A token for {EXAMPLE_VIEWER}, good for {hours:.0f} hours; `make -s token VIEWER=bob` prints others:

{token}

Try it:

curl -s http://{address}/graphql -H 'Content-Type: application/json' \\
  -H 'Authorization: Bearer {token}' \\
  -d '{EXAMPLE_QUERY}'
"""


def _authority(settings: Settings) -> str:
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    return f"{host}:{settings.port}"


def _make_data_dir(path: Path) -> None:
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise CannotStart(f"DARKROOM_DATA_DIR={path} cannot be made: {error.strerror}.") from error
    if not os.access(path, os.R_OK | os.W_OK | os.X_OK):
        raise CannotStart(f"DARKROOM_DATA_DIR={path} cannot be written.")


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop  # noqa: PLC0415 - there is none for every platform
    except ImportError:
        return None
    return uvloop.new_event_loop


def _say(text: str) -> None:
    try:
        print(text, flush=True)
    except OSError:
        # Nobody reads any more. Without this Python would try again at its end, and fail.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _complain(problem: object) -> None:
    with suppress(OSError):
        print(problem, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
