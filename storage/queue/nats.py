"""Hints through NATS JetStream: taskiq-nats's pull consumer, connected anew as often as needed.

What must stay true: there is a broker from the first moment on, whether or not NATS can be reached;
the URL's password is in no log; and with `tls://` nobody is told it in the clear.
"""

import asyncio
import contextvars
import random
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing, suppress
from functools import partial
from time import monotonic
from typing import Final
from urllib.parse import SplitResult, unquote, urlsplit

import structlog
from nats.aio.client import Client
from nats.errors import SecureConnWantedError
from nats.js.api import AckPolicy, ConsumerConfig, RetentionPolicy, StreamConfig
from nats.js.errors import NoStreamResponseError
from pydantic import SecretStr
from taskiq import AckableMessage, AsyncBroker, BrokerMessage
from taskiq.utils import maybe_awaitable
from taskiq_nats import PullBasedJetStreamBroker

log = structlog.get_logger(__name__)

ACK_WAIT_SECONDS: Final = 30.0
"""After this, a hint whose worker died before it had looked comes to another one."""
MAX_UNACKNOWLEDGED: Final = 10_000
PULL_SECONDS: Final = 5.0
HINT_LIFE_SECONDS: Final = 900.0
"""An output is queued no longer than this, so an older hint is about nothing."""
MAX_HINTS: Final = 100_000
HINT_BYTES: Final = 1_024
CONNECT_SECONDS: Final = 10.0
RECONNECT_WAIT_SECONDS: Final = 0.5
LONGEST_WAIT_SECONDS: Final = 5.0
GIVE_UP_SECONDS: Final = 30.0
"""The client connects again by itself. One that has not after so long is replaced."""
LOOK_SECONDS: Final = 1.0
CHECK_SECONDS: Final = 5.0
PING_SECONDS: Final = 10
ACKNOWLEDGE_SECONDS: Final = 5.0
UNSUBSCRIBE_SECONDS: Final = 0.5
CLOSE_SECONDS: Final = 1.0
DEFAULT_PORT: Final = 4222


class NatsBroker(AsyncBroker):
    """One connection after another, each as long as it lasts.

    `startup` returns at once. While there is no connection, `kick` and `listen` wait for the next.
    """

    def __init__(
        self, url: SecretStr, *, name: str, ack_wait_seconds: float = ACK_WAIT_SECONDS
    ) -> None:
        super().__init__()
        self._make = partial(
            _make, url, name=name, ack_wait_seconds=ack_wait_seconds, tell=self._note
        )
        self._inner: PullBasedJetStreamBroker | None = None
        self._connected = asyncio.Event()
        self._keeper: asyncio.Task[None] | None = None
        self._is_reached: bool | None = None

    async def startup(self) -> None:
        await super().startup()
        # It outlives the request or test that happens to open it, and takes nothing from it.
        self._keeper = asyncio.create_task(
            self._keep_connected(), name="connection to NATS", context=contextvars.Context()
        )

    async def shutdown(self) -> None:
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.wait([self._keeper], timeout=CLOSE_SECONDS + LOOK_SECONDS)
        await super().shutdown()

    async def reached(self) -> PullBasedJetStreamBroker:
        """Wait until there is a connection."""
        await self._connected.wait()
        assert self._inner is not None
        return self._inner

    async def kick(self, message: BrokerMessage) -> None:
        inner = await self.reached()
        try:
            await inner.kick(message)
        except NoStreamResponseError as error:
            self._give_up(inner, error)  # NATS has lost its files: the stream is to be made anew
            raise

    async def listen(self) -> AsyncGenerator[AckableMessage, None]:
        while True:
            inner = await self.reached()
            try:
                async with aclosing(inner.listen()) as messages:
                    async for message in messages:
                        acknowledge = partial(_acknowledge, message.ack)
                        yield AckableMessage(data=message.data, ack=acknowledge)
            except (asyncio.CancelledError, GeneratorExit):
                await _stop_asking(inner)
                raise
            except Exception as error:
                self._give_up(inner, error)

    def _give_up(self, inner: PullBasedJetStreamBroker, error: Exception) -> None:
        if inner is self._inner:
            self._connected.clear()
            self._tell_away(error)

    async def _keep_connected(self) -> None:
        wait = RECONNECT_WAIT_SECONDS
        while True:
            inner = self._make()
            try:
                async with asyncio.timeout(CONNECT_SECONDS):
                    await inner.startup()
                wait = RECONNECT_WAIT_SECONDS
                self._tell_back()
                self._inner = inner
                self._connected.set()
                await self._until_lost(inner)
            except Exception as error:
                timed_out = isinstance(error, TimeoutError)
                self._tell_away(inner.client.last_error if timed_out else error)
            finally:
                self._connected.clear()
                await _close(inner)
            await asyncio.sleep(wait * random.uniform(0.5, 1.5))
            wait = min(wait * 2, LONGEST_WAIT_SECONDS)

    async def _until_lost(self, inner: PullBasedJetStreamBroker) -> None:
        """Look after a connection until it is given up, by us or by its client."""
        in_touch_at = checked_at = monotonic()
        while self._connected.is_set() and not inner.client.is_closed:
            if inner.client.is_connected:
                in_touch_at = monotonic()
                self._tell_back()
                if in_touch_at - checked_at > CHECK_SECONDS:
                    checked_at = in_touch_at
                    await _check(inner)
            elif monotonic() - in_touch_at > GIVE_UP_SECONDS:
                return
            else:
                self._tell_away(inner.client.last_error)
            await asyncio.sleep(LOOK_SECONDS)

    async def _note(self, error: Exception) -> None:
        """The client's errors come with each attempt, and are told once per outage."""
        if not self._connected.is_set():
            self._tell_away(error)

    def _tell_away(self, error: Exception | None) -> None:
        if self._is_reached is not False:
            self._is_reached = False
            reason = "no answer" if error is None else str(error) or type(error).__name__
            log.warning("job engine away", reason=reason)

    def _tell_back(self) -> None:
        if not self._is_reached:
            self._is_reached = True
            log.info("job engine reached")


