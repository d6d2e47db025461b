"""Sends hints to worker processes through NATS.

What must stay true: nothing that happens to NATS delays a mutation.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from contextvars import Context
from typing import Final

from nats.js.errors import NoStreamResponseError

from domain.background import cancel_all
from domain.claims import Hint
from domain.execution.dropped_hints import DroppedHints
from domain.ids import OutputId, ViewerId
from domain.outputs import Output
from storage.queue.connection import NatsConnection
from storage.queue.hints import encode_hint

MAX_WAITING: Final = 10_000
SEND_SECONDS: Final = 5.0
LAST_SENDS_SECONDS: Final = 1.0
"""How long unsent hints may take at the end. The sweeper finds the outputs of the others."""
END_SECONDS: Final = 2.0


class NatsPublisher:
    """The `HintQueue` of a process that runs no outputs. It sends while `serve` is open; before
    that, hints wait in a bounded outbox.
    """

    def __init__(self, connection: NatsConnection, *, max_waiting: int = MAX_WAITING) -> None:
        self._connection = connection
        self._outbox: asyncio.Queue[Hint] = asyncio.Queue(max_waiting)
        self._dropped = DroppedHints()

    def enqueue(self, viewer_id: ViewerId, output_ids: Iterable[OutputId]) -> None:
        """Queue hints for sending. Never waits and never fails: the sweeper finds the outputs of
        dropped hints.
        """
        for output_id in output_ids:
            try:
                self._outbox.put_nowait(Hint(viewer_id, output_id))
            except asyncio.QueueFull:
                self._dropped.count("outbox full")

    def enqueue_written(self, viewer_id: ViewerId, outputs: Iterable[Output]) -> None:
        self.enqueue(viewer_id, [output.id for output in outputs])

    def recall(self, output_ids: Iterable[OutputId]) -> None:
        """Do nothing: nothing runs in this process."""

    @asynccontextmanager
    async def serve(self) -> AsyncIterator[None]:
        """Send the hints that are enqueued, until the block ends; open it while the connection is
        open.
        """
        publishing = asyncio.create_task(
            self._publish_all(), name="publisher of hints", context=Context()
        )
        try:
            yield
        finally:
            with suppress(TimeoutError):
                async with asyncio.timeout(LAST_SENDS_SECONDS):
                    await self._outbox.join()
            await cancel_all([publishing], max_seconds=END_SECONDS)

    async def _publish_all(self) -> None:
        while True:
            hint = await self._outbox.get()
            try:
                async with asyncio.timeout(SEND_SECONDS):
                    await self._publish(hint)
            except Exception as error:
                self._dropped.count(type(error).__name__)
            finally:
                self._outbox.task_done()

    async def _publish(self, hint: Hint) -> None:
        connected = await self._connection.wait_until_connected()
        try:
            await connected.jetstream.publish(self._connection.names.subject, encode_hint(hint))
        except NoStreamResponseError as error:
            # NATS has lost its files. A new connection sets the stream up again.
            self._connection.give_up(connected, error)
            raise
