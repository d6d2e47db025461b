"""Processes that share one NATS, and a starter that records the hints that it receives.

The starter stands for `Dispatcher`, with a set in place of the database's claims: what has been
claimed once does not run again, however often its hint comes.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from contextvars import ContextVar
from typing import Final

from pydantic import SecretStr

from domain.claims import Hint
from domain.ids import OutputId, ViewerId, new_conversation_id, output_id_of, turn_id_of
from storage.queue.connection import ACK_WAIT_SECONDS, Connected, NatsConnection
from storage.queue.consumer import NatsConsumer
from storage.queue.publisher import NatsPublisher
from tests.storage.builders import ANA
from tests.waits import PATIENCE_SECONDS

ROOM: Final = 5
"""How many outputs may run at the same time."""
REQUEST: ContextVar[str] = ContextVar("REQUEST", default="none")


def some_outputs(count: int) -> list[OutputId]:
    conversation_id = new_conversation_id()
    return [output_id_of(turn_id_of(conversation_id, index), 1) for index in range(count)]


class Claims:
    """What the database decides: the first claim of an output is final."""

    def __init__(self) -> None:
        self.made: set[OutputId] = set()
        self._changed = asyncio.Event()

    def make(self, output_id: OutputId) -> bool:
        if output_id in self.made:
            return False
        self.made.add(output_id)
        return True

    def notify(self) -> None:
        self._changed.set()

    async def until(self, holds: Callable[[], bool]) -> None:
        """Wait until it holds, looking whenever a hint has come, or a run has begun or ended."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not holds():
                self._changed.clear()
                await self._changed.wait()


class Worker:
    """Runs that begin when they are claimed and end when they may."""

    def __init__(self, claims: Claims | None = None) -> None:
        self.hints: list[OutputId] = []
        self.viewers: set[ViewerId] = set()
        self.begun: list[OutputId] = []
        self.ended: list[OutputId] = []
        self.cut_off: list[OutputId] = []
        self.requests: set[str] = set()
        self.most_at_once = 0
        self.breaks = False
        self.runs: list[asyncio.Task[None]] = []
        self.may_end = asyncio.Event()
        self.may_decide = asyncio.Event()
        self.may_decide.set()
        self._claims = claims or Claims()
        self.until = self._claims.until

    async def start(self, hint: Hint) -> asyncio.Task[None] | None:
        self.requests.add(REQUEST.get())
        self.viewers.add(hint.viewer_id)
        self._note(self.hints, hint.output_id)
        if self.breaks:
            raise RuntimeError("broken")
        is_claimed = self._claims.make(hint.output_id)
        if is_claimed:
            self._note(self.begun, hint.output_id)
            self.most_at_once = max(self.most_at_once, len(self.begun) - len(self.ended))
        await self.may_decide.wait()
        if not is_claimed:
            return None
        run = asyncio.create_task(self._run(hint.output_id))
        await asyncio.sleep(0)  # only a started run can be cut off
        self.runs.append(run)
        self._claims.notify()
        return run

    async def stop(self) -> None:
        """End the runs, as a dispatcher does after the last hint."""
        self.may_end.set()
        if self.runs:
            await asyncio.wait(self.runs)

    async def _run(self, output_id: OutputId) -> None:
        try:
            await self.may_end.wait()
        except asyncio.CancelledError:
            self._note(self.cut_off, output_id)
            raise
        self._note(self.ended, output_id)

    def _note(self, notes: list[OutputId], output_id: OutputId) -> None:
        notes.append(output_id)
        self._claims.notify()


class Sender:
    """A process that enqueues for one viewer."""

    def __init__(self, queue: NatsPublisher) -> None:
        self._queue = queue

    def enqueue(self, outputs: list[OutputId]) -> None:
        self._queue.enqueue(ANA, outputs)


class OnNats:
    """Opens processes: each is a separate one for NATS."""

    def __init__(
        self,
        url: str,
        *,
        ack_wait_seconds: float = ACK_WAIT_SECONDS,
        name: str = "test",
        is_away: bool = False,
    ) -> None:
        self._url = SecretStr(url)
        self._ack_wait_seconds = ack_wait_seconds
        self._name = name
        self._is_away = is_away

    def connection(self) -> NatsConnection:
        return NatsConnection(
            self._url, database=self._name, ack_wait_seconds=self._ack_wait_seconds
        )

    @asynccontextmanager
    async def sending(self) -> AsyncIterator[Sender]:
        connection = self.connection()
        publisher = NatsPublisher(connection)
        async with connection.serve(), publisher.serve():
            await self._reached(connection)
            yield Sender(publisher)

    @asynccontextmanager
    async def working(self, worker: Worker, *, room: int = ROOM) -> AsyncIterator[None]:
        """At the end no more hints are received first; then the runs may end."""
        connection = self.connection()
        consumer = NatsConsumer(connection, worker, max_concurrent_runs=room)
        try:
            async with connection.serve(), consumer.serve():
                await self._reached(connection)
                yield
        finally:
            await worker.stop()

    async def send_raw(self, message: bytes) -> None:
        connection = self.connection()
        async with connection.serve():
            connected = await self._reached(connection)
            assert connected is not None
            await connected.jetstream.publish(connection.names.subject, message)

    async def _reached(self, connection: NatsConnection) -> Connected | None:
        return None if self._is_away else await reached(connection)


async def reached(connection: NatsConnection) -> Connected:
    """On a busy machine a first connection can take longer than a hint is worth waiting for."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        return await connection.wait_until_connected()
