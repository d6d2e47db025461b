"""Delivers what waits in the outbox: at least once, and in order for each turn or post.

One process at a time delivers to a webhook, by a lease. What must stay true: a receiver that hangs
does not delay deliveries to others. Webhooks whose latest attempt failed therefore have capacity of
their own, and one request at a time each.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from random import uniform
from typing import Final

from domain.background import cancel_all, run_in_background
from domain.errors import Overloaded
from domain.ports.webhooks import OutboxRepository, WebhookSender
from domain.traces import Tracer, span, use_trace
from domain.webhooks import Answer, DeliveryRules, HeldWebhook, Message

log = logging.getLogger(__name__)

MAX_HELD: Final = 32
"""How many webhooks one process delivers to at the same time; and as many that fail."""
MAX_REQUESTS: Final = 4
"""Requests to one webhook at the same time, each about another subject."""
_BATCH_SIZE: Final = 100
_MAX_SECONDS_PER_WEBHOOK: Final = 15.0
"""How long a webhook is delivered to before others, which may have waited longer, have
their turn.
"""
_INTERNAL: Final = Answer(error="The request could not be made.")


class Deliverer:
    def __init__(
        self,
        outbox: OutboxRepository,
        sender: WebhookSender,
        *,
        rules: DeliveryRules,
        max_held: int = MAX_HELD,
        tracer: Tracer | None = None,
    ) -> None:
        self._outbox = outbox
        self._sender = sender
        self._rules = rules
        self._max_held = max_held
        self._tracer = tracer

    @asynccontextmanager
    async def serve(self) -> AsyncIterator[None]:
        """Deliver until the block ends. Another process repeats the deliveries that are
        interrupted.
        """
        async with run_in_background(self._deliver_forever(), name="webhooks"):
            yield

    async def _deliver_forever(self) -> None:
        running: dict[bool, set[asyncio.Task[None]]] = {False: set(), True: set()}
        """Those that fail have capacity of their own."""
        try:
            while True:
                self._outbox.filled.clear()
                held = await self._take(
                    [failing for failing, tasks in running.items() if len(tasks) < self._max_held]
                )
                if held is None:
                    await self._wait()
                    continue
                task = asyncio.create_task(self._deliver(held), name=f"deliveries to {held.id}")
                running[held.failing].add(task)
                task.add_done_callback(running[held.failing].discard)
                # There is capacity again, and what was added meanwhile is due.
                task.add_done_callback(lambda _: self._outbox.filled.set())
        finally:
            await cancel_all(running[False] | running[True])

    async def _wait(self) -> None:
        """Wait for a reason to search again."""
        with suppress(TimeoutError):
            async with asyncio.timeout(self._rules.idle_seconds * uniform(0.75, 1.25)):
                await self._outbox.filled.wait()

    async def _take(self, failing: Collection[bool]) -> HeldWebhook | None:
        if not failing:
            return None
        try:
            return await self._outbox.take(failing=failing, lease=self._rules.lease)
        except Overloaded:
            return None
        except Exception:
            log.exception("search for webhooks failed")
            return None

    async def _deliver(self, held: HeldWebhook) -> None:
        """Deliver what is due to one webhook, for a limited time."""
        try:
            await _Round(
                held, self._outbox, self._sender, rules=self._rules, tracer=self._tracer
            ).run()
        except* Overloaded:
            pass  # The lease expires, and a process claims the webhook again.
        except* Exception:
            log.exception("deliveries failed unexpectedly", extra={"webhook_id": held.id})


class _Round:
    """Delivers to one webhook that this process has claimed."""

    def __init__(
        self,
        held: HeldWebhook,
        outbox: OutboxRepository,
        sender: WebhookSender,
        *,
        rules: DeliveryRules,
        tracer: Tracer | None,
    ) -> None:
        self._held = held
        self._outbox = outbox
        self._sender = sender
        self._rules = rules
        self._tracer = tracer
        self._failing = held.failing
        self._is_lost = False
        self._has_failed = False
        self._clock = asyncio.get_running_loop().time
        self._held_until = self._clock() + rules.lease.total_seconds()
        self._renewal_lock, self._failing_lock = asyncio.Lock(), asyncio.Lock()

    async def run(self) -> None:
        try:
            await self._deliver_for_a_while()
        except asyncio.CancelledError:
            # The next process need not wait for the end of the lease.
            await self._release()
            raise
        if not self._is_lost:
            await self._release()

    async def _release(self) -> None:
        pause = timedelta(seconds=self._rules.idle_seconds)
        await self._outbox.release(self._held, failing_pause=pause)

    async def _deliver_for_a_while(self) -> None:
        until = self._clock() + _MAX_SECONDS_PER_WEBHOOK
        while await self._may_send(until):
            due = await self._outbox.find_due(self._held, limit=1 if self._failing else _BATCH_SIZE)
            if not due:
                break
            capacity = asyncio.Semaphore(MAX_REQUESTS)
            async with asyncio.TaskGroup() as group:
                for messages in due.values():
                    group.create_task(self._send_in_order(messages, capacity=capacity, until=until))

    async def _send_in_order(
        self, messages: Sequence[Message], *, capacity: asyncio.Semaphore, until: float
    ) -> None:
        for message in messages:
            async with capacity:
                if not await self._may_send(until):
                    return
                answer = await self._attempt(message)
                if not await self._record(message, answer):
                    return

    async def _attempt(self, message: Message) -> Answer:
        try:
            return await self._send(message)
        except Exception:
            log.exception("webhook not sent", extra={"webhook_id": self._held.id})
            return _INTERNAL

    async def _send(self, message: Message) -> Answer:
        """Send a message, within the trace of the request that led to it."""
        facts = {"darkroom.delivery.id": message.id, "darkroom.event": message.event.type}
        with (
            use_trace(message.trace, self._tracer),
            span("webhook", facts, outwards=True) as sending,
        ):
            answer = await self._sender.send(self._held, message)
            if not answer.delivered:
                sending.fail("not delivered")
            return answer

    async def _record(self, message: Message, answer: Answer) -> bool:
        """Whether the next message of the subject may be sent."""
        if answer.delivered:
            await self._outbox.set_delivered(self._held, message, answer)
            await self._set_failing(False)
            return True
        self._has_failed = True
        await self._set_failing(True)
        pause = self._rules.pause_seconds(message.attempts + 1, answer)
        is_pending = await self._outbox.set_failed(
            self._held,
            message,
            answer,
            pause=timedelta(seconds=pause),
            give_up_after=self._rules.give_up_after,
        )
        if answer.gone:
            await self._disable()
        elif not is_pending:
            await self._disable(failing_for=self._rules.disable_after)
        return not is_pending

    async def _set_failing(self, failing: bool) -> None:
        # One write after another, so that the result of the latest attempt is stored last.
        async with self._failing_lock:
            if failing is not self._failing:
                self._failing = failing
                await self._outbox.set_failing(self._held, failing)

    async def _disable(self, *, failing_for: timedelta | None = None) -> None:
        if await self._outbox.disable(self._held, failing_for=failing_for):
            self._is_lost = True
            log.warning("webhook disabled", extra={"webhook_id": self._held.id})

    async def _may_send(self, until: float) -> bool:
        """Whether another request may begin. After a failure none does: a receiver that hangs
        belongs to the failing webhooks.
        """
        must_stop = self._is_lost or self._has_failed or self._clock() >= until
        return not must_stop and await self._ensure_lease()

    async def _ensure_lease(self) -> bool:
        """Whether the lease covers another request; renew it where it does not."""
        async with self._renewal_lock:
            if self._clock() + 1.5 * self._rules.request_seconds < self._held_until:
                return True
            renewed_at = self._clock()
            if not await self._outbox.renew(self._held, lease=self._rules.lease):
                self._is_lost = True
                return False
            self._held_until = renewed_at + self._rules.lease.total_seconds()
            return True
