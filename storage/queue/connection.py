"""The connection to NATS: replaced as often as needed, with its stream and consumer set up.

What must stay true: a process starts, runs and stops whether or not NATS can be reached; the URL's
password is in no log; and with `tls://` it is sent over encrypted connections only.
"""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from contextvars import Context
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any, Final
from urllib.parse import SplitResult, unquote, urlsplit

import structlog
from nats.aio.client import Client
from nats.errors import SecureConnWantedError
from nats.js import JetStreamContext
from nats.js.api import AckPolicy, ConsumerConfig, RetentionPolicy, StreamConfig
from nats.js.errors import BadRequestError
from pydantic import SecretStr

from domain.background import cancel_all
from domain.retries import RetryPolicy

log = structlog.get_logger(__name__)

ACK_WAIT_SECONDS: Final = 30.0
"""After this time, an unacknowledged hint is delivered to another worker."""
MAX_UNACKNOWLEDGED: Final = 10_000
HINT_LIFE_SECONDS: Final = 900.0
"""No output is queued for longer, so older hints are useless."""
MAX_HINTS: Final = 100_000
HINT_BYTES: Final = 1_024
CONNECT_SECONDS: Final = 10.0
RECONNECT_WAIT_SECONDS: Final = 0.5
_RECONNECT: Final = RetryPolicy(
    first_pause_seconds=RECONNECT_WAIT_SECONDS, longest_pause_seconds=5.0
)
GIVE_UP_SECONDS: Final = 30.0
"""The client reconnects automatically. A connection that is still lost after this time
is replaced.
"""
LOOK_SECONDS: Final = 1.0
CHECK_SECONDS: Final = 5.0
PING_SECONDS: Final = 10
FLUSH_SECONDS: Final = 5
CLOSE_SECONDS: Final = 1.0
DEFAULT_PORT: Final = 4222
_OTHER_STREAM_CONFIGURATION: Final = 10058


@dataclass(frozen=True, slots=True)
class QueueNames:
    """The names of a deployment's queue in NATS, which only processes of one database share."""

    database: str

    @property
    def stream(self) -> str:
        return f"{self.database}-outputs"

    @property
    def subject(self) -> str:
        return f"{self.database}.outputs"

    @property
    def consumer(self) -> str:
        return f"{self.database}-workers"


@dataclass(frozen=True, slots=True, eq=False)
class Connected:
    """One connection, until it is lost or given up."""

    client: Client
    jetstream: JetStreamContext


