"""Receives hints through NATS, and has their outputs started in this process.

What must stay true: a hint is acknowledged as soon as it is decided whether its output runs here,
long before the run ends; nothing that happens to NATS cancels a run or ends the loop that receives.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from contextvars import Context
from typing import Any, Final, Protocol

import structlog
from nats.aio.msg import Msg
from nats.errors import Error

from domain.background import cancel_all
from domain.claims import Hint
from domain.execution.dropped_hints import DroppedHints
from storage.queue.connection import Connected, NatsConnection
from storage.queue.hints import parse_hint
from storage.queue.pull import Pull

log = structlog.get_logger(__name__)

ACKNOWLEDGE_SECONDS: Final = 5.0
END_SECONDS: Final = 2.0


class Starter(Protocol):
    """Starts outputs in this process: `Dispatcher`."""

    async def start(self, hint: Hint) -> asyncio.Task[None] | None: ...


class NatsConsumer:
    """Takes one hint at a time, and no more than may run here: the others stay in NATS for idle
    workers.
    """

    def __init__(
        self, connection: NatsConnection, starter: Starter, *, max_concurrent_runs: int
    ) -> None:
        self._connection = connection
        self._starter = starter
        self._room = asyncio.Semaphore(max_concurrent_runs)
        self._deciding: set[asyncio.Task[None]] = set()
        self._pull: Pull | None = None
        self._dropped = DroppedHints()
        self._stopping = False

    @asynccontextmanager
    async def serve(self) -> AsyncIterator[None]:
        """Receive hints until the block ends; open it while the connection is open.

        At the end no new hints are taken. Those that have been taken are decided; their runs
        continue.
        """
        receiving = asyncio.create_task(
            self._receive(), name="receiver of hints", context=Context()
        )
        try:
            yield
        finally:
            self._stopping = True
            if self._pull is not None:
                # First, because a cancelled request could have received a hint.
                with suppress(Error):
                    await self._pull.close()
            await cancel_all([receiving], max_seconds=END_SECONDS)
            if self._deciding:
                _, late = await asyncio.wait(self._deciding, timeout=END_SECONDS)
                for task in late:
                    log.warning("hint dropped at shutdown")
                    task.cancel()

    async def _receive(self) -> None:
        while not self._stopping:
            connected = await self._connection.wait_until_connected()
            try:
                await self._receive_from(connected)
            except Exception as error:
                self._connection.give_up(connected, error)

    async def _receive_from(self, connected: Connected) -> None:
        self._pull = await Pull.open(connected, self._connection.names)
        try:
            while not self._stopping:
                await self._room.acquire()
                message = None
                try:
                    message = await self._pull.next()
                finally:
                    if message is None:
                        self._room.release()
                if message is not None:
                    self._take(message)
        finally:
            self._pull = None

    def _take(self, message: Msg) -> None:
        deciding = asyncio.create_task(
            self._decide(message), name="decision about a hint", context=Context()
        )
        self._deciding.add(deciding)
        deciding.add_done_callback(self._deciding.discard)

    async def _decide(self, message: Msg) -> None:
        """Start the output that the message is about, if it may run here, and acknowledge the
        message.

        An output that cannot be started would fail again, so its hint is acknowledged as well.
        """
        run = None
        try:
            if self._stopping:
                with suppress(Error):
                    await message.nak()
                return
            hint = parse_hint(message.data)
            if hint is None:
                self._dropped.count("unknown format")
            else:
                run = await self._starter.start(hint)
        except Exception:
            log.exception("hint failed")
        finally:
            if run is None:
                self._room.release()
            else:
                run.add_done_callback(self._make_room)
        await _acknowledge(message)

    def _make_room(self, _: asyncio.Task[Any]) -> None:
        self._room.release()


async def _acknowledge(message: Msg) -> None:
    """Acknowledge a message. If this fails, the hint is delivered again, and its claim finds
    nothing.
    """
    try:
        async with asyncio.timeout(ACKNOWLEDGE_SECONDS):
            await message.ack()
    except Exception as error:
        log.info("hint not acknowledged", reason=type(error).__name__)
