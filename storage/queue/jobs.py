"""The job engine behind `JobQueue`: taskiq carries hints, in this process or through NATS.

What must stay true: a hint is an output's id and nothing else. Whether the output may run is
decided by its claim in the database, so a hint may be lost, doubled, late or out of order; and
nothing that befalls a broker delays a mutation, cancels a run or ends the loop that receives.
"""

import asyncio
import contextvars
import random
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from time import monotonic
from typing import Any, Final, Protocol

import structlog
from pydantic import SecretStr
from taskiq import (
    AcknowledgeType,
    AsyncBroker,
    BrokerMessage,
    Context,
    SendTaskError,
    TaskiqDepends,
    TaskiqMessage,
    async_shared_broker,
)
from taskiq.formatters.proxy_formatter import ProxyFormatter
from taskiq.receiver import Receiver

from domain.errors import Overloaded
from domain.ids import OutputId, parse_output_id

log = structlog.get_logger(__name__)

MAX_WAITING: Final = 10_000
SEND_SECONDS: Final = 5.0
LAST_SENDS_SECONDS: Final = 1.0
"""What hints that are still here get at the end; the database remembers those that stay."""
END_SECONDS: Final = 2.0
"""What each part gets to end in, once it has been told."""
TELL_SECONDS: Final = 30.0
_LISTEN_AGAIN_SECONDS: Final = 1.0
_GENERATE: Final = "generate"
_LABELS: Final = {"ack_type": AcknowledgeType.MANUAL.value}


class Taker(Protocol):
    """Who decides about the outputs that hints are about: `Dispatcher`."""

    async def take(
        self, output_id: OutputId, acknowledge: Callable[[], Awaitable[None]]
    ) -> None: ...

    def recall(self, output_ids: Iterable[OutputId]) -> None: ...


def make_broker(nats_url: SecretStr | None, *, database: str) -> AsyncBroker:
    """The broker that the settings ask for: in this process where no NATS is named.

    Everything in NATS is named after the database, so that only its own processes meet there.
    """
    if nats_url is None:
        return LocalBroker()
    from storage.queue.nats import NatsBroker  # noqa: PLC0415 - 3 MB, for those who use it

    return NatsBroker(nats_url, name=database)


class LocalBroker(AsyncBroker):
    """Carries hints within this process, so many at most; taskiq's `Receiver` takes them."""

    def __init__(self, *, max_waiting: int = MAX_WAITING) -> None:
        super().__init__()
        self._waiting: asyncio.Queue[bytes] = asyncio.Queue(max_waiting)

    async def kick(self, message: BrokerMessage) -> None:
        """Raise `QueueFull` where there is no room."""
        self._waiting.put_nowait(message.message)

    async def listen(self) -> AsyncGenerator[bytes, None]:
        while True:
            yield await self._waiting.get()