def _make(
    url: SecretStr,
    *,
    name: str,
    ack_wait_seconds: float,
    tell: Callable[[Exception], Awaitable[None]],
) -> PullBasedJetStreamBroker:
    """A broker with a client of its own, for a closed client cannot be opened again."""
    servers = [urlsplit(server) for server in url.get_secret_value().split(",")]
    subject = f"{name}.outputs"
    broker = PullBasedJetStreamBroker(
        [_address(server) for server in servers],
        subject=subject,
        stream_name=f"{name}-outputs",
        durable=f"{name}-workers",
        stream_config=StreamConfig(
            retention=RetentionPolicy.WORK_QUEUE,
            max_age=HINT_LIFE_SECONDS,
            max_msgs=MAX_HINTS,
            max_msg_size=HINT_BYTES,
        ),
        consumer_config=ConsumerConfig(
            durable_name=f"{name}-workers",
            filter_subject=subject,
            ack_policy=AckPolicy.EXPLICIT,
            ack_wait=ack_wait_seconds,
            max_ack_pending=MAX_UNACKNOWLEDGED,
        ),
        pull_consume_batch=1,
        pull_consume_timeout=PULL_SECONDS,
        name=f"darkroom {name}",
        error_cb=tell,
        max_reconnect_attempts=-1,
        reconnect_time_wait=RECONNECT_WAIT_SECONDS,
        # By default a server that has vanished is noticed after six minutes.
        ping_interval=PING_SECONDS,
        max_outstanding_pings=2,
        flush_timeout=ACKNOWLEDGE_SECONDS,
    )
    broker.connection_kwargs.update(_credentials(servers, broker.client))
    return broker


def _address(server: SplitResult) -> str:
    host = f"[{server.hostname}]" if ":" in (server.hostname or "") else server.hostname
    return f"{server.scheme}://{host}:{server.port or DEFAULT_PORT}"


def _credentials(servers: list[SplitResult], client: Client) -> dict[str, Callable[[], str]]:
    """What to sign in with, at servers that a cluster makes known later as well.

    The client encrypts where the server says so, whatever the URL says. Someone in between could
    say that it need not; so with `tls://` nothing is given away before it does.
    """
    encrypted = any(server.scheme == "tls" for server in servers)

    def guarded(secret: str) -> Callable[[], str]:
        def tell() -> str:
            if encrypted and not client._server_info.get("tls_required"):
                raise SecureConnWantedError
            return secret

        return tell

    named = next((server for server in servers if server.username), None)
    if named is None or named.username is None:
        return {}
    if named.password is None:
        return {"token": guarded(unquote(named.username))}
    return {
        "user": guarded(unquote(named.username)),
        "password": guarded(unquote(named.password)),
    }


async def _acknowledge(acknowledge: Callable[[], Awaitable[None] | None]) -> None:
    """One that fails is let go: the hint comes again, and its claim finds nothing."""
    try:
        async with asyncio.timeout(ACKNOWLEDGE_SECONDS):
            await maybe_awaitable(acknowledge())
    except Exception as error:
        log.info("hint not acknowledged", reason=type(error).__name__)


async def _check(inner: PullBasedJetStreamBroker) -> None:
    """Raise where NATS has lost its files: it would leave each question for hints unanswered."""
    with suppress(TimeoutError):
        async with asyncio.timeout(CHECK_SECONDS):
            await inner.consumer.consumer_info()


async def _stop_asking(inner: PullBasedJetStreamBroker) -> None:
    # Otherwise NATS goes on for some seconds to send hints to somebody who does not listen.
    with suppress(Exception):
        async with asyncio.timeout(UNSUBSCRIBE_SECONDS):
            await inner.consumer.unsubscribe()


async def _close(inner: PullBasedJetStreamBroker) -> None:
    # In a task that can be left behind: the client swallows cancellations here and there.
    closing = asyncio.create_task(inner.shutdown(), name="end of a connection to NATS")
    await asyncio.wait([closing], timeout=CLOSE_SECONDS)
    if closing.done() and not closing.cancelled():
        closing.exception()  # one that was never open cannot be closed
