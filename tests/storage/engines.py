"""Both brokers behind one face, and a taker that remembers what it was handed.

The taker plays `Dispatcher`, with a set in place of the database's claims: what has been claimed
once is not run again, however often its hint comes.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from contextvars import ContextVar
from typing import Final, Protocol

from pydantic import SecretStr
from taskiq import BrokerMessage

from domain.ids import OutputId, new_conversation_id, output_id_of, turn_id_of
from storage.queue.jobs import LocalBroker, TaskiqJobQueue
from storage.queue.nats import NatsBroker

PLACES: Final = 5
SOON_SECONDS: Final = 20.0
REQUEST: ContextVar[str] = ContextVar("REQUEST", default="none")


def some_outputs(count: int) -> list[OutputId]:
    conversation_id = new_conversation_id()
    return [output_id_of(turn_id_of(conversation_id, index), 1) for index in range(count)]


class Claims:
    """What the database decides: who asks first has an output for good."""

    def __init__(self) -> None:
        self.made: set[OutputId] = set()
        self._changed = asyncio.Event()

    def make(self, output_id: OutputId) -> bool:
        if output_id in self.made:
            return False
        self.made.add(output_id)
        return True

    def tell(self) -> None:
        self._changed.set()

    async def until(self, holds: Callable[[], bool]) -> None:
        """Wait until it holds, looking whenever a hint has come, or a run has begun or ended."""
        async with asyncio.timeout(SOON_SECONDS):
            while not holds():
                self._changed.clear()
                await self._changed.wait()


class Takes:
    """Runs that begin when they are claimed and end when they may."""

    def __init__(
        self,
        claims: Claims | None = None,
        *,
        acknowledges: bool = True,
        stops: bool = True,
    ) -> None:
        self.hints: list[OutputId] = []
        self.begun: list[OutputId] = []
        self.ended: list[OutputId] = []
        self.cut_off: list[OutputId] = []
        self.recalled: list[OutputId] = []
        self.requests: set[str] = set()
        self.most_at_once = 0
        self.breaks = False
        self.tasks: list[asyncio.Task[object]] = []
        self.may_end = asyncio.Event()
        self.may_acknowledge = asyncio.Event()
        self.may_acknowledge.set()
        self._claims = claims or Claims()
        self.until = self._claims.until
        self._acknowledges = acknowledges
        self._stops = stops

    async def take(self, output_id: OutputId, acknowledge: Callable[[], Awaitable[None]]) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.tasks.append(task)
        self.requests.add(REQUEST.get())
        self._note(self.hints, output_id)
        if self.breaks:
            raise RuntimeError("broken")
        try:
            if self._acknowledges:
                await self.may_acknowledge.wait()
                await acknowledge()
            if self._claims.make(output_id):
                await self._run(output_id)
        except asyncio.CancelledError:
            self.cut_off.append(output_id)
            raise

    def recall(self, output_ids: Iterable[OutputId]) -> None:
        self.recalled.extend(output_ids)

    def stop(self) -> None:
        """What a dispatcher does between the last hint and the end."""
        if self._stops:
            self.may_end.set()

    async def _run(self, output_id: OutputId) -> None:
        self._note(self.begun, output_id)
        self.most_at_once = max(self.most_at_once, len(self.begun) - len(self.ended))
        await self.may_end.wait()
        self._note(self.ended, output_id)

    def _note(self, notes: list[OutputId], output_id: OutputId) -> None:
        notes.append(output_id)
        self._claims.tell()


class Engine(Protocol):
    """How processes meet: one that enqueues, and any number that take."""

    def sending(self) -> AbstractAsyncContextManager[TaskiqJobQueue]: ...

    def taking(
        self, takes: Takes, *, places: int = PLACES
    ) -> AbstractAsyncContextManager[TaskiqJobQueue]:
        """At the end nothing new is taken first; then the runs may end."""

    async def send_raw(self, message: bytes) -> None: ...


class Embedded:
    """One process: who takes is who enqueues."""

    def __init__(self) -> None:
        self._broker = LocalBroker()
        self._queue = TaskiqJobQueue(self._broker)

    @asynccontextmanager
    async def sending(self) -> AsyncIterator[TaskiqJobQueue]:
        yield self._queue

    @asynccontextmanager
    async def taking(self, takes: Takes, *, places: int = PLACES) -> AsyncIterator[TaskiqJobQueue]:
        async with taking(self._queue, takes, places=places):
            yield self._queue

    async def send_raw(self, message: bytes) -> None:
        await self._broker.kick(in_form(message))


class OnNats:
    """Each a process of its own as far as NATS can tell."""

    def __init__(
        self,
        url: str,
        *,
        ack_wait_seconds: float = 30,
        name: str = "test",
        is_away: bool = False,
    ) -> None:
        self._url = SecretStr(url)
        self._ack_wait_seconds = ack_wait_seconds
        self._name = name
        self._is_away = is_away

    @asynccontextmanager
    async def sending(self) -> AsyncIterator[TaskiqJobQueue]:
        broker = self.broker()
        queue = TaskiqJobQueue(broker)
        async with queue.publishing():
            await self._reached(broker)
            yield queue

    @asynccontextmanager
    async def taking(self, takes: Takes, *, places: int = PLACES) -> AsyncIterator[TaskiqJobQueue]:
        broker = self.broker()
        queue = TaskiqJobQueue(broker)
        async with taking(queue, takes, places=places):
            await self._reached(broker)
            yield queue

    async def send_raw(self, message: bytes) -> None:
        broker = self.broker()
        await broker.startup()
        await self._reached(broker)
        await broker.kick(in_form(message))
        await broker.shutdown()

    async def _reached(self, broker: NatsBroker) -> None:
        # On a busy machine a first connection can take longer than a hint is worth waiting for.
        if not self._is_away:
            async with asyncio.timeout(SOON_SECONDS):
                await broker.reached()

    def broker(self) -> NatsBroker:
        return NatsBroker(self._url, name=self._name, ack_wait_seconds=self._ack_wait_seconds)


@asynccontextmanager
async def taking(queue: TaskiqJobQueue, takes: Takes, *, places: int) -> AsyncIterator[None]:
    async with queue.publishing():
        try:
            async with queue.receiving(takes, places=places):
                yield
        finally:
            takes.stop()


def in_form(message: bytes) -> BrokerMessage:
    return BrokerMessage(task_id="1", task_name="generate", message=message, labels={})