class TaskiqJobQueue:
    """See `domain.ports.JobQueue`. It sends while `publishing` is open, and takes what comes while
    `receiving` is; outside of both, hints wait in a bounded outbox.
    """

    def __init__(self, broker: AsyncBroker, *, max_waiting: int = MAX_WAITING) -> None:
        self._broker = broker
        self._outbox: asyncio.Queue[OutputId] = asyncio.Queue(max_waiting)
        self._losses = _Losses()
        self._taker: Taker | None = None
        self._takes_new = False
        self._taking: set[asyncio.Task[Any]] = set()
        self._receiving: asyncio.Task[None] | None = None
        broker.formatter = _HintFormatter(broker)
        broker.state.receive = self._receive

    def enqueue(self, output_ids: Iterable[OutputId]) -> None:
        """Never waits and never fails: what has no room is dropped, and found in the database."""
        for output_id in output_ids:
            try:
                self._outbox.put_nowait(output_id)
            except asyncio.QueueFull:
                self._losses.count("outbox full")

    def recall(self, output_ids: Iterable[OutputId]) -> None:
        if self._taker is not None:
            self._taker.recall(output_ids)

    @asynccontextmanager
    async def publishing(self) -> AsyncIterator[None]:
        """Send what is enqueued, whether or not there is a broker to be reached.

        At the end, what is received ends as well: by then whoever runs outputs has stopped.
        """
        await self._broker.startup()
        publisher = _start(self._publish(), name="publisher of hints")
        try:
            yield
        finally:
            with suppress(TimeoutError):
                async with asyncio.timeout(LAST_SENDS_SECONDS):
                    await self._outbox.join()
            await _end([publisher], at_once=True)
            if self._receiving is not None:
                # It waits for everything that has been taken.
                await _end([self._receiving], at_once=False)
                await _end([*self._taking, self._receiving], at_once=True)
                self._receiving = None
            self._taker = None
            await _end([_start(self._broker.shutdown(), name="end of the broker")], at_once=False)

    @asynccontextmanager
    async def receiving(self, taker: Taker, *, places: int) -> AsyncIterator[None]:
        """Hand what comes to the taker, so many at once; to be opened within `publishing`.

        At its end nothing new is taken, at once. What has been taken goes on: ending it is for
        whoever took it, before `publishing` ends.
        """
        finish = asyncio.Event()
        self._taker, self._takes_new = taker, True
        self._receiving = _start(self._listen(places, finish), name="receiver of hints")
        try:
            yield
        finally:
            self._takes_new = False
            finish.set()

    async def _publish(self) -> None:
        kicker = generate.kicker().with_broker(self._broker)
        while True:
            output_id = await self._outbox.get()
            try:
                async with asyncio.timeout(SEND_SECONDS):
                    await kicker.kiq(output_id)
            except Exception as error:
                # taskiq wraps what a broker raises.
                wrapped = error.__cause__ if isinstance(error, SendTaskError) else None
                self._losses.count(type(wrapped or error).__name__)
            finally:
                self._outbox.task_done()

    async def _listen(self, places: int, finish: asyncio.Event) -> None:
        while not finish.is_set():
            receiver = Receiver(
                self._broker,
                max_async_tasks=places,
                max_prefetch=0,
                # What a message says about it is not asked: see `_HintFormatter`.
                ack_type=AcknowledgeType.MANUAL,
                validate_params=False,
                run_startup=False,
            )
            try:
                await receiver.listen(finish)
            except Exception:
                log.exception("receiver of hints broke")
            if not finish.is_set():
                await asyncio.sleep(_LISTEN_AGAIN_SECONDS * random.uniform(0.5, 1.5))

    async def _receive(self, output_id: OutputId, context: Context) -> None:
        if self._taker is None or not self._takes_new:
            return  # not acknowledged, so it comes to somebody else
        task = asyncio.current_task()
        assert task is not None
        self._taking.add(task)

        async def acknowledge() -> None:
            if context.is_ackable:
                await context.ack()

        try:
            await self._taker.take(output_id, acknowledge)
        except Overloaded:
            log.warning("hint left for the sweeper", output_id=output_id)
        except Exception:
            log.exception("hint broke", output_id=output_id)
        finally:
            self._taking.discard(task)
        # Whatever went wrong with it would go wrong again; the database remembers the output.
        await acknowledge()


# Registered without a broker, so that there is none at import; it runs with the one that brings it.
@async_shared_broker.task(task_name=_GENERATE, **_LABELS)
async def generate(
    output_id: OutputId,
    context: Context = TaskiqDepends(),  # noqa: B008 - how taskiq is asked for it
) -> None:
    """The one task there is: take an output up, if it is still to be had."""
    await context.broker.state.receive(output_id, context)


class _HintFormatter(ProxyFormatter):
    """taskiq's own form, of which only the id is believed.

    Otherwise a message of another version could change when it is acknowledged, or never be
    acknowledged at all and come back for ever. taskiq logs, acknowledges and drops what does not
    pass here.
    """

    def loads(self, message: bytes) -> TaskiqMessage:
        hint = super().loads(message)
        if hint.task_name == _GENERATE:
            if hint.kwargs or len(hint.args) != 1 or not isinstance(hint.args[0], str):
                raise ValueError("not one argument")
            if parse_output_id(hint.args[0]) is None:
                raise ValueError("no id of an output")
        hint.labels, hint.labels_types = dict(_LABELS), None
        return hint


class _Losses:
    """Counts hints that were dropped, and tells once in a while."""

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}
        self._tell_at = 0.0

    def count(self, reason: str) -> None:
        self._counts[reason] = self._counts.get(reason, 0) + 1
        if monotonic() >= self._tell_at:
            log.warning("hints dropped", reasons=self._counts)
            self._counts = {}
            self._tell_at = monotonic() + TELL_SECONDS


def _start(coroutine: Any, *, name: str) -> asyncio.Task[Any]:
    # What is started from here belongs to no request, and has no context variables of anybody's.
    return asyncio.create_task(coroutine, name=name, context=contextvars.Context())


async def _end(tasks: Iterable[asyncio.Task[Any]], *, at_once: bool) -> None:
    """Wait for their end, but not for ever; cancel them first if it is to be at once."""
    tasks = [task for task in tasks if not task.done()]
    if not tasks:
        return
    if at_once:
        for task in tasks:
            task.cancel()
    ended, late = await asyncio.wait(tasks, timeout=END_SECONDS)
    for task in ended:
        if not task.cancelled() and (error := task.exception()) is not None:
            log.warning("broke at its end", task=task.get_name(), reason=type(error).__name__)
    if at_once:
        for task in late:
            log.warning("left behind", task=task.get_name())
