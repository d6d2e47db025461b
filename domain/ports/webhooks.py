"""What webhooks need: their records, the outbox of deliveries, and a way to send them."""

import asyncio
from collections.abc import Collection, Mapping, Sequence
from datetime import timedelta
from typing import Protocol

from domain.ids import DeliveryId, ViewerId, WebhookId
from domain.pages import Page, PageRequest
from domain.webhooks import Answer, Delivery, HeldWebhook, Message, Webhook


class WebhookRepository(Protocol):
    """A viewer's webhooks and their log."""

    async def create(self, viewer_id: ViewerId, webhook: Webhook, *, at_most: int) -> bool:
        """Store a webhook with its secret. False: the viewer has as many as are allowed. Raise
        ViewerBeingDeleted.
        """

    async def list(self, viewer_id: ViewerId) -> Sequence[Webhook]:
        """The viewer's webhooks in the order of their creation, without secrets."""

    async def delete(self, viewer_id: ViewerId, webhook_id: WebhookId) -> bool:
        """Delete it with its deliveries; False if there is none."""

    async def page(
        self, viewer_id: ViewerId, webhook_id: WebhookId, request: PageRequest
    ) -> Page[Delivery]:
        """The log of deliveries, newest first."""

    async def replay(self, viewer_id: ViewerId, delivery_id: DeliveryId) -> Delivery | None:
        """Deliver it again, as soon as possible; None if there is no such delivery, or if its
        webhook is disabled.
        """


class OutboxRepository(Protocol):
    """Claims webhooks, and writes the results of deliveries. Times are those of the database's
    clock.
    """

    filled: asyncio.Event
    """Set when this process has added something that is due. The search for it clears it."""

    async def take(self, *, failing: Collection[bool], lease: timedelta) -> HeldWebhook | None:
        """Claim the webhook that has waited longest for a delivery that is due, and that no process
        holds. `failing` selects those whose latest attempt failed, the others, or both.
        """

    async def renew(self, held: HeldWebhook, *, lease: timedelta) -> bool:
        """Renew the lease. False: it is lost."""

    async def release(self, held: HeldWebhook, *, failing_pause: timedelta) -> None:
        """Give the webhook back: it is due again when the next of its deliveries is. If it fails,
        that is not before this pause, unless something is added.
        """

    async def find_due(self, held: HeldWebhook, *, limit: int) -> Mapping[str, Sequence[Message]]:
        """The deliveries that are due, by subject, each in its order. A subject whose first message
        waits for its next attempt is left out.
        """

    async def set_delivered(self, held: HeldWebhook, message: Message, answer: Answer) -> None: ...

    async def set_failed(
        self,
        held: HeldWebhook,
        message: Message,
        answer: Answer,
        *,
        pause: timedelta,
        give_up_after: timedelta,
    ) -> bool:
        """Try again after the pause, and the later messages of the subject after it. False, and the
        message is given up, where that would be too long after the event.
        """

    async def set_failing(self, held: HeldWebhook, failing: bool) -> None: ...

    async def disable(self, held: HeldWebhook, *, failing_for: timedelta | None = None) -> bool:
        """Stop delivering. With `failing_for`: only if every attempt since then has failed."""


class WebhookSender(Protocol):
    def find_problem(self, url: str) -> str | None:
        """Why nothing will be sent to this URL, in a sentence for the webhook's owner. Its host's
        name is not resolved.
        """

    async def send(self, held: HeldWebhook, message: Message) -> Answer:
        """Send a message once, within a few seconds. Never raises."""
