"""Webhooks of a viewer, and the log of what was delivered to them."""

import secrets
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from domain.errors import UserErrorCode
from domain.ids import (
    DeliveryId,
    WebhookId,
    new_webhook_id,
    parse_delivery_id,
    parse_webhook_id,
)
from domain.pages import Page, PageRequest
from domain.ports.webhooks import WebhookRepository, WebhookSender
from domain.refusals import Refusals, refuse
from domain.services.accounts import AccountService
from domain.viewers import Viewer
from domain.webhooks import MAX_WEBHOOKS, Delivery, Webhook, WebhookEvent, unique_events

_SECRET_BYTES: Final = 32


@dataclass(frozen=True, slots=True)
class WebhookService:
    webhooks: WebhookRepository
    accounts: AccountService
    sender: WebhookSender

    async def create(self, viewer: Viewer, *, url: str, events: Sequence[WebhookEvent]) -> Webhook:
        """Make one, with a new secret. Raise Refused, or ViewerBeingDeleted."""
        refusals = Refusals()
        problem = self.sender.find_problem(url)
        if problem is not None:
            refusals.add(UserErrorCode.WEBHOOK_INVALID, problem, "url")
        if not events:
            refusals.add(UserErrorCode.WEBHOOK_INVALID, "Name at least one event.", "events")
        refusals.raise_if_any()
        webhook = Webhook(
            id=new_webhook_id(),
            url=url,
            events=unique_events(events),
            enabled=True,
            created_at=_now(),
            secret=f"whsec_{b64encode(secrets.token_bytes(_SECRET_BYTES)).decode()}",
        )
        await self.accounts.open(viewer.id)
        if not await self.webhooks.create(viewer.id, webhook, at_most=MAX_WEBHOOKS):
            message = f"A viewer can have at most {MAX_WEBHOOKS} webhooks. Delete one first."
            refuse(UserErrorCode.WEBHOOK_INVALID, message)
        return webhook

    async def list(self, viewer: Viewer) -> Sequence[Webhook]:
        return await self.webhooks.list(viewer.id)

    async def delete(self, viewer: Viewer, raw_webhook_id: str) -> WebhookId:
        """Delete it with its log. What is being sent at this moment still arrives."""
        webhook_id = parse_webhook_id(raw_webhook_id)
        if webhook_id is None or not await self.webhooks.delete(viewer.id, webhook_id):
            refuse(UserErrorCode.NOT_FOUND, "There is no such webhook.", "webhookId")
        return webhook_id

    async def page(
        self, viewer: Viewer, webhook_id: WebhookId, request: PageRequest
    ) -> Page[Delivery]:
        return await self.webhooks.page(viewer.id, webhook_id, request)

    async def replay(self, viewer: Viewer, raw_delivery_id: str) -> Delivery:
        """Deliver it again, under the same id."""
        delivery_id: DeliveryId | None = parse_delivery_id(raw_delivery_id)
        replayed = await self.webhooks.replay(viewer.id, delivery_id) if delivery_id else None
        if replayed is None:
            message = "There is no such delivery, or its webhook is disabled."
            refuse(UserErrorCode.NOT_FOUND, message, "deliveryId")
        return replayed


def _now() -> datetime:
    """To the millisecond, as it is stored."""
    now = datetime.now(UTC)
    return now.replace(microsecond=now.microsecond // 1000 * 1000)