class NatsConnection:
    """Keeps a connection while `serve` is open. Its users wait in `reached` for the next one."""

    def __init__(
        self,
        url: SecretStr,
        *,
        database: str,
        ca_file: Path | None = None,
        ack_wait_seconds: float = ACK_WAIT_SECONDS,
    ) -> None:
        self.names = QueueNames(database)
        self._url = url
        self._ca_file = ca_file
        self._ack_wait_seconds = ack_wait_seconds
        self._connected: Connected | None = None
        self._is_connected = asyncio.Event()
        self._reported_reachable: bool | None = None

    @asynccontextmanager
    async def serve(self) -> AsyncIterator[None]:
        # The task belongs to no request, and has no context variables of one.
        keeper = asyncio.create_task(
            self._keep_connected(), name="connection to NATS", context=Context()
        )
        try:
            yield
        finally:
            await cancel_all([keeper], max_seconds=CLOSE_SECONDS + LOOK_SECONDS)

    async def wait_until_connected(self) -> Connected:
        """Wait until there is a connection."""
        await self._is_connected.wait()
        assert self._connected is not None
        return self._connected

    def give_up(self, connected: Connected, error: Exception) -> None:
        """Replace a connection that does not work."""
        if connected is self._connected:
            self._is_connected.clear()
            self._report_unreachable(error)

    async def _keep_connected(self) -> None:
        retries = _RECONNECT.begin()
        while True:
            client = Client()  # A closed client cannot be opened again.
            try:
                async with asyncio.timeout(CONNECT_SECONDS):
                    self._connected = await self._connect(client)
                retries = _RECONNECT.begin()
                self._report_reachable()
                self._is_connected.set()
                await self._watch(self._connected)
            except Exception as error:
                timed_out = isinstance(error, TimeoutError)
                self._report_unreachable(client.last_error if timed_out else error)
            finally:
                self._is_connected.clear()
                await _close(client)
            await retries.pause()

    async def _connect(self, client: Client) -> Connected:
        servers = [urlsplit(server) for server in self._url.get_secret_value().split(",")]
        await client.connect(
            [_address(server) for server in servers],
            name=f"darkroom {self.names.database}",
            error_cb=self._report_error,
            max_reconnect_attempts=-1,
            reconnect_time_wait=RECONNECT_WAIT_SECONDS,  # type: ignore[arg-type] # it may be 0.5
            # By default, a server that has disappeared is noticed only after six minutes.
            ping_interval=PING_SECONDS,
            max_outstanding_pings=2,
            flush_timeout=FLUSH_SECONDS,
            **_credentials(servers, client),
            **_authorities(self._ca_file),
        )
        connected = Connected(client, client.jetstream())
        await self._set_up(connected.jetstream)
        return connected

    async def _set_up(self, jetstream: JetStreamContext) -> None:
        stream = StreamConfig(
            name=self.names.stream,
            subjects=[self.names.subject],
            retention=RetentionPolicy.WORK_QUEUE,
            max_age=HINT_LIFE_SECONDS,
            max_msgs=MAX_HINTS,
            max_msg_size=HINT_BYTES,
        )
        consumer = ConsumerConfig(
            durable_name=self.names.consumer,
            filter_subject=self.names.subject,
            ack_policy=AckPolicy.EXPLICIT,
            ack_wait=self._ack_wait_seconds,
            max_ack_pending=MAX_UNACKNOWLEDGED,
        )
        try:
            await jetstream.add_stream(stream)
        except BadRequestError as error:
            if error.err_code != _OTHER_STREAM_CONFIGURATION:
                raise
            log.info("stream used as it is configured", stream=self.names.stream)
        await jetstream.add_consumer(self.names.stream, consumer)

    async def _watch(self, connected: Connected) -> None:
        """Return when the connection has been given up, by its users or by the client."""
        client = connected.client
        in_touch_at = checked_at = monotonic()
        while self._is_connected.is_set() and not client.is_closed:
            if client.is_connected:
                in_touch_at = monotonic()
                self._report_reachable()
                if in_touch_at - checked_at > CHECK_SECONDS:
                    checked_at = in_touch_at
                    await self._check(connected.jetstream)
            elif monotonic() - in_touch_at > GIVE_UP_SECONDS:
                return
            else:
                self._report_unreachable(client.last_error)
            await asyncio.sleep(LOOK_SECONDS)

    async def _check(self, jetstream: JetStreamContext) -> None:
        """Raise where NATS has lost its files: it would answer no request for hints."""
        with suppress(TimeoutError):
            async with asyncio.timeout(CHECK_SECONDS):
                await jetstream.consumer_info(self.names.stream, self.names.consumer)

    async def _report_error(self, error: Exception) -> None:
        """Log one line for each outage: the client reports each of its attempts."""
        if not self._is_connected.is_set():
            self._report_unreachable(error)

    def _report_unreachable(self, error: Exception | None) -> None:
        if self._reported_reachable is not False:
            self._reported_reachable = False
            reason = "no answer" if error is None else str(error) or type(error).__name__
            log.warning("NATS is unreachable", reason=reason)

    def _report_reachable(self) -> None:
        if not self._reported_reachable:
            self._reported_reachable = True
            log.info("NATS is reachable")


def _address(server: SplitResult) -> str:
    host = f"[{server.hostname}]" if ":" in (server.hostname or "") else server.hostname
    return f"{server.scheme}://{host}:{server.port or DEFAULT_PORT}"


def _credentials(servers: list[SplitResult], client: Client) -> dict[str, Any]:
    """How to sign in, also at servers that a cluster announces later.

    The client encrypts where the server asks for it, whatever the URL says. An attacker in between
    could omit that; so with `tls://` no secret is sent to a server that does not ask for it.
    """
    encrypted = any(server.scheme == "tls" for server in servers)

    def guard(secret: str) -> Callable[[], str]:
        def get_secret() -> str:
            if encrypted and not client._server_info.get("tls_required"):
                raise SecureConnWantedError
            return secret

        return get_secret

    named = next((server for server in servers if server.username), None)
    if named is None or named.username is None:
        return {}
    if named.password is None:
        return {"token": guard(unquote(named.username))}
    return {"user": guard(unquote(named.username)), "password": guard(unquote(named.password))}


def _authorities(ca_file: Path | None) -> dict[str, Any]:
    """The certificate authorities that are accepted, if they are not the machine's."""
    return {} if ca_file is None else {"tls": ssl.create_default_context(cafile=ca_file)}


async def _close(client: Client) -> None:
    # The task can be abandoned: the client swallows some cancellations.
    closing = asyncio.create_task(client.close(), name="end of a connection to NATS")
    await asyncio.wait([closing], timeout=CLOSE_SECONDS)
    if closing.done() and not closing.cancelled():
        closing.exception()  # A connection that was never open cannot be closed.
